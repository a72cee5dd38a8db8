"""Composites from static STAC catalogs of a few pixels, with answers worked out by hand."""

import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import odc.stac
import pystac
import pytest
import rasterio
import requests
from rasterio.errors import RasterioIOError
from rasterio.warp import Resampling, reproject

from eo_tasks.cog import read_composite, write_composite
from eo_tasks.errors import EmptyCompositeError, SettingsError, SourceError, SourceUnavailableError
from eo_tasks.grid import Cell
from eo_tasks.settings import Settings
from eo_tasks.sources import open_source, stac
from eo_tasks.sources.request import CompositeRequest
from eo_tasks.sources.stac_scene import APPLIED, UNKNOWN, find_asset
from tests.openeo_backend.scenes import COLLECTION, EPSG, SyntheticScene, write_catalog
from tests.real_scenes import SCENES, numpys_median, real_catalog

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning"),  # odc-geo
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),  # rasterio and odc-geo
]
BANDS = ("B02", "B03", "B04")
CLEAR, CLOUD, NO_DATA = 4, 9, 0
CELL = Cell(5, EPSG, (500_000, 5_149_970, 500_030, 5_150_000))  # 3 × 3 pixels


def scene(day: str, values, classes=CLEAR, size=(3, 3), name="S2A", hour="10:00:00", **changes) -> SyntheticScene:
    """A scene whose bands B02, B03, B04 hold ``values``, twice and three times them."""
    values = np.broadcast_to(np.asarray(values, np.uint16), size)
    nodata = changes.get("nodata", 0)
    bands = {band: np.where(values == nodata, values, values * (index + 1)) for index, band in enumerate(BANDS)}
    bands = {band: image.astype(np.uint16) for band, image in bands.items()}
    classes = np.broadcast_to(np.asarray(classes, np.uint8), size)
    return SyntheticScene(f"{name}_{day}", f"{day}T{hour}Z", {**bands, "SCL": classes}, **changes)


def composite(tmp_path, scenes, request=None, collection=COLLECTION):
    url = str(write_catalog(tmp_path, scenes))
    return source(url, collection).composite(request or wanted(), tmp_path / "scratch")


def source(url: str, collection=COLLECTION):
    return open_source(Settings(_env_file=None, imagery_source="stac", stac_url=url, stac_collection=collection))


def wanted(cell=CELL, year=2023, masked=(3, 8, 9, 10, 11), **changes) -> CompositeRequest:
    return CompositeRequest.of(cell, year, BANDS, (4, 5, 6, 7, 8, 9), masked, **changes)


def first_band(made) -> list[list[int]]:
    return made.dn[0].tolist()


def test_a_composite_is_the_median_of_the_clear_observations(tmp_path):
    classes = np.full((3, 3), CLEAR)
    classes[0] = CLOUD
    made = composite(tmp_path, [scene("2023-05-01", 100), scene("2023-06-01", 300), scene("2023-07-01", 1000, classes)])
    assert first_band(made) == [[200] * 3, [300] * 3, [300] * 3]
    assert made.dn[:, 2, 2].tolist() == [300, 600, 900]
    assert made.clear_count.tolist() == [[2] * 3, [3] * 3, [3] * 3]
    assert made.dn.dtype == made.clear_count.dtype == np.uint16
    assert made.origin.scenes == ("S2A_2023-05-01", "S2A_2023-06-01", "S2A_2023-07-01")
    assert made.origin.dates == ("2023-05-01", "2023-06-01", "2023-07-01")
    assert (made.origin.source, made.origin.collection, made.origin.offset) == ("stac", COLLECTION, APPLIED)


def test_a_pixel_is_nodata_where_no_observation_is_clear(tmp_path):
    classes = np.full((3, 3), CLEAR)
    classes[1, 1] = CLOUD
    made = composite(tmp_path, [scene("2023-05-01", 100, classes)])
    assert first_band(made) == [[100] * 3, [100, 0, 100], [100] * 3]
    assert made.clear_count[1, 1] == 0
    assert not made.valid[1, 1]


