"""Pixel grids and GeoTIFFs, with rasterio and rio-cogeo as oracles."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.transform import from_bounds, from_origin
from rio_cogeo.cogeo import cog_validate

from eo_tasks.errors import RasterError
from eo_tasks.grid import Cell
from eo_tasks.raster import (
    Composite,
    Frame,
    Origin,
    PixelGrid,
    copy_as_cog,
    open_composite,
    read_composite,
    read_raster,
    to_dn,
    to_rgb,
    write_cog,
    write_composite,
)

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

PIXELS = PixelGrid(32633, (500_000, 5_000_000, 500_060, 5_000_040))  # 6 × 4


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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


# Files


def test_a_composite_is_read_as_it_was_written(composite, tmp_path):
    rng = np.random.default_rng(1)
    pixels = PixelGrid(32633, (500_000, 5_000_000, 503_100, 5_002_700))  # 310 × 270: more than one block
    made = composite(rng.integers(0, 65_535, (3, 270, 310)), pixels)
    path = tmp_path / "images" / "c.tiff"
    write_composite(path, made)
    read = read_composite(path)
    assert read.pixels == made.pixels
    assert read.bands == ("B02", "B03", "B04")
    assert (read.dn == made.dn).all()
    assert (read.clear_count == made.clear_count).all()
    assert names(path.parent) == ["c.tiff"]


def test_a_stored_composite_is_read_in_strips(composite, tmp_path):
    pixels = PixelGrid(32633, (500_000, 5_000_000, 503_100, 5_006_000))  # 310 × 600: several blocks
    path = tmp_path / "c.tiff"
    write_composite(path, composite(np.random.default_rng(1).integers(0, 65_535, (3, 600, 310)), pixels))
    whole = read_composite(path)
    with open_composite(path) as stored:
        assert (stored.pixels, stored.bands) == (pixels, ("B02", "B03", "B04"))
        for start, stop in ((0, 96), (96, 97), (250, 600), (0, 600)):
            rows, expected = stored.rows(start, stop), whole.rows(start, stop)
            assert rows.pixels == expected.pixels
            assert (rows.dn == expected.dn).all()
            assert (rows.clear_count == expected.clear_count).all()


def test_rows_before_a_broken_place_are_read_and_those_behind_it_told(composite, tmp_path):
    path = tmp_path / "c.tiff"
    pixels = PixelGrid(32633, (500_000, 5_000_000, 500_400, 5_006_000))
    write_composite(path, composite(np.random.default_rng(1).integers(1, 65_535, (3, 600, 40)), pixels))
    whole = bytearray(path.read_bytes())
    whole[-2000:] = bytes(2000)  # the last blocks of the full resolution
    path.write_bytes(whole)
    with open_composite(path) as stored:
        assert stored.rows(0, 250).dn.any()
        with pytest.raises(RasterError, match=r"c\.tiff: cannot be read as a raster"):
            stored.rows(250, 600)


def test_a_stored_composite_is_a_valid_cog_on_exactly_the_cells_pixels(composite, tmp_path):
    pixels = PixelGrid(32633, (500_000, 5_000_000, 506_000, 5_005_500))  # 600 × 550: overviews are due
    write_composite(tmp_path / "c.tiff", composite(1234, pixels))
    is_valid, errors, _ = cog_validate(tmp_path / "c.tiff", quiet=True, strict=True)
    assert (is_valid, errors) == (True, [])
    with rasterio.open(tmp_path / "c.tiff") as stored:
        assert stored.crs.to_epsg() == 32633
        assert stored.transform == from_bounds(*pixels.bounds, 600, 550)
        assert stored.nodatavals == (0, 0, 0, 0)
        assert stored.dtypes == ("uint16",) * 4
        assert stored.descriptions == ("B02", "B03", "B04", "clear_count")
        assert stored.tags()["SCALE"] == "1/10000"
        assert stored.overviews(1) == [2, 4] or stored.overviews(1) == [2]


def test_an_image_that_does_not_fit_its_pixels_is_not_published_and_leaves_the_old_file(composite, tmp_path):
    path = tmp_path / "c.tiff"
    write_composite(path, composite(7))
    before = path.read_bytes()
    with pytest.raises(RasterError, match=r"c\.tiff: what was written does not read back; is the disk failing\?$"):
        write_cog(path, np.ones((1, 3, 3), np.uint8), PIXELS, nodata=None, names=("small",))
    assert path.read_bytes() == before
    assert names(tmp_path) == ["c.tiff"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(composite, tmp_path):
    path = tmp_path / "c.tiff"
    write_composite(path, composite(7))
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_cog(path, np.ones((1, 4, 6), np.complex256), PIXELS, nodata=None, names=("no such type",))
    assert path.read_bytes() == before
    assert names(tmp_path) == ["c.tiff"]


def scratch(folder, image, **profile):
    """A plain GeoTIFF of some image, shape (band, y, x)."""
    count, height, width = image.shape
    how = {"count": count, "height": height, "width": width, "dtype": image.dtype, "crs": "EPSG:32633"}
    with rasterio.open(folder / "scratch", "w", driver="GTiff", transform=PIXELS.transform, **how, **profile) as sink:
        sink.write(image)
        sink.update_tags(YEARS="2022,2023")
        sink.descriptions = ("change",) * count
    return folder / "scratch"


def test_any_geotiff_becomes_a_cog_of_the_same_pixels(tmp_path):
    image = np.random.default_rng(1).random((1, 2100, 300), np.float32)  # three strips
    image[:, ::7] = np.nan
    source, path = scratch(tmp_path, image, nodata=np.nan), tmp_path / "out" / "c.tiff"
    path.parent.mkdir()
    copy_as_cog(source, path, resampling="average")
    assert cog_validate(path, quiet=True, strict=True)[0]
    with rasterio.open(path) as back:
        assert np.array_equal(back.read(), image, equal_nan=True)
        assert (back.crs.to_epsg(), back.transform) == (32633, PIXELS.transform)
        assert (back.tags()["YEARS"], back.descriptions) == ("2022,2023", ("change",))
        assert np.isnan(back.nodata)
    assert names(path.parent) == ["c.tiff"]


@pytest.mark.parametrize("at", [(0, 0, 0), (0, 2099, 299), (0, 1024, 17)])
def test_a_copy_that_differs_in_one_pixel_is_not_published(monkeypatch, tmp_path, at):
    image = np.ones((1, 2100, 300), np.uint8)
    source, path = scratch(tmp_path, image), tmp_path / "out" / "c.tiff"
    path.parent.mkdir()
    path.write_text("the one before")
    copy = rasterio.shutil.copy

    def copy_badly(given, target, **how):
        with rasterio.open(given, "r+") as source:
            changed = image.copy()
            changed[at] = 2
            source.write(changed)
        copy(given, target, **how)
        with rasterio.open(given, "r+") as source:
            source.write(image)

    monkeypatch.setattr(rasterio.shutil, "copy", copy_badly)
    with pytest.raises(RasterError, match=r"c\.tiff: what was written does not read back; is the disk failing\?$"):
        copy_as_cog(source, path, resampling="mode")
    assert path.read_text() == "the one before"
    assert names(path.parent) == ["c.tiff"]


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(RasterError, match=r"none\.tiff: cannot be read as a raster"):
        read_composite(tmp_path / "none.tiff")


@pytest.mark.parametrize("kept", [0, 8, 200, 0.5, 0.98])
def test_a_truncated_file_is_told(composite, tmp_path, kept):
    path = tmp_path / "c.tiff"
    rng = np.random.default_rng(1)
    pixels = PixelGrid(32633, (500_000, 5_000_000, 503_000, 5_003_000))
    write_composite(path, composite(rng.integers(1, 65_535, (3, 300, 300)), pixels))
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])
    with pytest.raises(RasterError, match=r"c\.tiff: cannot be read as a raster"):
        read_composite(path)


def test_a_raster_that_is_no_composite_is_told(tmp_path):
    path = tmp_path / "mask.tiff"
    write_cog(path, np.ones((1, 4, 6), np.uint8), PIXELS, nodata=255, names=("change",))
    with pytest.raises(RasterError, match=r"mask\.tiff: not a composite \(bands \('change',\), uint8\)"):
        read_composite(path)


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        (None, Affine(10, 0, 500_000, 0, -10, 5_000_040)),
        ("EPSG:32633", Affine(10, 1, 500_000, 0, -10, 5_000_040)),
        ("EPSG:32633", Affine(10, 0, 500_000, 0, -20, 5_000_040)),
        ("EPSG:32633", Affine(10, 0, 500_000, 0, 10, 5_000_040)),
        ("+proj=laea +lat_0=46 +lon_0=14 +datum=WGS84", Affine(10, 0, 500_000, 0, -10, 5_000_040)),
    ],
    ids=["no CRS", "rotated", "oblong pixels", "south up", "CRS without EPSG"],
)
def test_a_raster_on_unusable_pixels_is_told(tmp_path, crs, transform):
    path = tmp_path / "r.tiff"
    with rasterio.open(
        path, "w", driver="GTiff", width=6, height=4, count=1, dtype="uint8", crs=crs, transform=transform
    ) as sink:
        sink.write(np.ones((1, 4, 6), np.uint8))
    with pytest.raises(RasterError, match="needs an EPSG code and square, north-up pixels"):
        read_raster(path)
