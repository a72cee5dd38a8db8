"""Patches of change: hand-drawn masks, with areas and means worked out by hand."""

import numpy as np
import pytest
import rasterio.features
from shapely import box

from eo_tasks.products.polygons import change_polygons
from eo_tasks.raster import PixelGrid

PIXELS = PixelGrid(32633, (500_000, 5_000_000, 500_060, 5_000_040))  # 6 × 4 pixels of 10 m, a hundredth of a hectare


def drawn(*rows: str) -> np.ndarray:
    return np.array([[sign == "#" for sign in row] for row in rows])


def polygons(changed, probability=254, pixels=PIXELS):
    return change_polygons(changed, np.broadcast_to(np.uint8(probability), changed.shape), pixels)


def test_an_unchanged_cell_has_no_polygons():
    assert polygons(drawn("......", "......", "......", "......")) == ()


def test_a_cell_that_changed_everywhere_is_one_polygon():
    (patch,) = polygons(np.ones((4, 6), bool), probability=127)
    assert patch.geometry.equals(box(*PIXELS.bounds))
    assert (patch.area_ha, patch.mean_probability) == (pytest.approx(0.24), 0.5)


def test_a_square_lies_where_its_pixels_do():
    (patch,) = polygons(drawn("......", ".##...", ".##...", "......"))
    assert patch.geometry.bounds == (500_010, 5_000_010, 500_030, 5_000_030)
    assert (patch.area_ha, patch.mean_probability) == (pytest.approx(0.04), 1.0)


def test_patches_that_touch_at_a_corner_are_two():
    patches = polygons(drawn("##....", "##....", "..#...", "......"))
    assert [patch.area_ha for patch in patches] == pytest.approx([0.04, 0.01])


def test_a_ring_has_a_hole():
    (patch,) = polygons(drawn("###...", "#.#...", "###...", "......"))
    assert len(patch.geometry.interiors) == 1
    assert patch.area_ha == pytest.approx(0.08)
    assert patch.geometry.area == 800


def test_a_patch_in_the_hole_of_another_is_its_own():
    pixels = PixelGrid(32633, (500_000, 5_000_000, 500_050, 5_000_050))
    probability = np.full((5, 5), 254, np.uint8)
    probability[2, 2] = 127
    changed = drawn("#####", "#...#", "#.#.#", "#...#", "#####")
    ring, island = change_polygons(changed, probability, pixels)
    assert (ring.area_ha, ring.mean_probability) == (pytest.approx(0.16), 1.0)
    assert (island.area_ha, island.mean_probability) == (pytest.approx(0.01), 0.5)


def test_a_patch_that_meets_itself_at_a_corner_is_valid():
    (patch,) = polygons(drawn(".##...", "#.#...", "###...", "......"))
    assert patch.geometry.is_valid
    assert (patch.area_ha, patch.geometry.area) == (pytest.approx(0.07), 700)


def test_the_largest_patch_comes_first():
    patches = polygons(drawn("#..##.", "......", "###...", "......"))
    assert [patch.area_ha for patch in patches] == pytest.approx([0.03, 0.02, 0.01])


def test_pixels_that_are_not_seen_are_in_no_mean():
    probability = np.full((4, 6), 255, np.uint8)
    probability[0, :2] = 127
    (patch,) = change_polygons(drawn("##....", "......", "......", "......"), probability, PIXELS)
    assert patch.mean_probability == 0.5


def test_the_probability_is_the_mean_over_the_patch_alone():
    probability = np.zeros((4, 6), np.uint8)
    probability[0, 0], probability[0, 1], probability[3, 5] = 254, 127, 127
    first, second = change_polygons(drawn("##....", "......", "......", ".....#"), probability, PIXELS)
    assert (first.mean_probability, second.mean_probability) == (0.75, 0.5)


def test_equal_patches_come_from_the_top_left():
    patches = polygons(drawn("#....#", "......", "......", "#....."))
    assert [patch.geometry.bounds[::3] for patch in patches] == [
        (500_000, 5_000_040),
        (500_050, 5_000_040),
        (500_000, 5_000_010),
    ]


def test_equal_patches_with_the_same_corner_come_in_the_order_of_their_first_pixels():
    pixels = PixelGrid(32633, (500_000, 5_000_000, 500_050, 5_000_050))
    inner, outer = polygons(drawn("###.#", "###.#", "###.#", "....#", "#####"), pixels=pixels)
    assert inner.area_ha == outer.area_ha
    assert inner.geometry.bounds[::3] == outer.geometry.bounds[::3] == (500_000, 5_000_050)
    assert inner.geometry.equals(box(500_000, 5_000_020, 500_030, 5_000_050))


def test_patches_below_the_least_area_are_left_out_and_one_as_large_stays():
    changed = drawn("###.##", "......", "##....", ".....#")
    probability = np.full(changed.shape, 254, np.uint8)
    patches = change_polygons(changed, probability, PIXELS, min_ha=0.02)
    assert [patch.area_ha for patch in patches] == pytest.approx([0.03, 0.02, 0.02])
    assert change_polygons(changed, probability, PIXELS, min_ha=0.031) == ()


@pytest.mark.parametrize("seed", range(20))
def test_valid_polygons_cover_exactly_the_changed_pixels(seed):
    pixels = PixelGrid(32633, (500_000, 5_000_000, 500_400, 5_000_300))
    changed = np.random.default_rng(seed).random(pixels.shape) < 0.45
    patches = polygons(changed, pixels=pixels)
    assert all(patch.geometry.is_valid for patch in patches)
    assert [patch.area_ha for patch in patches] == pytest.approx([patch.geometry.area / 10_000 for patch in patches])
    assert sum(patch.area_ha for patch in patches) == pytest.approx(changed.sum() * 0.01)
    back = rasterio.features.rasterize([patch.geometry for patch in patches], pixels.shape, transform=pixels.transform)
    assert np.array_equal(back == 1, changed)
