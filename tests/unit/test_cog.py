"""GeoTIFFs in and out, with rasterio and rio-cogeo as oracles."""

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from affine import Affine
from rasterio.transform import from_bounds
from rio_cogeo.cogeo import cog_validate

from eo_tasks.cog import copy_as_cog, open_composite, read_composite, read_raster, write_cog, write_composite
from eo_tasks.errors import RasterError
from eo_tasks.raster import PixelGrid

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

PIXELS = PixelGrid(32633, (500_000, 5_000_000, 500_060, 5_000_040))  # 6 × 4


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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
