"""What is checked before a backend's file counts, and how cells are cut from it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from eo_tasks.blocks import union
from eo_tasks.errors import EmptyCompositeError, SourceError, SourceUnavailableError
from eo_tasks.grid import Cell
from eo_tasks.raster import Origin, PixelGrid
from eo_tasks.sources.openeo.result import open_result, read_result
from eo_tasks.sources.request import CompositeRequest

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rasterio
URL = "https://openeo.example"
BANDS = ("B02", "B03", "B04")
EPSG = 32633
CELL = Cell(5, EPSG, (500_003, 5_149_981, 500_028, 5_149_999))  # snaps to 3 × 2 pixels
REQUEST = CompositeRequest.of(CELL, 2023, BANDS, (4, 5, 6, 7, 8, 9), (3, 8, 9, 10, 11))
ORIGIN = Origin("openeo", "S2", details={"url": URL})
DN, COUNT = ((100, 200, 300), (40, 50, 60)), ((1, 2, 3), (4, 5, 6))
LAYOUTS = {
    "strips": {},
    "tiles": {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"},
    "band by band": {"tiled": True, "blockxsize": 64, "blockysize": 64, "interleave": "band"},
    "BigTIFF": {"bigtiff": "yes", "compress": "lzw"},
    "COG": {"driver": "COG", "compress": "deflate"},
}


def stored(folder: Path, bands=DN, count=COUNT, *, dtype=np.uint16, names=None, tags=None, **profile) -> Path:
    """A backend's file on the cell's pixels: three bands, the same if only one is given, then the counts."""
    bands = np.asarray(bands, dtype)
    image = np.stack([*([bands] * 3 if bands.ndim == 2 else bands), np.asarray(count, dtype)])
    place = {"crs": f"EPSG:{EPSG}", "transform": Affine(10, 0, 500_000, 0, -10, 5_150_000)}
    profile = {"driver": "GTiff", **place, "count": len(image), **profile}
    path = folder / "result.tiff"
    with rasterio.open(path, "w", height=image.shape[1], width=image.shape[2], dtype=image.dtype, **profile) as sink:
        sink.write(image[: profile["count"]])
        if names:
            sink.descriptions = names
        for index, name in enumerate(tags or (), 1):
            sink.update_tags(index, DESCRIPTION=name)
    return path


def read(folder: Path, *args, request=REQUEST, **changes):
    return read_result(stored(folder, *args, **changes), request, ORIGIN)


def a_block(height=150, width=130, dtype=np.uint16, nodata=0):
    """Random bands and counts, the corner of them without data, and the request for their pixels."""
    rng = np.random.default_rng(4)
    bands = rng.integers(1, 9000, (3, height, width)).astype(dtype)
    count = rng.integers(1, 30, (height, width)).astype(dtype)
    bands[:, :20, :20] = nodata
    count[:20, :20] = 0
    bounds = (500_000, 5_150_000 - 10 * height, 500_000 + 10 * width, 5_150_000)
    return bands, count, replace(REQUEST, name="Block 0-0, 2023", pixels=PixelGrid(EPSG, bounds))


# What is made of a file


def test_a_result_becomes_the_composite_that_was_asked_for(tmp_path):
    made = read(tmp_path)
    assert made.dn.tolist() == [[[100, 200, 300], [40, 50, 60]]] * 3
    assert made.clear_count.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (made.pixels, made.bands, made.dn.dtype, made.origin) == (REQUEST.pixels, BANDS, np.uint16, ORIGIN)


@pytest.mark.parametrize(
    ("nodata", "dtype"),
    [(0, np.uint16), (65535, np.uint16), (-32768, np.int16), (np.nan, np.float32), (-9999, np.float64), (-1, np.int32)],
)
def test_nodata_is_what_the_file_says(tmp_path, nodata, dtype):
    made = read(tmp_path, ((nodata, 200, 300), (40, 50, 60)), ((0, 2, 3), (4, 5, 6)), nodata=nodata, dtype=dtype)
    assert made.dn[0].tolist() == [[0, 200, 300], [40, 50, 60]]
    assert made.clear_count[0].tolist() == [0, 2, 3]


def test_a_value_that_is_nodata_elsewhere_is_data_where_the_file_does_not_say_so(tmp_path):
    made = read(tmp_path, ((65535, 200, 300), (40, 50, 60)), nodata=0)
    assert made.dn[0, 0].tolist() == [65534, 200, 300]


def test_what_is_not_finite_is_nodata(tmp_path):
    made = read(tmp_path, ((np.inf, -np.inf, np.nan), (40, 50, 60)), dtype=np.float32, nodata=-1)
    assert made.dn[0].tolist() == [[0, 0, 0], [40, 50, 60]]


def test_a_pixel_without_a_clear_observation_is_nodata(tmp_path):
    assert read(tmp_path, ((7, 200, 300), (40, 50, 60)), ((0, 2, 3), (4, 5, 6))).dn[:, 0, 0].tolist() == [0, 0, 0]


def test_dark_valid_pixels_are_not_stored_as_nodata(tmp_path):
    assert read(tmp_path, ((-30, 200, 300), (40, 50, 60)), dtype=np.int16).dn[0, 0, 0] == 1


def test_a_result_without_a_clear_pixel_is_an_empty_composite(tmp_path):
    with pytest.raises(EmptyCompositeError, match="COMPOSITE_MONTHS"):
        read(tmp_path, count=((0, 0, 0), (0, 0, 0)))


# Bands


@pytest.mark.parametrize("how", ["names", "tags"])
def test_bands_are_taken_by_their_names_where_the_file_has_names(tmp_path, how):
    fourth, third, second = (np.array(DN) + more for more in (4, 3, 2))
    path = stored(tmp_path, [fourth, COUNT, third], second, **{how: ("B04", "clear_count", "B03", "B02")})
    made = read_result(path, REQUEST, ORIGIN)
    assert made.clear_count.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert made.dn[:, 0, 0].tolist() == [102, 103, 104]


def test_further_bands_are_left_out(tmp_path):
    made = read(tmp_path, [COUNT, DN, DN, DN], names=("SCL", "B04", "B03", "B02", "clear_count"))
    assert made.dn.tolist() == [[[100, 200, 300], [40, 50, 60]]] * 3


@pytest.mark.parametrize("names", [None, ("1", "2", "3", "4"), ("median_0", "median_1", "median_2", "count")])
def test_bands_without_telling_names_are_taken_in_the_order_asked_for(tmp_path, names):
    assert read(tmp_path, names=names).clear_count.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("names", "held"),
    [
        (None, "3 without names"),
        (("B02", "B03", "B08", "clear_count"), "B02, B03, B08, clear_count"),
        (("B05", "B06", "B07", "B8A"), "B05, B06, B07, B8A"),
        (("B02", "B02", "B03", "B04"), "B02, B02, B03, B04"),
        (("B02", "B03", "B04", ""), "B02, B03, B04"),
    ],
)
def test_other_bands_than_asked_for_are_refused(tmp_path, names, held):
    changes = {"names": names} if names else {"count": DN, "bands": [DN, DN]}
    with pytest.raises(
        SourceError, match=rf"has bands {held}, not B02, B03, B04, clear_count\. Check OPENEO_COLLECTION"
    ):
        read(tmp_path, **changes)


# Pixels


def test_a_file_grown_by_whole_pixels_is_cut_to_what_was_asked_for(tmp_path):
    wide = np.arange(1, 21).reshape(4, 5)
    made = read(tmp_path, wide, wide, transform=Affine(10, 0, 499_990, 0, -10, 5_150_010))
    assert made.dn[0].tolist() == wide[1:3, 1:4].tolist()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"transform": Affine(10, 0, 500_004, 0, -10, 5_150_000)}, "EPSG:32633, 3×2 px of 10 × 10 from (500004, 5150"),
        ({"transform": Affine(10, 0, 500_010, 0, -10, 5_150_000)}, "EPSG:32633, 3×2 px of 10 × 10 from (500010, 5150"),
        ({"transform": Affine(20, 0, 500_000, 0, -20, 5_150_000)}, "EPSG:32633, 3×2 px of 20 × 20"),
        ({"transform": Affine(10, 0, 500_000, 0, 10, 5_149_980)}, "EPSG:32633, 3×2 px of 10 × -10"),
        ({"transform": Affine(10, 1, 500_000, 1, -10, 5_150_000)}, "EPSG:32633, 3×2 px of 10 × 10"),
        ({"crs": "EPSG:32634"}, "EPSG:32634, 3×2 px"),
        ({"crs": None}, "no CRS, 3×2 px of 10 × 10"),
        ({"crs": None, "transform": Affine.identity()}, "no CRS, 3×2 px of 1 × "),
    ],
    ids=["moved by 4 m", "one column short", "20 m", "upside down", "turned", "another zone", "no CRS", "nowhere"],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # of the writing
def test_another_pixel_grid_is_refused(tmp_path, changes, found):
    with pytest.raises(SourceError, match=r"does not hold the EPSG:32633, 3×2 px of 10 m .*must not move") as caught:
        read(tmp_path, **changes)
    assert f"the backend's file lies on {found}" in str(caught.value)


# Cells of a block


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("margin", [0, 3])
def test_a_cell_cut_from_a_block_is_the_cell_read_alone(tmp_path, layout, margin):
    side = 400.0  # off the 10 m grid: neighbours share a row and a column of pixels
    cells = [
        Cell(4 * row + column, EPSG, (x, y, x + side, y + side))
        for row in range(4)
        for column in range(4)
        for x, y in [(500_004.2 + column * side, 5_140_007.7 + row * side)]
    ]
    request = replace(REQUEST, pixels=union(cells))
    height, width = (size + 2 * margin for size in request.pixels.shape)
    bands, count, _ = a_block(height, width)
    left, top = request.pixels.bounds[0] - 10 * margin, request.pixels.bounds[3] + 10 * margin
    (tmp_path / "block").mkdir()
    path = stored(tmp_path / "block", bands, count, nodata=0, transform=Affine(10, 0, left, 0, -10, top), **layout)
    with open_result(path, request, ORIGIN) as block:
        for corner in (cells[0], cells[3], cells[12], cells[15]):
            pixels = PixelGrid.of(corner)
            assert pixels.shape == (41, 41)
            row, column = round((top - pixels.bounds[3]) / 10), round((pixels.bounds[0] - left) / 10)
            part = np.s_[..., row : row + 41, column : column + 41]
            alone = read(
                tmp_path,
                bands[part],
                count[part],
                nodata=0,
                transform=pixels.transform,
                request=replace(REQUEST, pixels=pixels),
            )
            cut = block.composite(pixels)
            assert cut.pixels == alone.pixels == pixels
            assert np.array_equal(cut.dn, alone.dn)
            assert np.array_equal(cut.clear_count, alone.clear_count)
            assert cut.valid.mean() > 0.5


def test_only_a_cells_own_rows_and_columns_are_read(tmp_path):
    bands, count, request = a_block()
    pixels = PixelGrid(EPSG, (500_200, 5_149_800, 500_400, 5_150_000))
    asked = []

    class Watched:
        def __getattr__(self, name):
            return getattr(block.source, name)

        def read(self, indexes, window):
            asked.append(window)
            return block.source.read(indexes, window=window)

    with open_result(stored(tmp_path, bands, count), request, ORIGIN) as block:
        replace(block, source=Watched()).composite(pixels)
    assert [(window.col_off, window.row_off, window.width, window.height) for window in asked] == [(20, 0, 20, 20)]


def test_an_empty_cell_does_not_spoil_its_block(tmp_path):
    bands, count, request = a_block()
    path = stored(tmp_path, bands, count, nodata=0)
    north_west = PixelGrid(EPSG, (500_000, 5_149_800, 500_200, 5_150_000))
    with open_result(path, request, ORIGIN) as block:
        with pytest.raises(EmptyCompositeError, match=r"^https://openeo\.example: no observation"):
            block.composite(north_west)
        assert block.composite(replace(north_west, bounds=(500_200, 5_149_800, 500_400, 5_150_000))).valid.all()


def test_a_block_without_a_clear_pixel_opens(tmp_path):
    bands, count, request = a_block()
    with (
        open_result(stored(tmp_path, bands, count * 0), request, ORIGIN) as block,
        pytest.raises(EmptyCompositeError),
    ):
        block.composite(request.pixels)


def test_pixels_outside_of_the_block_are_refused(tmp_path):
    bands, count, request = a_block()
    with (
        open_result(stored(tmp_path, bands, count), request, ORIGIN) as block,
        pytest.raises(SourceError, match="does not hold"),
    ):
        block.composite(PixelGrid(EPSG, (501_200, 5_149_800, 501_400, 5_150_000)))


# Broken transfers


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no whole GeoTIFF"),
        (b"II*\0", "no whole GeoTIFF"),
        (b"\xef\xbb\xbf<!DOCTYPE html><html>Sign in</html>", "text, no GeoTIFF"),
        (json.dumps({"code": "Internal", "message": "hush"}).encode(), "text, no GeoTIFF"),
        (b"<VRTDataset rasterXSize='3' rasterYSize='2'></VRTDataset>", "text, no GeoTIFF"),
        (b"PK\x03\x04" + bytes(996), "no whole GeoTIFF"),
    ],
    ids=["empty", "a header", "HTML", "JSON", "a VRT", "a ZIP"],
)
def test_what_is_no_geotiff_is_fetched_again(tmp_path, content, told):
    (tmp_path / "result.tiff").write_bytes(content)
    with pytest.raises(SourceUnavailableError, match=rf"broke on its way \({len(content)} bytes.* {told}\)") as caught:
        read_result(tmp_path / "result.tiff", REQUEST, ORIGIN)
    assert str(caught.value).startswith(f"the file from {URL} ")
    assert "hush" not in str(caught.value)


def test_a_missing_file_is_fetched_again(tmp_path):
    with pytest.raises(SourceUnavailableError, match=r"broke on its way \(there is none\)\. It is fetched again"):
        read_result(tmp_path / "result.tiff", REQUEST, ORIGIN)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_file_cut_anywhere_is_fetched_again(tmp_path, layout):
    names = (*BANDS, "clear_count")
    bands, count, request = a_block(dtype=np.int16, nodata=-32768)
    path = stored(tmp_path, bands, count, dtype=np.int16, nodata=-32768, names=names, **layout)
    whole = path.read_bytes()
    needed = len(whole) - 4 * (layout.get("driver") == "COG")  # a COG ends with a copy of its last tile's end
    near_the_end = range(needed - 1000, needed, 13)  # where tags may lie, such as nodata and names
    for kept in (*range(0, needed, needed // 40), *near_the_end, needed - 1):
        path.write_bytes(whole[:kept])
        with (
            pytest.raises(SourceUnavailableError, match=r"broke on its way \(\d+ "),
            open_result(path, request, ORIGIN),
        ):
            pass
    path.write_bytes(whole)
    assert read_result(path, request, ORIGIN).valid.any()


def test_a_damaged_file_of_full_length_is_fetched_again(tmp_path):
    bands, count, request = a_block()
    path = stored(tmp_path, bands, count, **LAYOUTS["tiles"])
    with rasterio.open(path) as source:
        start = int(source.get_tag_item("BLOCK_OFFSET_1_1", "TIFF", bidx=1))  # rows from 64 on
    whole = bytearray(path.read_bytes())
    whole[start : start + 2000] = bytes(2000)  # as of a file that was made at its full length before it was filled
    path.write_bytes(whole)
    with pytest.raises(SourceUnavailableError, match=r"broke on its way \(what lies at row \d+ cannot be read\)"):
        read_result(path, request, ORIGIN)


# Values


def judged(folder: Path, change, dtype=np.uint16):
    bands, count, request = a_block(dtype=dtype)
    bands, count = change(bands, count)
    return read_result(stored(folder, bands, count, dtype=dtype, nodata=0), request, ORIGIN)


@pytest.mark.parametrize(
    ("change", "dtype", "told"),
    [
        (lambda b, c: (b / 10_000, c), np.float32, r"they reach from 0\.0001 to 0\.9, like reflectance itself or a"),
        (lambda b, c: (np.minimum(b, 1), c), np.uint16, r"they reach from 1 to 1, like reflectance itself or a mask"),
        (lambda b, c: (b * 0 + 7777, c), np.uint16, r"one fills all of a band \(7777, 7777, 7777\)"),
        (lambda b, c: (b * 0 + 65535, c), np.uint16, r"one fills all of a band \(65535, 65535, 65535\)"),
        (lambda b, c: (b * 0, c), np.uint16, r"B02, B03, B04 has no data where 19100 pixels are counted as clear"),
        (lambda b, c: (np.stack([b[0], b[1] * 0, b[2]]), c), np.uint16, r"B03 has no data where 19100 pixels"),
        (lambda b, c: (b * 4.0 + 12_000, c), np.float32, r"7\d% of B0\d lie outside of -1000 to 20000"),
        (
            lambda b, c: (np.where(np.arange(130) < 60, -32768, b), c),
            np.int16,
            r"45% of B02 lie outside of -1000 to 20000",  # (60 × 150 − 400) of 19100
        ),
        (lambda b, c: (b, b[0]), np.uint16, r"the counts of observations reach from 1 to 8999"),
        (
            lambda b, c: (b, np.where(c == 0, -32768, c)),
            np.int16,
            r"the counts of observations reach from -32768 to 29",
        ),
    ],
    ids=[
        "reflectance",
        "a mask",
        "one value",
        "one large value",
        "no data",
        "a band without data",
        "another scale",
        "nodata that is not told",
        "bands in another order",
        "nodata of the counts that is not told",
    ],
)
def test_values_that_are_no_reflectance_are_refused(tmp_path, change, dtype, told):
    with pytest.raises(SourceError, match=rf"values are no reflectance × 10000: {told}.*Check OPENEO_COLL.*operator"):
        judged(tmp_path, change, dtype)


@pytest.mark.parametrize(
    "change",
    [
        lambda b, c: (np.where(np.arange(130) < 4, 60_000, b), c),  # glint, 3 %
        lambda b, c: (np.where(c > 0, b % 150 + 1, 0), c),  # a lake
        lambda b, c: (np.stack([b[0], b[1], np.minimum(b[2], 1)]), c),  # water, black in one band
        lambda b, c: (b * 0 + 1, c * (np.arange(c.size).reshape(c.shape) % 200 == 150)),  # 98 clear pixels
    ],
    ids=["glint", "a lake", "black water", "holes in the clouds"],
)
def test_unusual_values_are_taken(tmp_path, change):
    assert judged(tmp_path, change).valid.any()


@pytest.mark.parametrize("layout", [LAYOUTS["strips"], LAYOUTS["band by band"]], ids=["strips", "tiles"])
def test_every_part_of_a_large_file_is_judged(tmp_path, layout):
    bands, count, request = a_block(1300, 1100)
    spoilt = bands.astype(np.int32)
    spoilt[1, 1200:, 1000:] = 30_000_000  # 0.7 % of the band, in the last part
    path = stored(tmp_path, spoilt, count, dtype=np.int32, nodata=0, **layout)
    assert read_result(path, request, ORIGIN).valid.any()
    spoilt[1, 1200:] = 30_000_000  # 7.7 %
    path = stored(tmp_path, spoilt, count, dtype=np.int32, nodata=0, **layout)
    with pytest.raises(SourceError, match=r": 8% of B03 lie outside"):
        read_result(path, request, ORIGIN)


@pytest.mark.parametrize("dtype", [np.uint8, np.complex64])
def test_a_type_that_cannot_hold_dn_is_refused(tmp_path, dtype):
    with pytest.raises(SourceError, match=rf"pixels of type {np.dtype(dtype)}, which cannot hold reflectance × 10000"):
        read(tmp_path, ((10, 20, 30), (40, 50, 60)), dtype=dtype)
