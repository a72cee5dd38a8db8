"""What a change map counts."""

import numpy as np
import pytest

from eo_tasks.change import ChangeMap
from eo_tasks.raster import PixelGrid

NAN = np.nan


@pytest.fixture
def change_map() -> ChangeMap:
    """Six pixels of 10 m: one above the threshold, one on it, three below, one not seen."""
    pixels = PixelGrid(32633, (0, 0, 30, 20))
    return ChangeMap(pixels, np.array([[0.9, 0.25, 0.1], [0.0, NAN, 0.2]], np.float32), 0.25)


def test_a_pixel_is_changed_only_above_the_threshold(change_map):
    assert change_map.change.tolist() == [[True, False, False], [False, False, False]]


def test_classes_tell_unchanged_changed_and_not_seen(change_map):
    assert change_map.classes.tolist() == [[1, 0, 0], [0, 255, 0]]
    assert change_map.classes.dtype == np.uint8


def test_a_pixel_is_seen_where_it_has_a_probability(change_map):
    assert change_map.seen.tolist() == [[True, True, True], [True, False, True]]


def test_areas_are_pixels_times_a_hundredth_hectare(change_map):
    assert change_map.changed_ha == pytest.approx(0.01)
    assert change_map.seen_ha == pytest.approx(0.05)


def test_a_map_without_data_has_no_change_and_no_area():
    unseen = ChangeMap(PixelGrid(32633, (0, 0, 20, 10)), np.full((1, 2), NAN, np.float32), 0.2)
    assert (unseen.changed_ha, unseen.seen_ha) == (0, 0)
    assert unseen.classes.tolist() == [[255, 255]]
