"""wanted − done = work, worked out by hand."""

import pytest

from eo_tasks.errors import PermanentError
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.plan import Inventory, Plan, Wanted, pairs_of, plan
from eo_tasks.ranges import Ranges

NOTHING = Inventory({}, {}, {})


def wanted(grid_ids, years) -> Wanted:
    return Wanted.of(grid_ids, years, this_year=2025)


# What is wanted


def test_cells_and_years_are_ordered_and_everything_is_wanted_once():
    assert wanted([7, 3, 7], [2023, 2021, 2023]) == Wanted(Ranges.of([3, 7]), (2021, 2023))


def test_a_part_has_the_next_cells_and_all_years():
    whole = wanted([9, 1, 2, 3, 7], [2021, 2022])
    assert whole.part(0, 2) == Wanted((1, 2), (2021, 2022))
    assert whole.part(2, 2) == Wanted((3, 7), (2021, 2022))
    assert whole.part(4, 2).grid_ids == (9,)
    assert whole.part(5, 2).grid_ids == ()


def test_pairs_are_of_consecutive_years_of_the_request():
    assert wanted([1], [2021, 2022, 2023]).year_pairs == ((2021, 2022), (2022, 2023))
    assert wanted([1], [2018, 2021, 2025]).year_pairs == ((2018, 2021), (2021, 2025))
    assert wanted([1], [2021]).year_pairs == ()


@pytest.mark.parametrize("year", [2014, 2026, -1, 0, True, False, "2023", 2023.0, None])
def test_a_year_without_imagery_is_refused(year):
    with pytest.raises(PermanentError) as caught:
        wanted([1], [2023, year])
    assert str(caught.value) == f"Year {year}: Sentinel-2 has years 2015 to 2025."


@pytest.mark.parametrize("year", [2015, 2025])
def test_the_first_year_and_this_year_are_taken(year):
    assert wanted([1], [year]).years == (year,)


def test_no_years_and_no_cells_are_refused_with_what_to_give():
    with pytest.raises(PermanentError, match=r"^No years given: give them as \[2022, 2023, 2024\]\.$"):
        wanted([1], [])
    with pytest.raises(PermanentError, match=r"^No cells given: give their ids as \[463, 464\], or leave them out"):
        wanted([], [2023])


# What is missing


def test_with_nothing_stored_everything_is_downloaded_cell_by_cell_and_pairs_wait():
    todo = plan(wanted([5, 2], [2021, 2022, 2023]), NOTHING)
    assert todo.downloads == tuple(GridYear(cell, year) for cell in (2, 5) for year in (2021, 2022, 2023))
    assert todo.stores == todo.pairs == ()
    assert todo.waiting == (
        YearPair(2, 2021, 2022),
        YearPair(2, 2022, 2023),
        YearPair(5, 2021, 2022),
        YearPair(5, 2022, 2023),
    )
    assert (todo.images_done, todo.masks_done, todo.is_complete) == (0, 0, False)


def test_with_everything_stored_nothing_is_left():
    stored = {year: {1, 2, 3} for year in (2021, 2022)}
    todo = plan(wanted([1, 2], [2021, 2022]), Inventory(stored, {}, {(2021, 2022): {1, 2}}))
    assert todo == Plan((), (), (), (), images_done=4, masks_done=2)
    assert todo.is_complete


def test_a_staged_composite_is_stored_not_downloaded():
    inventory = Inventory({2021: {1}}, {2022: {1}}, {})
    todo = plan(wanted([1], [2021, 2022]), inventory)
    assert todo.downloads == ()
    assert todo.stores == (GridYear(1, 2022),)
    assert todo.waiting == (YearPair(1, 2021, 2022),)
    assert todo.images_done == 1


def test_a_composite_that_is_staged_and_stored_needs_nothing():
    todo = plan(wanted([1], [2021]), Inventory({2021: {1}}, {2021: {1}}, {}))
    assert todo.is_complete


def test_a_pair_is_ready_once_both_its_composites_are_stored():
    inventory = Inventory({2021: {1, 2}, 2022: {1}}, {}, {})
    todo = plan(wanted([1, 2], [2021, 2022]), inventory)
    assert todo.pairs == (YearPair(1, 2021, 2022),)
    assert todo.waiting == (YearPair(2, 2021, 2022),)
    assert todo.downloads == (GridYear(2, 2022),)


def test_a_mask_of_years_that_are_not_consecutive_in_the_request_does_not_count():
    stored = {2021: {1}, 2022: {1}, 2023: {1}}
    todo = plan(wanted([1], [2021, 2023]), Inventory(stored, {}, {(2021, 2022): {1}, (2022, 2023): {1}}))
    assert todo.pairs == (YearPair(1, 2021, 2023),)


def test_one_year_alone_has_composites_and_no_pairs():
    todo = plan(wanted([1, 2], [2023]), NOTHING)
    assert todo.downloads == (GridYear(1, 2023), GridYear(2, 2023))
    assert todo.pairs == todo.waiting == ()


def test_a_stale_mask_is_made_again_from_the_stored_composites():
    stored = {2021: {1, 2}, 2022: {1, 2}}
    todo = plan(wanted([1, 2], [2021, 2022]), Inventory(stored, {}, {(2021, 2022): {2}}))  # cell 1's is stale
    assert todo.pairs == (YearPair(1, 2021, 2022),)
    assert (todo.downloads, todo.images_done, todo.masks_done) == ((), 4, 1)


def test_a_mask_that_is_there_wants_its_missing_composite_but_is_not_made_again():
    todo = plan(wanted([1], [2021, 2022]), Inventory({2021: {1}}, {}, {(2021, 2022): {1}}))
    assert todo.downloads == (GridYear(1, 2022),)
    assert todo.pairs == todo.waiting == ()
    assert todo.masks_done == 1


@pytest.mark.parametrize(
    ("year", "pairs"),
    [
        (2021, [(2021, 2022)]),
        (2022, [(2021, 2022), (2022, 2024)]),
        (2024, [(2022, 2024)]),
        (2023, []),
    ],
)
def test_a_grid_year_belongs_to_the_pairs_on_both_its_sides(year, pairs):
    found = pairs_of(GridYear(9, year), [2024, 2021, 2022, 2022])
    assert found == tuple(YearPair(9, *pair) for pair in pairs)
