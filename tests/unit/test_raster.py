"""Pixel grids and composites, with rasterio as oracle."""

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.transform import from_bounds, from_origin

from eo_tasks.errors import RasterError
from eo_tasks.grid import Cell
from eo_tasks.raster import Composite, Frame, Origin, PixelGrid, to_dn, to_rgb

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

PIXELS = PixelGrid(32633, (500_000, 5_000_000, 500_060, 5_000_040))  # 6 × 4


# Pixel grids


@pytest.mark.parametrize(
    ("bounds", "snapped"),
    [
        ((500_000, 5_000_000, 505_000, 5_005_000), (500_000, 5_000_000, 505_000, 5_005_000)),
        ((500_001, 5_000_009, 504_991, 5_004_999), (500_000, 5_000_000, 505_000, 5_005_000)),
        ((449_272.21, 5_107_988.21, 454_272.21, 5_112_988.21), (449_270, 5_107_980, 454_280, 5_112_990)),
        ((-7.5, -12.5, 7.5, 12.5), (-10, -20, 10, 20)),
        # What is a rounding error away from a multiple is one.
        (
            (499_999.9999999, 5_000_000.0000001, 505_000.0000001, 5_004_999.9999999),
            (500_000, 5_000_000, 505_000, 5_005_000),
        ),
    ],
)
def test_a_cells_pixels_are_its_bounds_snapped_outward_to_10_m(bounds, snapped):
    pixels = PixelGrid.of(Cell(1, 32633, bounds))
    assert pixels.bounds == snapped
    assert pixels.resolution_m == 10
    width, height = (snapped[2] - snapped[0]) // 10, (snapped[3] - snapped[1]) // 10
    assert (pixels.width, pixels.height, pixels.shape) == (width, height, (height, width))
    assert pixels.transform == from_bounds(*snapped, width, height)


def test_a_cells_pixel_grid_is_the_same_every_year():
    cell = Cell(463, 32633, (449_272.21167128545, 5_107_988.213220115, 454_272.21167128545, 5_112_988.213220115))
    again = Cell(463, 32633, tuple(float(f"{value:.6f}") for value in cell.bounds), "SI_000463")
    assert PixelGrid.of(cell) == PixelGrid.of(again)
    assert PixelGrid.of(cell).shape == (501, 501)


def test_north_is_up_and_a_pixel_is_a_hundredth_hectare():
    assert PIXELS.transform == from_origin(500_000, 5_000_040, 10, 10)
    assert PIXELS.pixel_ha == 0.01
    assert str(PIXELS) == "EPSG:32633, 6×4 px of 10 m from (500000, 5000000, 500060, 5000040)"


@pytest.mark.parametrize(
    ("crs", "transform", "width"),
    [
        ("EPSG:32633", Affine(10, 0, 500_000.09, 0, -10, 5_000_040), 6),  # less than a hundredth of a pixel
        (rasterio.CRS.from_epsg(32633).to_wkt(), PIXELS.transform, 6),
    ],
)
def test_frames_with_the_same_pixels_match(crs, transform, width):
    assert PIXELS.frame.matches(Frame(crs, transform, width, 4))


@pytest.mark.parametrize(
    ("crs", "transform", "width"),
    [
        ("EPSG:32634", PIXELS.transform, 6),
        (None, PIXELS.transform, 6),
        ("EPSG:32633", PIXELS.transform, 7),
        ("EPSG:32633", Affine(10, 0, 500_000.2, 0, -10, 5_000_040), 6),
        ("EPSG:32633", Affine(10.05, 0, 500_000, 0, -10, 5_000_040), 6),
        ("EPSG:32633", Affine(10, 0.1, 500_000, 0.1, -10, 5_000_040), 6),
        ("EPSG:32633", Affine(10, 0, 500_000, 0, 10, 5_000_000), 6),
    ],
    ids=["zone", "no CRS", "width", "shifted", "coarser", "turned", "upside down"],
)
def test_frames_with_other_pixels_do_not_match(crs, transform, width):
    assert not PIXELS.frame.matches(Frame(crs, transform, width, 4))


def test_some_rows_of_a_pixel_grid_lie_where_they_lay():
    rows = PIXELS.rows(1, 3)
    assert rows == PixelGrid(32633, (500_000, 5_000_010, 500_060, 5_000_030))
    assert rows.shape == (2, 6)
    assert rows.transform * (0, 0) == PIXELS.transform * (0, 1)
    assert PIXELS.rows(0, 4) == PIXELS


def test_some_rows_of_a_composite_are_its_pixels(composite):
    made = composite(np.arange(1, 3 * 24 + 1).reshape(3, 4, 6))
    made.clear_count[:] = np.arange(24).reshape(4, 6)
    rows = made.rows(1, 3)
    assert rows.pixels == PIXELS.rows(1, 3)
    assert (rows.dn == made.dn[:, 1:3]).all()
    assert (rows.clear_count == made.clear_count[1:3]).all()
    assert (rows.bands, rows.origin) == (made.bands, made.origin)


# Frames


