"""The three files of a mask, read with rasterio."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import from_bounds
from rio_cogeo.cogeo import cog_validate

from eo_tasks.change import ChangeMap
from eo_tasks.errors import RasterError
from eo_tasks.products.mask import MaskFiles, MaskWriter, write_mask_files
from eo_tasks.raster import Frame, PixelGrid

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

NAN = np.nan
PIXELS = PixelGrid(32633, (500_000, 5_000_000, 500_040, 5_000_020))
PROBABILITY = np.array([[0.0, 0.2, 0.21, 1.0], [NAN, 0.5, 0.003, 0.998]], np.float32)


@pytest.fixture
def files(tmp_path) -> MaskFiles:
    """A mask of eight pixels at the threshold 0.2."""
    made = MaskFiles.beside(tmp_path / "change_mask_grid_463_2022.png")
    write_mask_files(made, ChangeMap(PIXELS, PROBABILITY, 0.2), {"YEARS": "2022,2023"})
    return made


def test_three_files_share_one_name_and_the_png_is_published_last():
    files = MaskFiles.beside(Path("m/change_mask_grid_463_2022.png"))
    assert files.cog == Path("m/change_mask_grid_463_2022.tiff")
    assert files.probability == Path("m/change_mask_grid_463_2022_probability.tiff")
    assert files.all == (files.probability, files.cog, files.png)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_png_is_255_where_changed_and_0_elsewhere(files):
    with rasterio.open(files.png) as png:
        assert (png.driver, png.count, png.dtypes) == ("PNG", 1, ("uint8",))
        assert png.read(1).tolist() == [[0, 0, 255, 255], [0, 255, 0, 255]]


def test_the_class_raster_tells_unchanged_changed_and_not_seen(files):
    with rasterio.open(files.cog) as cog:
        assert cog.read(1).tolist() == [[0, 0, 1, 1], [255, 1, 0, 1]]
        assert cog.nodata == 255
        assert cog.descriptions == ("change",)
        assert cog.tags()["YEARS"] == "2022,2023"


def test_the_probability_is_scaled_to_254_and_255_is_not_seen(files):
    # 0.2 × 254 = 50.8; 0.21 × 254 = 53.34; 0.003 × 254 = 0.762; 0.998 × 254 = 253.49
    with rasterio.open(files.probability) as cog:
        assert cog.read(1).tolist() == [[0, 51, 53, 254], [255, 127, 1, 253]]
        assert cog.nodata == 255
        assert cog.tags()["SCALE"] == "1/254"


def test_both_rasters_lie_on_the_pixels_of_the_composites(files):
    for path in (files.cog, files.probability):
        with rasterio.open(path) as cog:
            assert cog.crs.to_epsg() == 32633
            assert cog.transform == from_bounds(*PIXELS.bounds, 4, 2)


def test_both_rasters_are_valid_cogs_with_overviews_that_keep_the_classes(tmp_path):
    pixels = PixelGrid(32633, (500_000, 5_000_000, 506_000, 5_006_000))
    rng = np.random.default_rng(3)
    probability = rng.random((600, 600), np.float32)
    probability[:100] = NAN
    files = MaskFiles.beside(tmp_path / "m.png")
    write_mask_files(files, ChangeMap(pixels, probability, 0.2), {})
    for path in (files.cog, files.probability):
        is_valid, errors, _ = cog_validate(path, quiet=True, strict=True)
        assert (is_valid, errors) == (True, [])
    with rasterio.open(files.cog, OVERVIEW_LEVEL=0) as overview:
        assert overview.shape == (300, 300)
        assert set(np.unique(overview.read(1))) <= {0, 1, 255}


def test_writing_a_mask_again_replaces_it_and_leaves_nothing_beside_it(files):
    write_mask_files(files, ChangeMap(PIXELS, np.ones((2, 4), np.float32), 0.2), {})
    assert {path.name for path in files.png.parent.iterdir()} == {path.name for path in files.all}
    with rasterio.open(files.cog) as cog:
        assert (cog.read(1) == 1).all()


def test_writing_a_png_warns_of_nothing(tmp_path, recwarn):
    write_mask_files(MaskFiles.beside(tmp_path / "m.png"), ChangeMap(PIXELS, PROBABILITY, 0.2), {})
    assert not [warning for warning in recwarn if warning.category is NotGeoreferencedWarning]


# Strips


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def read(path) -> np.ndarray:
    with rasterio.open(path) as raster:
        return raster.read(1)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_strips_make_the_same_files_as_the_whole(tmp_path):
    pixels = PixelGrid(32633, (500_000, 5_000_000, 503_000, 5_006_000))
    probability = np.random.default_rng(3).random((600, 300), np.float32)
    probability[10:20, 5:9] = NAN
    whole, strips = (MaskFiles.beside(tmp_path / name / "m.png") for name in ("whole", "strips"))
    write_mask_files(whole, ChangeMap(pixels, probability, 0.2), {})
    with MaskWriter(strips, pixels.frame, 0.2, {}) as writer:
        for first, stop in ((0, 1), (1, 400), (400, 600)):
            writer.write(first, probability[first:stop])
        assert names(tmp_path) == ["strips", "whole"]
        assert not any(path.exists() for path in strips.all)
        writer.finish()
    for one, other in zip(whole.all, strips.all, strict=True):
        assert (read(one) == read(other)).all()


def test_a_writer_counts_what_is_seen_and_what_changed(tmp_path):
    with MaskWriter(MaskFiles.beside(tmp_path / "m.png"), PIXELS.frame, 0.2, {}) as writer:
        writer.write(0, PROBABILITY[:1])
        assert (writer.seen_px, writer.changed_px) == (4, 2)
        writer.write(1, PROBABILITY[1:])
        assert (writer.seen_px, writer.changed_px) == (7, 4)


@pytest.mark.parametrize(("threshold", "changed"), [(0.25, 0), (0.2499, 8)])
def test_a_pixel_on_the_threshold_is_unchanged(tmp_path, threshold, changed):
    files = MaskFiles.beside(tmp_path / "m.png")
    with MaskWriter(files, PIXELS.frame, threshold, {}) as writer:
        writer.write(0, np.full((2, 4), 0.25, np.float32))
        writer.finish()
        assert writer.changed_px == changed
    assert (read(files.cog) == 1).sum() == changed


def test_leaving_without_finishing_leaves_no_file_and_the_mask_before(files):
    before = {path: path.read_bytes() for path in files.all}
    with MaskWriter(files, PIXELS.frame, 0.2, {}) as writer:
        writer.write(0, np.ones((2, 4), np.float32))
    with pytest.raises(ZeroDivisionError), MaskWriter(files, PIXELS.frame, 0.2, {}):
        raise ZeroDivisionError
    assert {path: path.read_bytes() for path in files.all} == before
    assert names(files.png.parent) == sorted(path.name for path in files.all)


def test_the_probability_may_be_kept_as_float32_too(tmp_path):
    path = tmp_path / "float.tiff"
    with MaskWriter(MaskFiles.beside(tmp_path / "m.png"), PIXELS.frame, 0.2, {"A": "b"}, float_file=path) as writer:
        writer.write(0, PROBABILITY)
        writer.finish()
    with rasterio.open(path) as raster:
        assert np.array_equal(raster.read(1), PROBABILITY, equal_nan=True)
        assert np.isnan(raster.nodata)
        assert (raster.descriptions, raster.tags()["A"]) == (("change_probability",), "b")


def test_a_mask_lies_where_its_frame_does_however_it_is_turned(tmp_path):
    frame = Frame("EPSG:3857", Affine(2, 1, 1000, 1, -2, 2000), 4, 2)
    files = MaskFiles.beside(tmp_path / "m.png")
    with MaskWriter(files, frame, 0.2, {}) as writer:
        writer.write(0, PROBABILITY)
        writer.finish()
    for path in (files.cog, files.probability):
        with rasterio.open(path) as raster:
            assert (raster.crs.to_epsg(), raster.transform) == (3857, frame.transform)


def test_a_mask_of_an_image_that_lies_nowhere_is_written_without_a_warning(tmp_path, recwarn):
    files = MaskFiles.beside(tmp_path / "m.png")
    with MaskWriter(files, Frame(None, Affine.identity(), 4, 2), 0.2, {}) as writer:
        writer.write(0, PROBABILITY)
        writer.finish()
    assert not [warning for warning in recwarn if warning.category is NotGeoreferencedWarning]
    assert read(files.cog).tolist() == [[0, 0, 1, 1], [255, 1, 0, 1]]


def test_a_mask_that_does_not_read_back_is_not_published(monkeypatch, files):
    before = files.png.read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise RasterError("does not read back")

    monkeypatch.setattr("eo_tasks.products.mask.copy_as_cog", refuse)
    with MaskWriter(files, PIXELS.frame, 0.2, {}) as writer:
        writer.write(0, np.ones((2, 4), np.float32))
        with pytest.raises(RasterError):
            writer.finish()
    assert files.png.read_bytes() == before
    assert names(files.png.parent) == sorted(path.name for path in files.all)
