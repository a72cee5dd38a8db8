"""Years cut into windows, each year's window shown once for all its pairs."""

import tracemalloc
from dataclasses import dataclass, field

import numpy as np
import pytest

from eo_tasks.btc.pictures import ArrayPicture
from eo_tasks.btc.series import Failure, RowsDone, Series, Site, sites
from eo_tasks.errors import RasterError


@dataclass(eq=False)
class CountedPicture:
    """A picture that remembers which rows were asked for, and cannot be read from one on."""

    picture: ArrayPicture
    broken_from: int = 1_000_000
    asked: list[tuple[int, int]] = field(default_factory=list)

    @property
    def shape(self):
        return self.picture.shape

    def rows(self, start, stop):
        self.asked.append((start, stop))
        if stop > self.broken_from:
            raise RasterError(f"row {self.broken_from} is broken")
        return self.picture.rows(start, stop)


def picture(shape=(10, 7), seed=0, hidden=None, **how) -> CountedPicture:
    """Random levels, none of them 0; no data where ``hidden``, an index, says so."""
    rgb = np.random.default_rng(seed).integers(1, 256, (*shape, 3), np.uint8)
    valid = np.ones(shape, bool)
    if hidden is not None:
        valid[hidden] = False
    return CountedPicture(ArrayPicture(rgb, valid), **how)


def cut(pictures, pairs, window_px=4, stride_px=3) -> list:
    series = Series("cell", dict(enumerate(pictures)), tuple(pairs))
    return list(sites(series, window_px, stride_px))


def of(kind, items) -> list:
    return [item for item in items if isinstance(item, kind)]


# Rows and windows


def test_windows_come_row_by_row_and_after_each_row_what_is_done():
    items = cut([picture(), picture(seed=1)], [(0, 1)])
    # Rows 0, 3, 6 of 10; columns 0, 3 of 7.
    assert [item.origin if isinstance(item, Site) else item.stop for item in items] == [
        (0, 0), (0, 3), 3, (3, 0), (3, 3), 6, (6, 0), (6, 3), 10,
    ]  # fmt: skip


def test_each_window_holds_its_part_of_each_year():
    years = [picture(), picture(seed=1)]
    for site in of(Site, cut(years, [(0, 1)])):
        row, column = site.origin
        assert site.pairs == {(0, 1): (0, 1)}
        assert list(site.images) == [0, 1]
        for year, image in site.images.items():
            assert (image == years[year].picture.rgb[row : row + 4, column : column + 4]).all()


@pytest.mark.parametrize(
    ("height", "window_px", "stride_px"), [(10, 4, 3), (4, 4, 4), (9, 4, 4), (3, 4, 2), (11, 8, 1)]
)
def test_every_row_of_every_year_is_read_once_whatever_the_pairs(height, window_px, stride_px):
    years = [picture((height, 7), seed) for seed in range(3)]
    cut(years, [(0, 1), (1, 2), (0, 2)], window_px, stride_px)
    for year in years:
        starts, stops = zip(*year.asked, strict=True)
        assert starts == (0, *stops[:-1])
        assert stops[-1] == height


def test_rows_are_read_when_their_windows_are_due():
    years = [picture(), picture(seed=1)]
    for item in sites(Series("cell", dict(enumerate(years)), ((0, 1),)), 4, 3):
        if isinstance(item, Site):
            assert years[0].asked[-1][1] == years[1].asked[-1][1] == item.origin[0] + 4


def test_no_more_rows_are_held_than_a_window_has():
    class Endless:
        shape = (40_000, 64)

        def rows(self, start, stop):
            return np.full((stop - start, 64, 3), start % 251, np.uint8), np.ones((stop - start, 64), bool)

    series = Series("tall", {0: Endless(), 1: Endless()}, ((0, 1),))  # 2 × 10 MB
    tracemalloc.start()
    for _ in sites(series, 32, 24):
        pass
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    image_bytes, strip_bytes = (2 * 64 * 4 * rows for rows in (40_000, 32))
    assert strip_bytes < peak_bytes < image_bytes / 50


def test_an_image_smaller_than_a_window_is_filled_up_with_zeros():
    years = [picture((2, 3)), picture((2, 3), seed=1)]
    site, done = cut(years, [(0, 1)])
    assert site.images[0].shape == (4, 4, 3)
    assert (site.images[0][:2, :3] == years[0].picture.rgb).all()
    assert site.images[0].sum() == years[0].picture.rgb.sum()
    assert done.stop == 2
    assert done.seen[0, 1].shape == (2, 3)


# Nodata


