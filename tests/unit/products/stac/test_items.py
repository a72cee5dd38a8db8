"""Items out of records; what they should say was written out by hand, from the specifications."""

from itertools import pairwise

import pytest
from rasterio.warp import transform_bounds

from eo_tasks.products.stac import (
    Extent,
    Link,
    MaskAssets,
    Origin,
    Parent,
    composite_item,
    mask_item,
    model_id,
    model_item,
)
from eo_tasks.products.stac.item import period_of

PLACE = {
    "epsg": 32633,
    "bounds": [560_000, 5_127_500, 562_500, 5_130_000],
    "width": 250,
    "height": 250,
    "resolution_m": 10,
}
FILE = {"size_bytes": 1234, "sha256": "ab" * 32, "pixels_sha256": "cd" * 32, "made_at": "2024-01-01T12:00:00.000+00:00"}
VERSIONS = {"versions": {"eo_tasks": "0.1.0", "gdal": "3.10.3", "python": "3.11.7"}}
IMAGE = {
    **PLACE,
    **FILE,
    **VERSIONS,
    "grid_id": 463,
    "label": "SI_000463",
    "year": 2022,
    "months": [4, 5, 6, 7, 8, 9],
    "bands": ["B02", "B08", "B99"],
    "dtype": "uint16",
    "scale": 1e-4,
    "nodata": 0,
    "source": "stac",
    "collection": "sentinel-2-l2a",
    "scenes": ["S2A_1"],
    "dates": ["2022-06-01"],
    "offset": "applied",
    "masked_scl": [3, 8],
    "clear_share": 0.995,
    "clear_count_mean": 4.0,
}
MASK = {
    **PLACE,
    **FILE,
    **VERSIONS,
    "grid_id": 463,
    "years": [2022, 2023],
    "model": {
        "checkpoint": "blaz-r/BTC-B_oscd96",
        "revision": "main",
        "weights_sha256": "ef" * 32,
        "precision": "float16",
    },
    "recipe": {"threshold": 0.2, "window_px": 96, "stride_px": 64, "stretch": [["B04", 0.0, 0.3], ["B03", 0.0, 0.2]]},
    "threshold": 0.2,
    "changed_ha": 8.93,
    "seen_ha": 625.0,
}
ORIGIN = Origin("things", "./catalog.json", "../collection.json", "../../catalog.json")
ASSETS = MaskAssets("m.png", "m.tiff", "m_probability.tiff", (10, 20), ("11" * 32, "22" * 32))
MODEL = Link("derived_from", "../../models/m.json")
PARENTS = (Parent(2022, "../2022/a.json", [5, 6]), Parent(2023, "../2023/a.json", [4, 9]))


def composite(**changes: object) -> dict:
    return composite_item(IMAGE | changes, ORIGIN, "../../../images/2022/c.tiff")


def mask(parents=PARENTS, model=MODEL, **changes: object) -> dict:
    return mask_item(MASK | changes, ORIGIN, ASSETS, parents, model)


# Place and time


def test_an_item_lies_where_its_pixels_do():
    item = composite()
    assert item["bbox"] == pytest.approx(transform_bounds("EPSG:32633", "EPSG:4326", *PLACE["bounds"]), abs=1e-7)
    (ring,) = item["geometry"]["coordinates"]
    assert ring[0] == ring[-1]
    assert len(ring) == 5
    area = sum(x * v - u * y for (x, y), (u, v) in pairwise(ring))
    assert area > 0  # counter-clockwise, as RFC 7946 has it


def test_an_item_tells_its_pixel_grid():
    properties = composite()["properties"]
    assert properties["proj:code"] == "EPSG:32633"
    assert properties["proj:shape"] == [250, 250]
    assert properties["proj:transform"] == [10, 0, 560_000, 0, -10, 5_130_000]
    assert properties["proj:bbox"] == PLACE["bounds"]


