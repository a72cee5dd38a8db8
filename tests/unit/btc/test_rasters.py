"""Raster files as the network is shown them, with rasterio's own warping as oracle."""

import numpy as np
import pytest
from affine import Affine
from rasterio.enums import Resampling
from rasterio.warp import reproject

from eo_tasks.btc.pictures import CompositePicture
from eo_tasks.btc.rasters import open_pair, open_picture
from eo_tasks.cog import write_composite
from eo_tasks.errors import RasterError
from eo_tasks.raster import Frame
from tests.images import PLACE, write_image

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

STRETCH = {"B04": (0.0, 0.4), "B03": (0.0, 0.2), "B02": (0.1, 0.2)}
NAMES = ("B02", "B03", "B04", "clear_count")


@pytest.fixture
def levels():
    """An 8-bit image of 6 × 5 pixels, shape (y, x, 3)."""
    return np.random.default_rng(1).integers(1, 256, (5, 6, 3), dtype=np.uint8)


def everything(path, onto=None):
    with open_picture(path, STRETCH, onto) as picture:
        return picture.rows(0, picture.shape[0])


# What is shown


def test_three_8_bit_bands_are_shown_as_they_are_and_black_is_data(tmp_path, levels):
    levels[2, 3] = 0
    rgb, valid = everything(write_image(tmp_path / "a.tif", levels))
    assert (rgb == levels).all()
    assert valid.all()


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_an_image_without_a_place_is_shown(tmp_path, levels, ending):
    path = write_image(tmp_path / f"a.{ending}", levels, crs=None)
    assert (everything(path)[0] == levels).all()
    with open_picture(path, STRETCH) as picture:
        assert (picture.frame.crs, picture.shape) == (None, (5, 6))


def test_8_bit_nodata_hides_a_pixel_only_where_it_stands_in_all_bands(tmp_path, levels):
    levels[2, 3], levels[1, 1, 0] = 0, 0
    _, valid = everything(write_image(tmp_path / "a.tif", levels, nodata=0))
    assert np.argwhere(~valid).tolist() == [[2, 3]]


@pytest.mark.parametrize("kept", ["mask", "alpha", "alpha beside nodata"])
def test_what_a_file_masks_holds_no_data(tmp_path, levels, kept):
    mask = np.full((5, 6), 255, np.uint8)
    mask[4, 0] = 0
    if kept == "mask":
        path = write_image(tmp_path / "a.tif", levels, mask=mask)
    else:
        bands = np.concatenate([levels.transpose(2, 0, 1), mask[None]])
        nodata = 0 if "nodata" in kept else None
        path = write_image(tmp_path / "a.tif", bands, photometric="RGB", alpha="yes", nodata=nodata)
    rgb, valid = everything(path)
    assert (rgb == levels).all()
    assert np.argwhere(~valid).tolist() == [[4, 0]]


def test_reflectance_is_stretched_from_bands_found_by_name(tmp_path):
    # B04 0.1 / 0.4 = 25 %, 63.75; B03 0.1 / 0.2 = 50 %, 127.5; B02 (0.12 - 0.1) / 0.1 = 20 %, 51
    image = np.full((4, 2, 2), 1, np.uint16) * np.array([1200, 1000, 1000, 7], np.uint16)[:, None, None]
    rgb, valid = everything(write_image(tmp_path / "a.tif", image, names=NAMES))
    assert np.abs(rgb - np.array([63.75, 127.5, 51])).max() <= 0.5
    assert valid.all()


@pytest.mark.parametrize(("declared", "stands"), [(None, 0), (0, 0), (65535, 65535)])
def test_reflectance_holds_no_data_where_any_band_has_none(tmp_path, declared, stands):
    image = np.full((3, 2, 4), 1000, np.uint16)
    image[0, 0, 0] = image[2, 1, 2] = stands
    rgb, valid = everything(write_image(tmp_path / "a.tif", image, names=NAMES[:3], nodata=declared))
    assert np.argwhere(~valid).tolist() == [[0, 0], [1, 2]]
    assert rgb[0, 0, 2] == rgb[1, 2, 0] == 0


def test_zero_is_reflectance_where_another_value_is_nodata(tmp_path):
    path = write_image(tmp_path / "a.tif", np.zeros((3, 2, 2), np.uint16), names=NAMES[:3], nodata=65535)
    assert everything(path)[1].all()


def test_a_stored_composite_is_shown_as_the_pipeline_shows_it(tmp_path, composite):
    dn = np.random.default_rng(2).integers(0, 3000, (3, 5, 6))
    dn[:, 2, 2] = 0
    made = composite(dn, shape=(5, 6))
    write_composite(tmp_path / "a.tif", made)
    rgb, valid = everything(tmp_path / "a.tif")
    expected, also = CompositePicture(made, STRETCH).rows(0, 5)
    assert (rgb == expected).all()
    assert (valid == also).all()


