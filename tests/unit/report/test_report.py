"""Sums, bars, pictures and cells of a report, worked out by hand."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from eo_tasks.overview.summary import PeriodNumbers
from eo_tasks.report.page import BAR_PX, segments
from eo_tasks.report.pictures import SIDE_PX, _smaller, _smaller_classes
from eo_tasks.report.rows import Row
from eo_tasks.report.tally import SHOWN_CELLS, PairChanges, YearImages, tally_of
from eo_tasks.units import Stage

ROW = Row(
    grid_id=1, label="", year=2022, download="completed", store="completed", source="stac", scenes=3, clear_share=0.5,
    image_made_at=None, year_after=2023, btc="completed", changed_ha=2.0, seen_ha=8.0, threshold=0.2, model="m",
    mask_made_at=None, error="",
)  # fmt: skip


def test_rows_add_up():
    later = replace(ROW, year=2023, clear_share=1.0, year_after=None, btc="", changed_ha=None, seen_ha=None)
    other = replace(ROW, grid_id=2, clear_share=0.9, changed_ha=1.0)
    waiting = replace(ROW, grid_id=3, download="waiting", store="waiting", clear_share=None, btc="failed",
                      changed_ha=None, seen_ha=None)  # fmt: skip
    made = tally_of([ROW, later, other, waiting])
    assert made.images == [YearImages(2022, 2, pytest.approx(0.7)), YearImages(2023, 1, 1.0)]
    assert made.pairs == [PairChanges(2022, 2023, 2, 3.0, 16.0)]
    assert made.pairs[0].changed_share == 3 / 16
    assert made.states == {
        (Stage.DOWNLOAD, "2022"): Counter(completed=2, waiting=1),
        (Stage.STORE, "2022"): Counter(completed=2, waiting=1),
        (Stage.DOWNLOAD, "2023"): Counter(completed=1),
        (Stage.STORE, "2023"): Counter(completed=1),
        (Stage.BTC, "2022_2023"): Counter(completed=2, failed=1),
    }


def test_a_composite_with_two_pairs_is_counted_once():
    made = tally_of([ROW, replace(ROW, year_after=2024, changed_ha=4.0)])
    assert made.images == [YearImages(2022, 1, 0.5)]
    assert [(pair.after, pair.changed_ha) for pair in made.pairs] == [(2023, 2.0), (2024, 4.0)]


def test_a_pair_of_which_nothing_was_seen_has_no_share():
    assert tally_of([replace(ROW, changed_ha=0.0, seen_ha=0.0)]).pairs[0].changed_share is None


def test_the_cells_in_which_most_changed_come_first():
    rows = [replace(ROW, grid_id=n, changed_ha=float(n * 7 % 11)) for n in range(11)]
    most = tally_of(rows).most_changed[2022, 2023]
    assert [row.changed_ha for row in most] == [10, 9, 8, 7, 6, 5]
    assert len(most) == SHOWN_CELLS


def test_a_bar_is_divided_as_the_units_are():
    states = {"completed": 3, "skipped": 1, "failed": 1, "started": 1, "pending": 2}
    parts = list(segments(PeriodNumbers("2022", (2022,), 8, states)))
    assert [(part.kind, part.number) for part in parts] == [("done", 4), ("running", 1), ("failed", 1), ("waiting", 2)]
    assert [part.width / BAR_PX for part in parts] == [4 / 8, 1 / 8, 1 / 8, 2 / 8]
    assert [part.x / BAR_PX for part in parts] == [0, 4 / 8, 5 / 8, 6 / 8]


def test_a_bar_of_nothing_is_empty():
    assert list(segments(PeriodNumbers("2022", (2022,), 0, {}))) == []


def test_a_large_picture_is_made_of_means_and_loses_no_change():
    side = 2 * SIDE_PX
    picture = np.zeros((side, side, 3), np.uint8)
    picture[:2, 0] = 100
    small = _smaller(picture)
    assert small.shape == (SIDE_PX, SIDE_PX, 3)
    assert small[0, 0].tolist() == [50, 50, 50]
    classes = np.zeros((side, side), np.uint8)
    classes[0, 0], classes[0, 1], classes[2, 2] = 1, 255, 255
    thinned = _smaller_classes(classes)
    assert (thinned[0, 0], thinned[1, 1], thinned[2, 2]) == (1, 255, 0)


def test_a_small_picture_stays_as_it_is():
    picture = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    assert (_smaller(picture) == picture).all()