def test_a_year_is_shown_without_what_its_pairs_other_year_does_not_show():
    years = [picture((4, 4), hidden=np.s_[0, 0]), picture((4, 4), seed=1, hidden=np.s_[3, 2])]
    site, done = cut(years, [(0, 1)])
    for image, year in zip(site.images.values(), years, strict=True):
        expected = year.picture.rgb.copy()
        expected[0, 0] = expected[3, 2] = 0
        assert (image == expected).all()
    seen = np.ones((4, 4), bool)
    seen[0, 0] = seen[3, 2] = False
    assert (done.seen[0, 1] == seen).all()


def test_what_stands_where_a_year_has_no_data_is_not_shown():
    years = [picture((4, 4), hidden=np.s_[:2]), picture((4, 4), seed=1, hidden=np.s_[:2])]
    (site, _) = cut(years, [(0, 1)])
    assert site.pairs == {(0, 1): (0, 1)}  # both show the same
    assert (site.images[0][:2] == 0).all()


def test_a_year_is_one_image_for_all_pairs_that_show_the_same():
    years = [picture((4, 4), seed) for seed in range(3)]
    site, _ = cut(years, [(0, 1), (1, 2), (0, 2)])
    assert sorted(site.images) == [0, 1, 2]
    assert site.pairs == {(0, 1): (0, 1), (1, 2): (1, 2), (0, 2): (0, 2)}


def test_a_year_is_another_image_for_the_pair_that_shows_less():
    years = [picture((4, 4)), picture((4, 4), seed=1), picture((4, 4), seed=2, hidden=np.s_[1, 1])]
    site, _ = cut(years, [(0, 1), (1, 2)])
    assert site.pairs == {(0, 1): (0, 1), (1, 2): ((1, (1, 2)), 2)}
    assert len(site.images) == 4
    assert (site.images[1] == years[1].picture.rgb).all()
    less = years[1].picture.rgb.copy()
    less[1, 1] = 0
    assert (site.images[1, (1, 2)] == less).all()


def test_a_window_without_common_data_shows_nothing():
    years = [picture((4, 8), hidden=np.s_[:, :4]), picture((4, 8), seed=1), picture((4, 8), seed=2)]
    first, second, done = cut(years, [(0, 1), (1, 2)], stride_px=4)
    assert first.pairs == {(1, 2): (1, 2)}
    assert sorted(first.images) == [1, 2]
    assert list(second.pairs) == [(0, 1), (1, 2)]
    assert done.seen[0, 1].tolist() == [[False] * 4 + [True] * 4] * 4


def test_each_row_is_told_once_where_both_years_hold_data():
    hidden = np.random.default_rng(5).random((2, 10, 7)) < 0.3
    years = [picture(seed=seed, hidden=part) for seed, part in enumerate(hidden)]
    done = of(RowsDone, cut(years, [(0, 1)]))
    seen = np.concatenate([item.seen[0, 1] for item in done])
    assert (seen == ~hidden.any(axis=0)).all()


# Years that cannot be read


def test_a_year_that_breaks_off_fails_its_pairs_and_no_other():
    years = [picture(), picture(seed=1, broken_from=7), picture(seed=2), picture(seed=3)]
    items = cut(years, [(0, 1), (1, 2), (2, 3)])
    failures = of(Failure, items)
    assert [failure.pair for failure in failures] == [(0, 1), (1, 2)]
    assert [str(failure.error) for failure in failures] == ["row 7 is broken"] * 2
    at = items.index(failures[0])
    assert {pair for item in items[:at] for pair in getattr(item, "pairs", ())} == {(0, 1), (1, 2), (2, 3)}
    assert {pair for item in items[at + 2 :] for pair in getattr(item, "pairs", ())} == {(2, 3)}
    assert [item.stop for item in of(RowsDone, items)] == [3, 6, 10]
    assert list(of(RowsDone, items)[-1].seen) == [(2, 3)]
    assert years[1].asked == [(0, 4), (4, 7), (7, 10)]


def test_a_year_that_broke_off_is_not_asked_again():
    years = [picture(), picture(seed=1, broken_from=2), picture(seed=2)]
    cut(years, [(0, 1), (0, 2)])
    assert years[1].asked == [(0, 4)]


def test_nothing_more_is_read_when_no_pair_is_left():
    years = [picture(broken_from=5), picture(seed=1)]
    items = cut(years, [(0, 1)])
    assert isinstance(items[-1], Failure)
    assert years[1].asked[-1] == (4, 7)


def test_a_pair_whose_two_years_are_broken_fails_once():
    items = cut([picture(broken_from=0), picture(broken_from=0)], [(0, 1)])
    assert [type(item) for item in items] == [Failure]


def test_an_error_that_is_no_fault_of_the_image_is_raised():
    class Odd(CountedPicture):
        def rows(self, start, stop):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cut([picture(), Odd(picture().picture)], [(0, 1)])