# What is refused


@pytest.mark.parametrize(
    ("image", "names", "has"),
    [
        (np.zeros((1, 4, 4), np.uint8), (), "1 band of uint8 (no name)"),
        (np.zeros((4, 4, 4), np.uint8), (), "4 bands of uint8 (no name, no name, no name, no name)"),
        (np.zeros((3, 4, 4), np.float32), NAMES[:3], "3 bands of float32 (B02, B03, B04)"),
        (np.zeros((3, 4, 4), np.uint16), (), "3 bands of uint16 (no name, no name, no name)"),
        (np.zeros((2, 4, 4), np.uint16), NAMES[:2], "2 bands of uint16 (B02, B03)"),
        (np.zeros((12, 4, 4), np.int16), (), f"12 bands of int16 ({'no name, ' * 8}…)"),
    ],
)
def test_a_raster_of_another_kind_is_told_of_with_what_is_taken(tmp_path, image, names, has):
    path = write_image(tmp_path / "a.tif", image, names=names, photometric="MINISBLACK")
    with pytest.raises(RasterError) as told:
        everything(path)
    assert str(told.value) == (
        f"{path}: has {has}. BTC takes exactly three 8-bit bands (red, green, blue), or uint16 reflectance × 10000 "
        "with bands named B04, B03, B02."
    )


def test_files_that_are_missing_or_no_rasters_are_told_of(tmp_path):
    (tmp_path / "notes.txt").write_text("no raster")
    with pytest.raises(RasterError, match=r"none\.tif: no such file\.$"):
        everything(tmp_path / "none.tif")
    with pytest.raises(RasterError, match=r"notes\.txt: cannot be read as a raster \("):
        everything(tmp_path / "notes.txt")


def test_a_file_that_was_cut_off_is_told_of_when_its_rows_are_read(tmp_path):
    image = np.random.default_rng(3).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    path = write_image(tmp_path / "a.tif", image)
    path.write_bytes(path.read_bytes()[:60_000])
    with (
        open_picture(path, STRETCH) as picture,
        pytest.raises(RasterError, match=r"a\.tif: cannot be read as a raster"),
    ):
        picture.rows(0, 200)


# Pairs


@pytest.mark.parametrize(
    "other",
    [
        {"crs": "EPSG:32634"},
        {"crs": None},
        {"transform": PLACE @ Affine.translation(1, 0)},
        {"transform": PLACE @ Affine.scale(1.01)},
    ],
    ids=["another CRS", "no CRS", "shifted", "coarser"],
)
def test_a_pair_with_different_pixels_is_refused_with_both_grids(tmp_path, levels, other):
    before, after = write_image(tmp_path / "a.tif", levels), write_image(tmp_path / "b.tif", levels, **other)
    with (
        pytest.raises(RasterError, match=r"a\.tif and .*b\.tif have different pixels: EPSG:32633, 6×5 px of .*--align"),
        open_pair(before, after, STRETCH, align=False),
    ):
        pass


def test_a_pair_of_different_sizes_is_refused(tmp_path, levels):
    before, after = (
        write_image(tmp_path / "a.png", levels, crs=None),
        write_image(tmp_path / "b.png", levels[1:], crs=None),
    )
    with (
        pytest.raises(RasterError, match=r"no CRS, 6×5 px .*no CRS, 6×4 px"),
        open_pair(before, after, STRETCH, align=False),
    ):
        pass


def test_a_rounding_error_of_the_place_is_none(tmp_path, levels):
    before = write_image(tmp_path / "a.tif", levels)
    after = write_image(tmp_path / "b.tif", levels, transform=PLACE @ Affine.translation(1e-6, 0))
    with open_pair(before, after, STRETCH, align=True) as (_, later):
        assert later.warped_from is None


def test_a_pair_of_two_forms_is_refused(tmp_path, levels):
    before = write_image(tmp_path / "a.tif", levels)
    after = write_image(tmp_path / "b.tif", np.ones((3, 5, 6), np.uint16), names=NAMES[:3])
    with (
        pytest.raises(RasterError, match="one is 8-bit RGB and one is reflectance"),
        open_pair(before, after, STRETCH, align=False),
    ):
        pass


# Warping


def test_an_image_that_is_shifted_by_whole_pixels_is_moved_and_seen_only_where_it_lies(tmp_path, levels):
    path = write_image(tmp_path / "a.tif", levels, transform=PLACE @ Affine.translation(2, -1))
    rgb, valid = everything(path, Frame("EPSG:32633", PLACE, 6, 5))
    assert (rgb[:4, 2:] == levels[1:, :4]).all()
    expected = np.zeros((5, 6), bool)
    expected[:4, 2:] = True
    assert (valid == expected).all()