def test_masked_classes_no_data_and_values_that_are_no_class_are_not_clear(tmp_path):
    classes = np.array([[0, 3, 4], [8, 9, 10], [11, 12, 255]])
    made = composite(tmp_path, [scene("2023-05-01", 100, classes)])
    assert made.clear_count.tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    with_snow = source(str(tmp_path / "catalog" / "catalog.json")).composite(wanted(masked=(3, 8, 9, 10)), tmp_path)
    assert with_snow.clear_count.tolist() == [[0, 0, 1], [0, 0, 0], [1, 0, 0]]


def test_a_pixel_is_clear_only_where_all_bands_have_data(tmp_path):
    holed = scene("2023-05-01", 100)
    holed.bands["B03"][2, 0] = 0
    made = composite(tmp_path, [holed])
    assert made.clear_count.tolist() == [[1] * 3, [1] * 3, [0, 1, 1]]
    assert made.dn[:, 2, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("nodata", [0, 65535])
def test_nodata_is_what_the_file_says(tmp_path, nodata):
    values = np.full((3, 3), 100)
    values[0, 0] = nodata
    made = composite(tmp_path, [scene("2023-05-01", values, nodata=nodata), scene("2023-06-01", 300)])
    assert made.clear_count[0].tolist() == [1, 2, 2]
    assert first_band(made)[0] == [300, 200, 200]


def test_nodata_of_a_signed_file_is_read(tmp_path):
    signed = scene("2023-05-01", 100, nodata=-32768)
    bands = {name: image.astype(np.int16 if name != "SCL" else np.uint8) for name, image in signed.bands.items()}
    for band in BANDS:
        bands[band][0, 0] = -32768
    made = composite(tmp_path, [SyntheticScene(signed.id, signed.taken, bands, nodata=-32768)])
    assert made.clear_count[0].tolist() == [0, 1, 1]


def test_nodata_of_the_item_counts_where_the_file_has_none(tmp_path):
    values = np.full((3, 3), 100)
    values[0, 0] = 0
    told = {band: {"raster:bands": [{"nodata": 0}]} for band in BANDS}
    made = composite(tmp_path / "told", [scene("2023-05-01", values, nodata=None, assets=told)])
    assert made.clear_count[0].tolist() == [0, 1, 1]
    silent = composite(tmp_path / "silent", [scene("2023-05-01", values, nodata=None)])
    assert silent.clear_count[0].tolist() == [1, 1, 1], "0 is not assumed to be nodata"
    assert silent.dn[0, 0, 0] == 1, "a valid 0 is not stored as nodata"


@pytest.mark.parametrize(
    ("properties", "raster", "stored", "note"),
    [
        ({"earthsearch:boa_offset_applied": True, "s2:processing_baseline": "05.09"}, None, 2000, APPLIED),
        ({"earthsearch:boa_offset_applied": True}, {"scale": 0.0001, "offset": -0.1}, 2000, APPLIED),
        ({"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "05.09"}, None, 1000, "baseline 05.09"),
        ({"earthsearch:boa_offset_applied": False, "s2:processing_baseline": "03.01"}, None, 2000, "baseline 03.01"),
        ({"s2:processing_baseline": "05.09"}, {"scale": 0.0001, "offset": 0}, 2000, "+0 DN by the file's metadata"),
        ({}, {"scale": 0.0001, "offset": -0.1}, 1000, "-1000 DN by the file's metadata"),
        ({"s2:processing_baseline": "04.00"}, None, 1000, "-1000 DN by processing baseline 04.00"),
        ({"processing:version": "05.11"}, None, 1000, "-1000 DN by processing baseline 05.11"),
        ({"s2:processing_baseline": "03.00"}, None, 2000, "+0 DN by processing baseline 03.00"),
        ({}, None, 2000, UNKNOWN),
    ],
)
def test_the_radiometric_offset_is_judged_by_the_item_and_added_once(tmp_path, properties, raster, stored, note):
    assets = {band: {"raster:bands": [raster]} for band in BANDS} if raster else {}
    made = composite(tmp_path, [scene("2023-05-01", 2000, properties=properties, assets=assets)])
    assert made.dn[0, 0, 0] == stored
    assert note in made.origin.offset


def test_the_date_says_nothing_about_the_offset(tmp_path):
    reprocessed = scene("2018-05-01", 2000, properties={"s2:processing_baseline": "05.00"})
    assert composite(tmp_path, [reprocessed], wanted(year=2018)).dn[0, 0, 0] == 1000


def test_scenes_with_and_without_the_offset_meet_in_one_composite(tmp_path):
    made = composite(
        tmp_path,
        [
            scene("2023-05-01", 2000, properties={"s2:processing_baseline": "05.09"}),
            scene("2023-06-01", 1000, properties={"s2:processing_baseline": "03.01"}),
        ],
    )
    assert made.dn[0, 0, 0] == 1000
    assert "; " in made.origin.offset


def test_another_scale_is_refused(tmp_path):
    assets = {"B02": {"raster:bands": [{"scale": 0.0000275, "offset": -0.2}]}}
    with pytest.raises(SourceError, match=r"^Cell 5, 2023: scene S2A_2023-05-01: its values have scale 2.75e-05"):
        composite(tmp_path, [scene("2023-05-01", 2000, assets=assets)])


def test_granules_of_one_overpass_are_one_observation(tmp_path):
    west = scene("2023-05-01", 100, [[CLEAR, CLEAR, NO_DATA]] * 3, name="A")
    east = scene("2023-05-01", 500, [[NO_DATA, CLEAR, CLEAR]] * 3, name="B", hour="10:00:14")
    made = composite(tmp_path, [west, east])
    assert made.clear_count.tolist() == [[1] * 3] * 3
    assert first_band(made) == [[100, 500, 500]] * 3
    assert made.origin.dates == ("2023-05-01",)
    assert made.origin.details["observations"] == 1


def test_two_satellites_of_one_day_are_two_observations(tmp_path):
    first = scene("2023-05-01", 100, name="A", properties={"platform": "sentinel-2a"})
    second = scene("2023-05-01", 300, name="B", hour="10:20:00", properties={"platform": "sentinel-2b"})
    assert composite(tmp_path, [first, second]).clear_count[0, 0] == 2


def test_the_newer_processing_of_a_scene_replaces_the_older(tmp_path):
    old = scene("2023-05-01", 2000, name="N0300", properties={"s2:processing_baseline": "03.00"})
    new = scene("2023-05-01", 2500, name="N0510", properties={"s2:processing_baseline": "05.10"})
    made = composite(tmp_path, [new, old])
    assert (made.dn[0, 0, 0], made.clear_count[0, 0]) == (1500, 1)
    assert made.origin.scenes == ("N0510_2023-05-01",)


def test_a_day_is_a_solar_day(tmp_path):
    # At 177° E the overpass of one morning is cut by midnight UTC.
    before = scene("2023-05-01", 100, name="A", hour="23:59:55", epsg=32760, left=500_000, top=5_150_000)
    after = scene("2023-05-02", 300, name="B", hour="00:00:05", epsg=32760, left=500_000, top=5_150_000)
    cell = Cell(5, 32760, (500_000, 5_149_970, 500_030, 5_150_000))
    assert composite(tmp_path, [before, after], wanted(cell)).clear_count[0, 0] == 1


def test_the_season_begins_with_its_first_day_and_ends_before_the_next_month(tmp_path):
    days = ("2023-03-31", "2023-04-01", "2023-09-30", "2023-10-01", "2022-06-01")
    made = composite(tmp_path, [scene(day, 100) for day in days])
    assert made.origin.dates == ("2023-04-01", "2023-09-30")


def test_cloudier_scenes_are_left_out(tmp_path):
    clear, cloudy = ({"eo:cloud_cover": percent} for percent in (20, 80))
    scenes = [scene("2023-05-01", 100, properties=clear), scene("2023-06-01", 500, properties=cloudy)]
    assert composite(tmp_path, scenes, wanted(max_cloud_cover=20)).origin.dates == ("2023-05-01",)


def test_scenes_beside_the_cell_are_left_out(tmp_path):
    made = composite(tmp_path, [scene("2023-05-01", 100), scene("2023-06-01", 500, left=600_000)])
    assert made.origin.scenes == ("S2A_2023-05-01",)


def test_the_result_lies_on_the_snapped_grid_of_the_cell(tmp_path):
    values = np.arange(1, 37).reshape(6, 6)
    cell = Cell(5, EPSG, (500_012.5, 5_149_961.0, 500_038.0, 5_149_989.9))
    made = composite(tmp_path, [scene("2023-05-01", values, size=(6, 6))], wanted(cell))
    assert made.pixels.bounds == (500_010, 5_149_960, 500_040, 5_149_990)
    assert first_band(made) == values[1:4, 1:4].tolist()


def test_classes_of_20_m_are_never_interpolated(tmp_path):
    fine = scene("2023-05-01", 100, size=(4, 4))
    folder = tmp_path / "coarse"
    coarse = SyntheticScene(
        "SCL", "2023-05-01T10:00:00Z", {"SCL": np.array([[4, 9], [9, 4]], np.uint8)}, resolution_m=20
    )
    path = coarse.write(folder).assets["SCL"].href
    url = write_catalog(tmp_path, [fine])
    item = next((tmp_path / "catalog").rglob("S2A*.json"))
    record = json.loads(item.read_text())
    record["assets"]["SCL"]["href"] = path
    item.write_text(json.dumps(record))
    cell = Cell(5, EPSG, (500_000, 5_149_960, 500_040, 5_150_000))
    made = source(str(url)).composite(wanted(cell), tmp_path)
    assert made.clear_count.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]


def test_a_scene_of_another_zone_is_resampled_as_gdal_does(tmp_path):
    random = np.random.default_rng(3)
    smooth = np.add.outer(np.arange(200) * 5, np.arange(200) * 7) + 1000 + random.integers(0, 50, (200, 200))
    cell = Cell(5, EPSG, (731_000, 5_149_000, 731_300, 5_149_300))
    far = scene("2023-05-01", smooth, size=(200, 200), epsg=32634, left=269_000, top=5_150_000)
    made = composite(tmp_path, [far], wanted(cell))
    expected = np.zeros(made.pixels.shape, np.float32)
    with rasterio.open(tmp_path / "scenes" / far.id / "B02.tif") as file:
        reproject(
            rasterio.band(file, 1),
            expected,
            dst_transform=made.pixels.transform,
            dst_crs=EPSG,
            resampling=Resampling.bilinear,
        )
    seen = made.clear_count > 0
    assert seen.mean() > 0.9
    assert np.abs(made.dn[0][seen] - expected[seen]).max() <= 1


def test_windows_of_rows_give_the_same_composite(tmp_path, monkeypatch):
    random = np.random.default_rng(4)
    days = ("2023-05-01", "2023-06-01", "2023-07-01")
    scenes = [
        scene(day, random.integers(1, 9000, (9, 9)), random.choice([4, 5, 9], (9, 9)), size=(9, 9)) for day in days
    ]
    cell = wanted(Cell(5, EPSG, (500_000, 5_149_910, 500_090, 5_150_000)))
    url = str(write_catalog(tmp_path, scenes))
    whole = source(url).composite(cell, tmp_path)
    monkeypatch.setattr(stac, "STACK_BYTES", 3 * 3 * 9 * 4 * 2)
    cut = source(url).composite(cell, tmp_path)
    np.testing.assert_array_equal(cut.dn, whole.dn)
    np.testing.assert_array_equal(cut.clear_count, whole.clear_count)


def test_the_median_is_numpys(tmp_path):
    random = np.random.default_rng(5)
    stack = random.integers(0, 10_000, (7, 2, 8, 8)).astype(np.float32)
    clear = random.random((7, 8, 8)) > 0.4
    clear[:, 0, 0], clear[:, 1, 1] = False, True
    stack[np.broadcast_to(~clear[:, None], stack.shape)] = np.nan
    with pytest.warns(RuntimeWarning, match="All-NaN"):
        expected = np.nanmedian(stack.astype(np.float64), axis=0) / 10_000
    median, count = stac.median_composite(stack)
    np.testing.assert_allclose(median, expected)
    np.testing.assert_array_equal(count, clear.sum(axis=0))


def asset(**extra) -> pystac.Asset:
    return pystac.Asset("file.tif", extra_fields=extra)


def item(**assets) -> pystac.Item:
    made = pystac.Item("S2A", None, None, pystac.utils.str_to_datetime("2023-05-01T00:00:00Z"), {})
    for key, value in assets.items():
        made.add_asset(key, value)
    return made


def test_a_band_is_found_by_its_key_before_any_other_name():
    named = item(B04=asset(), red=asset(**{"eo:bands": [{"name": "B04", "common_name": "red"}]}))
    assert find_asset(named, "B04") is named.assets["B04"]


def test_a_band_is_found_by_the_asset_keys_of_earth_search():
    red = [{"name": "red", "common_name": "red"}]
    visual = asset(**{"eo:bands": [*red, {"name": "green"}, {"name": "blue"}]})
    searched = item(**{"visual": visual, "red-jp2": asset(**{"eo:bands": red}), "red": asset(), "scl": asset()})
    assert find_asset(searched, "B04") is searched.assets["red"]
    assert find_asset(searched, "SCL") is searched.assets["scl"]


def test_a_band_is_found_by_the_name_of_an_assets_only_band():
    visual = asset(**{"eo:bands": [{"name": "B04"}, {"name": "B03"}, {"name": "B02"}]})
    searched = item(visual=visual, file_1=asset(**{"eo:bands": [{"name": "B04"}]}))
    assert find_asset(searched, "B04") is searched.assets["file_1"]
    newer = item(file_1=asset(bands=[{"name": "x", "eo:common_name": "nir"}]))
    assert find_asset(newer, "B08") is newer.assets["file_1"]


def test_the_finest_of_several_files_of_a_band_is_taken():
    searched = item(B04_60m=asset(gsd=60), B04_10m=asset(gsd=10), B04_20m=asset(gsd=20))
    assert find_asset(searched, "B04") is searched.assets["B04_10m"]


def test_a_missing_band_is_told_with_what_the_scene_has(tmp_path):
    bare = scene("2023-05-01", 100)
    bands = {name: image for name, image in bare.bands.items() if name != "B03"}
    with pytest.raises(
        SourceError, match=r"^Cell 5, 2023: scene X has no file of band B03; it has B02, B04, SCL\. Check STAC_COLL"
    ):
        composite(tmp_path, [SyntheticScene("X", "2023-05-01T10:00:00Z", bands)])


def test_a_year_without_scenes_is_an_empty_composite(tmp_path):
    with pytest.raises(EmptyCompositeError, match=r"^Cell 5, 2019: .* no scene .* \(months 4–9\)\. Choose more months"):
        composite(tmp_path, [scene("2023-05-01", 100)], wanted(year=2019))


def test_a_limit_that_leaves_no_scene_is_told(tmp_path):
    cloudy = scene("2023-05-01", 100, properties={"eo:cloud_cover": 90})
    with pytest.raises(EmptyCompositeError, match=r"with at most 10 % cloud"):
        composite(tmp_path, [cloudy], wanted(max_cloud_cover=10))


def test_a_season_without_a_clear_pixel_is_an_empty_composite(tmp_path):
    with pytest.raises(EmptyCompositeError, match=r"^Cell 5, 2023: none of its 1 observations .* MASKED_SCL"):
        composite(tmp_path, [scene("2023-05-01", 100, CLOUD)])


def test_a_missing_catalog_is_told(tmp_path):
    with pytest.raises(SourceError, match=r"^Cell 5, 2023: .*no-catalog.json does not exist. Check STAC_URL"):
        source(str(tmp_path / "no-catalog.json")).composite(wanted(), tmp_path)


@pytest.mark.parametrize("text", ["<html>", "{}", '{"type": "FeatureCollection", "features": []}'])
def test_a_file_that_is_no_catalog_is_told(tmp_path, text):
    (tmp_path / "catalog.json").write_text(text)
    with pytest.raises(SourceError, match=r"^Cell 5, 2023: .*no STAC API and no static catalog"):
        source(str(tmp_path / "catalog.json")).composite(wanted(), tmp_path)


def test_an_unknown_collection_is_told_with_those_there_are(tmp_path):
    with pytest.raises(SourceError, match=rf"no collection 'other'; it has {COLLECTION}\. Set STAC_COLLECTION"):
        composite(tmp_path, [scene("2023-05-01", 100)], collection="other")


def test_a_scene_whose_file_is_gone_is_named(tmp_path):
    url = write_catalog(tmp_path, [scene("2023-05-01", 100)])
    (tmp_path / "scenes" / "S2A_2023-05-01" / "B03.tif").unlink()
    with pytest.raises(SourceError, match=r"^Cell 5, 2023: scene S2A_2023-05-01: a file cannot be read .*B03"):
        source(str(url)).composite(wanted(), tmp_path)


API = "https://user:sesame@stac.example/v1?key=hush"
SHOWN = r"https://user:\*+@stac\.example/v1"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What https://stac.example answers by path: a status and a record, a file, or an error; 404 for the rest."""
    pages: dict[str, Any] = {}

    def send(_: Any, request: requests.PreparedRequest, **__: Any) -> requests.Response:
        page = pages.get(urlsplit(str(request.url)).path, (404, "nothing here"))
        if isinstance(page, Exception):
            raise page
        status, body = (200, json.loads(page.read_text())) if isinstance(page, Path) else page
        response = requests.Response()
        response.status_code, response.url, response.request = status, str(request.url), request
        response.raw = io.BytesIO(json.dumps(body).encode())
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    return pages


def landing(**changes) -> tuple[int, dict]:
    search = {"rel": "search", "href": "https://stac.example/v1/search", "method": "POST", "type": "application/json"}
    data = {"rel": "data", "href": "https://stac.example/v1/collections"}
    conforms = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
    conforms.append("https://api.stacspec.org/v1.0.0/collections")
    record = {"type": "Catalog", "stac_version": "1.0.0", "id": "api", "description": "An API", "conformsTo": conforms}
    return 200, {**record, "links": [search, data], **changes}


def test_an_api_is_searched_by_collection_season_and_place(tmp_path, web):
    record = scene("2023-05-01", 100).write(tmp_path).to_dict(transform_hrefs=False)
    web["/v1"] = landing()
    web["/v1/search"] = 200, {"type": "FeatureCollection", "features": [record], "links": []}
    made = source(API).composite(wanted(), tmp_path)
    assert made.origin.scenes == ("S2A_2023-05-01",)
    assert re.fullmatch(SHOWN, made.origin.details["url"])


def test_a_static_catalog_is_read_from_the_web(tmp_path, web):
    write_catalog(tmp_path, [scene("2023-05-01", 100)])
    root = tmp_path / "catalog"
    for path in root.rglob("*.json"):
        path.write_text(path.read_text().replace(f'"{tmp_path}', f'"file://{tmp_path}'))
        web[f"/static/{path.relative_to(root)}"] = path
    made = source("https://stac.example/static/catalog.json").composite(wanted(), tmp_path)
    assert made.origin.scenes == ("S2A_2023-05-01",)


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (requests.ConnectionError("refused: /v1?key=hush"), SourceUnavailableError, "did not answer"),
        (requests.ReadTimeout("slow"), SourceUnavailableError, "did not answer"),
        ((429, "later"), SourceUnavailableError, "answered 429. It is tried again"),
        ((503, "down"), SourceUnavailableError, "answered 503. It is tried again"),
        ((401, "who?"), SourceError, r"answered 401 .*Check STAC_URL and STAC_COLLECTION"),
        ((404, "no"), SourceError, r"answered 404 .*Check STAC_URL and STAC_COLLECTION"),
        ((200, ["no catalog"]), SourceError, "no STAC API and no static catalog"),
        (landing(links=[]), SourceError, r"has no item search\. For a static catalog give the URL of its catalog.json"),
    ],
)
def test_an_api_that_refuses_or_fails_is_told_without_secrets(tmp_path, web, answer, kind, message):
    web["/v1"] = answer
    with pytest.raises(kind, match=rf"^Cell 5, 2023: {SHOWN}: .*{message}") as caught:
        source(API).composite(wanted(), tmp_path)
    assert "sesame" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_an_api_without_the_collection_is_told(tmp_path, web):
    web["/v1"] = landing()
    web["/v1/search"] = 200, {"type": "FeatureCollection", "features": [], "links": []}
    web["/v1/collections"] = 200, {"collections": [], "links": []}
    with pytest.raises(SourceError, match=rf"no collection '{COLLECTION}'; it has none\. Set STAC_COLLECTION"):
        source(API).composite(wanted(), tmp_path)


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        ("HTTP response code: 503", SourceUnavailableError, "a file did not answer .*503"),
        ("CURL error: Could not resolve host", SourceUnavailableError, "a file did not answer"),
        ("HTTP response code: 403", SourceError, "a file cannot be read .*403.*rights"),
        ("HTTP response code: 404", SourceError, "a file cannot be read .*404"),
    ],
)
def test_a_remote_file_that_fails_means_later_and_one_that_is_refused_does_not(
    tmp_path, web, monkeypatch, said, kind, message
):
    def fail(*_: Any, **__: Any) -> None:
        raise RasterioIOError(said)

    record = scene("2023-05-01", 100).write(tmp_path).to_dict(transform_hrefs=False)
    for band in record["assets"].values():
        band["href"] = "https://stac.example/file.tif?signature=hush"
    web["/v1"] = landing()
    web["/v1/search"] = 200, {"type": "FeatureCollection", "features": [record], "links": []}
    monkeypatch.setattr(odc.stac, "load", fail)
    with pytest.raises(kind, match=rf"^Cell 5, 2023: scene S2A_2023-05-01: {message}"):
        source(API).composite(wanted(), tmp_path)