def test_a_composite_spans_its_season():
    properties = composite()["properties"]
    assert properties["datetime"] is None
    assert (properties["start_datetime"], properties["end_datetime"]) == (
        "2022-04-01T00:00:00Z",
        "2022-09-30T23:59:59Z",
    )


@pytest.mark.parametrize(
    ("months", "end"), [([2], "2024-02-29T23:59:59Z"), (None, "2024-12-31T23:59:59Z"), ([], "2024-12-31T23:59:59Z")]
)
def test_a_season_ends_with_its_last_day_and_is_the_year_where_it_is_not_known(months, end):
    assert period_of(2024, months)[1] == end


def test_a_mask_spans_from_the_earlier_season_to_the_later_one():
    properties = mask()["properties"]
    assert (properties["start_datetime"], properties["end_datetime"]) == (
        "2022-05-01T00:00:00Z",
        "2023-09-30T23:59:59Z",
    )


# Composites


def test_bands_are_told_as_stac_1_1_does_and_as_readers_of_before_know_them():
    asset = composite()["assets"]["composite"]
    assert [band["name"] for band in asset["bands"]] == ["B02", "B08", "B99", "clear_count"]
    assert {(band["data_type"], band["nodata"]) for band in asset["bands"]} == {("uint16", 0)}
    assert asset["eo:bands"][:3] == [
        {"name": "B02", "common_name": "blue", "center_wavelength": 0.49},
        {"name": "B08", "common_name": "nir", "center_wavelength": 0.842},
        {"name": "B99"},
    ]
    assert [band.get("scale") for band in asset["raster:bands"]] == [1e-4, 1e-4, 1e-4, None]


def test_a_file_has_its_size_and_the_multihash_of_its_checksum():
    asset = composite()["assets"]["composite"]
    assert asset["file:size"] == 1234
    assert asset["file:checksum"] == "1220" + "ab" * 32  # SHA2-256 is 0x12, of 0x20 bytes
    assert asset["created"] == FILE["made_at"]


def test_a_composite_tells_how_it_was_made_and_of_what():
    properties = composite()["properties"]
    assert properties["processing:software"] == {"eo-tasks": "0.1.0", "GDAL": "3.10.3", "Python": "3.11.7"}
    assert properties["processing:level"] == "L3"
    assert "months 4–9 of 2022, without SCL classes 3, 8" in properties["processing:lineage"]
    assert properties["eo_tasks:scenes"] == ["S2A_1"]
    assert properties["eo_tasks:clear_share"] == 0.995


def test_a_record_that_tells_little_makes_an_item_that_tells_little():
    item = composite_item(
        PLACE | {"grid_id": 1, "year": 2022, "bands": ["B02"]}, ORIGIN, "../../../images/2022/c.tiff", "q.png"
    )
    assert None not in [value for name, value in item["properties"].items() if name != "datetime"]
    assert set(item["assets"]) == {"composite", "record", "thumbnail"}
    assert "file:checksum" not in item["assets"]["composite"]


# Masks


def test_a_mask_is_derived_from_both_composites_and_its_network():
    derived = [link["href"] for link in mask()["links"] if link["rel"] == "derived_from"]
    assert derived == ["../2022/a.json", "../2023/a.json", "../../models/m.json"]
    assert mask()["properties"]["processing:expression"] == {"format": "stac-mlm", "expression": "../../models/m.json"}


def test_a_mask_whose_composite_or_network_is_not_known_links_to_what_is():
    item = mask(parents=(Parent(2022, None, None), PARENTS[1]), model=None)
    assert [link["href"] for link in item["links"] if link["rel"] == "derived_from"] == ["../2023/a.json"]
    assert "processing:expression" not in item["properties"]
    assert item["properties"]["start_datetime"] == "2022-01-01T00:00:00Z"