@pytest.mark.parametrize("kept", ["nodata", "mask", "alpha"])
def test_what_a_shifted_file_masks_holds_no_data(tmp_path, levels, kept):
    mask = np.full((5, 6), 255, np.uint8)
    mask[3, 1] = 0
    place = {"transform": PLACE @ Affine.translation(1, 0)}
    if kept == "nodata":
        levels[3, 1], levels[0, 0, 1] = 0, 0
        path = write_image(tmp_path / "a.tif", levels, nodata=0, **place)
    elif kept == "mask":
        path = write_image(tmp_path / "a.tif", levels, mask=mask, **place)
    else:
        bands = np.concatenate([levels.transpose(2, 0, 1), mask[None]])
        path = write_image(tmp_path / "a.tif", bands, photometric="RGB", alpha="yes", **place)
    rgb, valid = everything(path, Frame("EPSG:32633", PLACE, 6, 5))
    assert np.argwhere(~valid[:, 1:]).tolist() == [[3, 1]]
    assert not valid[:, 0].any()
    assert (rgb[valid] == levels[:, :5].reshape(-1, 3)[valid[:, 1:].ravel()]).all()


def test_reflectance_is_warped_without_its_nodata_and_no_data_beyond_it(tmp_path):
    image = np.full((3, 5, 6), 1000, np.uint16)
    image[1, 1:4, 1:4] = 0  # of one band only
    path = write_image(tmp_path / "a.tif", image, names=NAMES[:3])
    rgb, valid = everything(path, Frame("EPSG:32633", PLACE @ Affine.translation(-2.25, 0), 8, 5))
    assert not valid[:, :2].any()  # left of the image
    assert not valid[2, 4:6].any()  # in its hole
    assert valid[0, 3:].all()
    assert (rgb[valid] == rgb[0, 3]).all()  # no nodata has been mixed in


def test_an_image_of_another_resolution_is_warped_as_gdal_warps_it_whichever_rows_are_read(tmp_path):
    image = np.random.default_rng(5).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    finer = PLACE @ Affine.translation(3, 4) @ Affine.scale(0.7)
    path = write_image(tmp_path / "a.tif", image, transform=finer)
    expected = np.zeros((3, 30, 35), np.uint8)
    reproject(
        image.transpose(2, 0, 1), expected, src_transform=finer, src_crs="EPSG:32633", dst_transform=PLACE,
        dst_crs="EPSG:32633", resampling=Resampling.bilinear,
    )  # fmt: skip
    with open_picture(path, STRETCH, Frame("EPSG:32633", PLACE, 35, 30)) as picture:
        whole, valid = picture.rows(0, 30)
        strips = [picture.rows(row, min(row + 7, 30)) for row in range(0, 30, 7)]
    assert np.abs(whole.transpose(2, 0, 1).astype(int) - expected).max() <= 1
    assert 0 < valid.sum() < valid.size
    assert (np.concatenate([rgb for rgb, _ in strips]) == whole).all()
    assert (np.concatenate([seen for _, seen in strips]) == valid).all()


def test_an_image_of_another_crs_is_warped(tmp_path):
    """The brightness grows with the longitude, whichever CRS it is told in."""
    shown = np.broadcast_to(np.arange(100, dtype=np.uint8), (3, 100, 100))
    place = Affine(0.0002, 0, 15.0, 0, -0.0002, 45.16)
    path = write_image(tmp_path / "a.tif", shown, crs="EPSG:4326", transform=place)
    rgb, valid = everything(path, Frame("EPSG:32633", PLACE, 90, 70))  # 15° east is the zone's middle, at 500 km
    columns = np.arange(90) * 10 / (111_320 * np.cos(np.radians(45.15)) * 0.0002)
    assert valid[:, 1:].any(axis=0).all()
    seen = valid.all(axis=0)
    assert np.abs(rgb[35, seen, 0] - columns[seen]).max() < 1


def test_an_image_without_a_crs_is_not_warped(tmp_path, levels):
    path = write_image(tmp_path / "a.tif", levels, crs=None)
    with pytest.raises(RasterError, match=r"a\.tif: cannot be warped: both files need a CRS\.$"):
        everything(path, Frame("EPSG:32633", PLACE, 6, 5))
    other = write_image(tmp_path / "b.tif", levels)
    with pytest.raises(RasterError, match=r"b\.tif: cannot be warped: both files need a CRS\.$"):
        everything(other, Frame(None, Affine.identity(), 6, 5))