@pytest.mark.parametrize(
    ("crs", "pixel", "area_ha"),
    [
        ("EPSG:32633", (10, 0, 0, -10), 0.01),
        ("EPSG:32633", (3, 4, 4, -3), 0.0025),  # turned: 5 m aside
        ("EPSG:32633", (20, 0, 0, 10), 0.02),
        ("EPSG:2263", (10, 0, 0, -10), 0.01 * (1200 / 3937) ** 2),  # US survey feet
        ("EPSG:4326", (0.1, 0, 0, -0.1), None),
        (None, (1, 0, 0, 1), None),
    ],
)
def test_a_pixels_area_is_known_where_the_crs_has_lengths(crs, pixel, area_ha):
    a, b, d, e = pixel
    frame = Frame(crs, Affine(a, b, 7, d, e, 9), 6, 4)
    assert frame.pixel_ha == (None if area_ha is None else pytest.approx(area_ha, rel=1e-9))


def test_a_pixel_grid_is_a_frame_too():
    assert PIXELS.frame == Frame("EPSG:32633", PIXELS.transform, 6, 4)
    assert PIXELS.frame.pixel_ha == pytest.approx(PIXELS.pixel_ha)


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (PIXELS.frame, "EPSG:32633, 6×4 px of 10 × 10 from (500000, 5000040)"),
        (
            Frame("EPSG:4326", Affine(0.1, 0.5, 14, -0.5, -0.1, 46), 2, 3),
            "EPSG:4326, 2×3 px of 0.1 × 0.1 from (14, 46), turned (0.5, -0.5)",
        ),
        (Frame(None, Affine.identity(), 2, 3), "no CRS, 2×3 px of 1 × -1 from (0, 0)"),
    ],
)
def test_a_frame_tells_where_it_lies(frame, text):
    assert str(frame) == text


# Radiometry


@pytest.mark.parametrize(
    ("reflectance", "dn"),
    [
        (0.1234, 1234),
        (0.00014, 1),
        (0.00026, 3),
        (np.nan, 0),
        (0.0, 1),  # 0 means nodata
        (-0.3, 1),
        (6.5534, 65534),
        (7.0, 65534),
        (np.inf, 65534),
    ],
)
def test_reflectance_is_rounded_to_dn_and_kept_off_nodata(reflectance, dn):
    stored = to_dn(np.array([reflectance], np.float64))
    assert stored.tolist() == [dn]
    assert stored.dtype == np.uint16


def test_reflectance_is_dn_over_10000_and_nan_where_nodata(composite):
    made = composite([[[0]], [[2500]], [[10_000]]])
    bands = made.reflectance(("B04", "B03", "B02"))
    assert bands[:2, 0, 0].tolist() == [1.0, 0.25]
    assert np.isnan(bands[2]).all()
    assert bands.dtype == np.float32


def test_a_pixel_is_valid_where_every_band_has_data(composite):
    dn = np.full((3, 4, 6), 100, np.uint16)
    dn[1, 0, 0] = dn[2, 3, 5] = 0
    expected = np.ones((4, 6), bool)
    expected[0, 0] = expected[3, 5] = False
    assert (composite(dn).valid == expected).all()


def test_a_band_that_a_composite_lacks_is_told(composite):
    with pytest.raises(RasterError, match=r"^composite has bands B02, B03, B04, not B08, B11$"):
        composite(1).reflectance(("B04", "B08", "B11"))


@pytest.mark.parametrize(
    ("dn", "counts"),
    [((2, 4, 6), (4, 6)), ((3, 6, 4), (4, 6)), ((3, 4, 6), (6, 4)), ((4, 6), (4, 6))],
)
def test_arrays_of_another_shape_than_the_pixel_grid_are_refused(dn, counts):
    with pytest.raises(RasterError, match="composite of shape"):
        Composite(
            PIXELS, ("B02", "B03", "B04"), np.ones(dn, np.uint16), np.ones(counts, np.uint16), Origin("stac", "c")
        )


def test_the_stretch_is_worked_out_by_hand_per_band(composite):
    stretch = {"B04": (0.0, 0.4), "B03": (0.1, 0.2), "B02": (0.0, 0.255)}
    made = composite([[[100]], [[1500]], [[1000]]])  # B02 0.01, B03 0.15, B04 0.1
    rgb = to_rgb(made, stretch)
    assert rgb.shape == (4, 6, 3)
    assert rgb.dtype == np.uint8
    # 0.1 / 0.4 × 255 = 63.75; 0.05 / 0.1 × 255 = 127.5, to even; 0.01 / 0.255 × 255 = 10
    assert rgb[0, 0].tolist() in ([64, 128, 10], [64, 127, 10])


def test_the_stretch_clips_and_shows_nodata_as_0(composite):
    stretch = dict.fromkeys(("B04", "B03", "B02"), (0.1, 0.2))
    assert to_rgb(composite([[[0]], [[500]], [[9000]]]), stretch)[0, 0].tolist() == [255, 0, 0]


def test_the_stretch_of_a_pixel_does_not_depend_on_the_others(composite):
    stretch = dict.fromkeys(("B04", "B03", "B02"), (0.0, 0.3))
    dark, bright = np.full((3, 4, 6), 300), np.full((3, 4, 6), 300)
    bright[:, 2:] = 9000
    assert (to_rgb(composite(dark), stretch)[:2] == to_rgb(composite(bright), stretch)[:2]).all()
