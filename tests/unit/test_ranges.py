"""Whole numbers as people write them."""

import random

import pytest

from eo_tasks.ranges import Ranges, read_ranges, write_ranges


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2021-2023", (2021, 2022, 2023)), ("2021, 2023", (2021, 2023)), ("7 1-3", (7, 1, 2, 3)), ("4-4", (4,))],
)
def test_numbers_and_spans_are_read_in_the_order_given(text, numbers):
    assert read_ranges(text) == numbers


@pytest.mark.parametrize("text", ["", ",", "a", "2021-", "-5", "9-4", "1.5"])
def test_text_without_a_clear_meaning_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        read_ranges(text)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([0], "0"), ([7, 1, 3, 2, 2], "1-3,7"), ([1, 3, 5], "1,3,5"), (range(947), "0-946")],
)
def test_numbers_are_written_compactly(numbers, text):
    assert write_ranges(list(numbers)) == text


def test_what_is_written_is_read_again():
    numbers = [3, 1, 2, 10, 12, 11, 40]
    assert list(read_ranges(write_ranges(numbers))) == sorted(numbers)


# Kept as spans


def test_numbers_of_ranges_are_ascending_and_each_once():
    ranges = Ranges.of([7, 1, 3, 2, 2])
    assert list(ranges) == [1, 2, 3, 7]
    assert (len(ranges), str(ranges), repr(ranges)) == (4, "1-3,7", "Ranges(1-3,7)")


def test_ranges_of_nothing_are_empty():
    nothing = Ranges.of([])
    assert (len(nothing), list(nothing), str(nothing), bool(nothing)) == (0, [], "", False)
    assert nothing[0:5] == ()
    assert 0 not in nothing
    with pytest.raises(IndexError):
        nothing[0]


def test_a_number_is_in_ranges_only_where_a_span_has_it():
    ranges = Ranges.of([1, 2, 3, 7, 9, 10])
    assert [number for number in range(-3, 14) if number in ranges] == [1, 2, 3, 7, 9, 10]
    assert "1" not in ranges
    assert 1.0 not in ranges
    assert None not in ranges


def test_places_are_counted_over_spans_from_both_ends():
    ranges = Ranges.of([1, 2, 3, 7, 9, 10])
    assert [ranges[place] for place in range(6)] == [1, 2, 3, 7, 9, 10]
    assert [ranges[place] for place in range(-6, 0)] == [1, 2, 3, 7, 9, 10]
    for place in (6, -7):
        with pytest.raises(IndexError):
            ranges[place]


def test_a_slice_that_reaches_past_the_end_has_what_is_there():
    ranges = Ranges.of([1, 2, 3, 7, 9, 10])
    assert ranges[2:4] == (3, 7)
    assert ranges[4:99] == (9, 10)
    assert ranges[6:8] == ()
    assert ranges[::-2] == (10, 7, 2)


def test_ranges_of_the_same_numbers_are_equal_however_they_were_given():
    ranges = Ranges.of([3, 1, 2])
    assert ranges == Ranges.of(range(1, 4))
    assert hash(ranges) == hash(Ranges.of((1, 2, 3, 3)))
    assert ranges != Ranges.of([1, 2])
    assert ranges != (1, 2, 3)


def test_a_country_of_a_million_cells_takes_one_span():
    country = Ranges.of(range(1_000_000))
    assert (len(country), str(country)) == (1_000_000, "0-999999")
    assert country[999_990:] == tuple(range(999_990, 1_000_000))
    assert 999_999 in country
    assert 1_000_000 not in country


@pytest.mark.parametrize("seed", range(20))
def test_ranges_behave_as_the_sorted_numbers_do(seed):
    random_source = random.Random(seed)  # noqa: S311
    numbers = [random_source.randrange(60) for _ in range(random_source.randrange(60))]
    ranges, ordered = Ranges.of(numbers), tuple(sorted(set(numbers)))
    assert (tuple(ranges), len(ranges)) == (ordered, len(ordered))
    assert all((number in ranges) == (number in ordered) for number in range(-2, 63))
    assert [ranges[place] for place in range(-len(ordered), len(ordered))] == [*ordered, *ordered]
    for _ in range(50):
        start, stop = random_source.randrange(-70, 70), random_source.randrange(-70, 70)
        step = random_source.choice([None, 1, 2, -1, -3])
        assert ranges[start:stop:step] == ordered[start:stop:step]
    assert write_ranges(ranges) == write_ranges(numbers)
    if numbers:
        assert read_ranges(str(ranges)) == ordered


def test_a_union_joins_spans_that_touch_or_overlap_and_counts_each_number_once():
    parts = [Ranges.of([1, 2, 3, 10]), Ranges.of([3, 4]), Ranges.of([5, 20])]
    joined = Ranges.union(parts)
    assert str(joined) == "1-5,10,20"
    assert len(joined) == 7
    assert len(Ranges.union([])) == 0