def test_a_stac_source_needs_its_address():
    with pytest.raises(SettingsError, match=r"IMAGERY_SOURCE=stac needs STAC_URL"):
        open_source(Settings(_env_file=None, imagery_source="stac"))


@pytest.mark.skipif(not SCENES.is_dir(), reason="the real scenes of ../shared/data are not here")
def test_a_composite_of_five_real_scenes_is_numpys_median_and_a_valid_cog(tmp_path):
    from rio_cogeo.cogeo import cog_validate

    cell = Cell(463, EPSG, (589_981.2, 5_168_423.3, 594_979.0, 5_173_417.5))
    made = source(str(real_catalog(tmp_path))).composite(wanted(cell), tmp_path)
    assert made.pixels.shape == (500, 500)
    assert made.origin.offset == APPLIED
    median, counts = numpys_median(made.pixels)
    np.testing.assert_array_equal(made.clear_count, counts)
    seen = counts > 0
    assert seen.mean() > 0.9
    assert np.abs(made.dn[:, seen] - median[:, seen]).max() <= 0.5 + 1e-6, "rounded once"
    assert not made.dn[:, ~seen].any()
    write_composite(tmp_path / "composite.tiff", made)
    assert cog_validate(tmp_path / "composite.tiff", strict=True, quiet=True) == (True, [], [])
    np.testing.assert_array_equal(read_composite(tmp_path / "composite.tiff").dn, made.dn)
