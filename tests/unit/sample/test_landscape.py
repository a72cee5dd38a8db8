"""A small landscape, and what is built on it."""

import numpy as np
import pytest

from eo_tasks.sample.construction import Alteration, Plot
from eo_tasks.sample.crops import GREEN, SOIL, Crop, parcel_reflectance
from eo_tasks.sample.landscape import Landscape, make_landscape
from eo_tasks.sample.materials import Material
from eo_tasks.sample.noise import block_mean, blurred, dilated, fractal_noise, lattice_noise, smooth_noise
from eo_tasks.sample.render import Light, render, sun_elevation_deg
from eo_tasks.sample.works import Drawing, Work

SHAPE = (120, 140)
PLOTS = (Plot(2022, (0, 120), (0, 140), (Work.HALLS, Work.CLEAR_CUT)), Plot(2023, (0, 120), (0, 140), (Work.QUARRY,)))


@pytest.fixture(scope="module")
def landscape() -> Landscape:
    return make_landscape(5, SHAPE, PLOTS)


def bare(*alterations: Alteration) -> Landscape:
    """4 × 4 pixels of conifers."""
    drawn, ones = (8, 8), np.ones((8, 8), np.float32)
    return Landscape(
        1,
        np.full(drawn, Material.CONIFER, np.uint8),
        ones,
        np.zeros(drawn, np.uint16),
        0 * ones,
        0 * ones,
        np.zeros((4, 4), np.float32),
        alterations,
    )


def hall(year: int, work: Work, top: int, left: int, size: int) -> Alteration:
    footprint = np.ones((size, size), bool)
    material = np.full(footprint.shape, Material.BRIGHT_ROOF, np.uint8)
    return Alteration(year, work, top, left, Drawing(footprint, material, np.ones(footprint.shape, np.float32)))


def test_same_seed_gives_the_same_land(landscape):
    again = make_landscape(5, SHAPE, PLOTS)
    assert np.array_equal(again.material, landscape.material)
    assert np.array_equal(again.change(2021, 2023), landscape.change(2021, 2023))


def test_another_seed_gives_other_land(landscape):
    assert (make_landscape(6, SHAPE).material != landscape.material).mean() > 0.2


def test_pixel_changes_where_at_least_half_of_it_is_built_on():
    # Three drawn pixels a side from (1, 1): the pixel (1, 1) wholly, (0, 1) and (1, 0) by half, (0, 0) by a quarter.
    change = bare(hall(2022, Work.HALLS, 1, 1, 3)).change(2021, 2022)
    assert np.argwhere(change).tolist() == [[0, 1], [1, 0], [1, 1]]


def test_change_belongs_to_the_pair_in_which_it_was_built():
    land = bare(hall(2022, Work.HALLS, 0, 0, 2), hall(2023, Work.QUARRY, 4, 4, 2))
    assert np.argwhere(land.change(2021, 2022)).tolist() == [[0, 0]]
    assert np.argwhere(land.change(2022, 2023)).tolist() == [[2, 2]]
    assert np.argwhere(land.change(2021, 2023)).tolist() == [[0, 0], [2, 2]]


def test_clear_cut_alters_the_land_but_is_no_change():
    land = bare(hall(2022, Work.CLEAR_CUT, 0, 0, 4))
    assert not land.change(2021, 2022).any()
    assert (land.cover(2022)[0] == Material.BRIGHT_ROOF).sum() == 16


def test_what_was_built_stays():
    land = bare(hall(2022, Work.HALLS, 0, 0, 4))
    assert [(land.cover(year)[0] == Material.BRIGHT_ROOF).sum() for year in (2021, 2022, 2023)] == [0, 16, 16]


def test_works_stand_apart_on_open_land(landscape):
    assert [(altered.year, altered.work) for altered in landscape.alterations] == [
        (2022, Work.HALLS),
        (2022, Work.CLEAR_CUT),
        (2023, Work.QUARRY),
    ]
    used = np.zeros(landscape.material.shape, int)
    for altered in landscape.alterations:
        used[altered.place] += altered.drawing.footprint
        below = landscape.material[altered.place][altered.drawing.footprint]
        assert np.isin(below, (Material.FIELD, Material.CONIFER, Material.BROADLEAF)).mean() >= 0.97
    assert used.max() == 1


def test_mixed_pixel_has_the_mean_reflectance_of_what_covers_it():
    clear = Light()
    image = render(bare(hall(2022, Work.HALLS, 0, 0, 1)), 2022, 180, clear, np.random.default_rng(0))
    # A quarter of the first pixel is roof, 0.275 in B04, the rest conifers, 0.020: 0.08375. The sensor's blur takes
    # 2 × 0.07 of it along each axis and gives it back only at the border, which is repeated: 0.93² of the contrast.
    assert image[2, 0, 0] == pytest.approx(0.020 + 0.06375 * 0.93**2, abs=0.006)
    assert image[2, 3, 3] == pytest.approx(0.020, abs=0.006)


def test_meadow_stays_a_meadow_and_fields_change_their_crop():
    first, second = (parcel_reflectance(3, year, 180) for year in (2021, 2022))
    difference = abs(first - second).max(axis=1)
    assert 0.2 < (difference < 0.06).mean() < 0.8


def test_crop_blends_between_its_phases():
    crop = Crop(1.0, (100, 120), (SOIL, GREEN))
    weights = crop.weights(np.array([90, 100, 115, 200], np.float32))
    assert weights[:, SOIL].tolist() == pytest.approx([1, 1, 0.25, 0])
    assert weights[:, GREEN].tolist() == pytest.approx([0, 0, 0.75, 1])


def test_sun_stands_highest_at_the_solstice():
    # At 11:00 solar time, 46.3° N, declination 23.45°: sin h = 0.7230 × 0.3979 + 0.6909 × 0.9174 × 0.9659 = 0.8999.
    assert sun_elevation_deg(172) == pytest.approx(64.1, abs=0.1)
    assert sun_elevation_deg(100) < sun_elevation_deg(172) > sun_elevation_deg(260)


def test_smooth_noise_has_unit_variance_and_no_steps():
    field = smooth_noise(np.random.default_rng(2), (200, 200), 8)
    assert field.std() == pytest.approx(1, abs=0.1)
    assert abs(np.diff(field, axis=0)).max() < 0.8
    assert fractal_noise(np.random.default_rng(2), (200, 200), 32).std() == pytest.approx(1, abs=0.2)


def test_lattice_noise_depends_on_the_place_only():
    i, j = np.indices((50, 60))
    whole = lattice_noise(i, j, 7)
    assert np.array_equal(lattice_noise(i[10:20], j[10:20], 7), whole[10:20])
    assert whole.min() >= 0
    assert whole.max() < 1
    assert whole.mean() == pytest.approx(0.5, abs=0.03)


def test_blur_keeps_the_sum_and_shares_with_the_neighbours():
    field = np.zeros((5, 5), np.float32)
    field[2, 2] = 1
    soft = blurred(field, 0.1)
    assert soft[2].tolist() == pytest.approx([0, 0.08, 0.64, 0.08, 0])
    assert soft.sum() == pytest.approx(1)


def test_dilation_reaches_diagonal_neighbours():
    flags = np.zeros((4, 4), bool)
    flags[1, 1] = True
    assert np.argwhere(dilated(flags, 1)).tolist() == [[y, x] for y in range(3) for x in range(3)]


def test_block_mean_averages_blocks():
    assert block_mean(np.arange(16.0).reshape(4, 4), 2).tolist() == [[2.5, 4.5], [10.5, 12.5]]