def test_a_mask_tells_its_classes_its_scale_and_the_network():
    item = mask()
    assert [(one["value"], one["name"]) for one in item["assets"]["change"]["classification:classes"]] == [
        (0, "unchanged"),
        (1, "changed"),
        (255, "unseen"),
    ]
    (band,) = item["assets"]["probability"]["raster:bands"]
    assert band["scale"] == pytest.approx(1 / 254)
    assert item["assets"]["probability"]["file:checksum"] == "1220" + "22" * 32
    properties = item["properties"]
    assert (properties["eo_tasks:model"], properties["eo_tasks:revision"]) == ("blaz-r/BTC-B_oscd96", "main")
    assert (properties["eo_tasks:weights_sha256"], properties["eo_tasks:threshold"]) == ("ef" * 32, 0.2)


# Networks


def network(**changes: object) -> dict:
    return model_item(MASK | changes, ORIGIN, ("2022-05-01T00:00:00Z", "2023-09-30T23:59:59Z"))


def test_a_network_tells_its_name_input_output_and_settings():
    properties = network()["properties"]
    assert properties["mlm:name"] == "BTC-B_oscd96"
    assert properties["mlm:hyperparameters"] == {"window_px": 96, "stride_px": 64, "threshold": 0.2}
    (given,) = properties["mlm:input"]
    assert given["bands"] == ["B04", "B03"]
    assert given["input"]["shape"] == [-1, 2, 2, 96, 96]
    assert given["value_scaling"][1] == {"type": "min-max", "minimum": 0.0, "maximum": 0.2}


def test_weights_of_the_hub_have_their_address_there_and_local_ones_their_path():
    local = {"model": {"checkpoint": "/nets/mine", "revision": "local", "weights_sha256": None}}
    hub, path = (item["assets"]["weights"] for item in (network(), network(**local)))
    assert hub["href"] == "https://huggingface.co/blaz-r/BTC-B_oscd96/resolve/main/model.safetensors"
    assert hub["file:checksum"] == "1220" + "ef" * 32
    assert path["href"] == "/nets/mine/model.safetensors"
    assert "file:checksum" not in path
    assert hub["roles"][0] == path["roles"][0] == "mlm:model"


def test_another_network_or_threshold_is_another_item_and_another_precision_is_not():
    other = MASK["model"] | {"weights_sha256": "00" * 32}
    precise = MASK["model"] | {"precision": "float32"}
    ids = [model_id(MASK | changes) for changes in ({}, {"threshold": 0.3}, {"model": other}, {"model": precise})]
    assert len({*ids}) == 3
    assert ids[0] == ids[3]


@pytest.mark.parametrize(
    ("checkpoint", "name"),
    [("a/BTC-B", "BTC-B"), ("/x/my net/", "my-net"), ("/x/1234", "BTC"), ("/x/ž", "BTC"), ("/x/net_", "net")],
)
def test_names_have_the_characters_that_the_extension_takes(checkpoint, name):
    item = network(model=MASK["model"] | {"checkpoint": checkpoint})
    assert item["properties"]["mlm:name"] == name


def test_a_record_without_a_network_has_no_item_of_it():
    assert model_id(MASK | {"model": None}) is None
    with pytest.raises(ValueError, match="without a model"):
        network(model=None)


# Extents


def test_an_extent_is_around_all_items():
    extent, other = Extent(), Extent()
    extent.add({"bbox": [1, 2, 3, 4], "properties": {"start_datetime": "2022-04", "end_datetime": "2022-09"}})
    other.add({"bbox": [0, 3, 2, 9], "properties": {"start_datetime": "2021-04", "end_datetime": "2021-09"}})
    extent.merge(other)
    extent.merge(Extent())
    assert extent.json == {
        "spatial": {"bbox": [[0, 2, 3, 9]]},
        "temporal": {"interval": [["2021-04", "2022-09"]]},
    }


def test_an_extent_of_nothing_is_the_world_at_any_time():
    assert Extent().json == {
        "spatial": {"bbox": [[-180, -90, 180, 90]]},
        "temporal": {"interval": [[None, None]]},
    }
