"""Scenes as files: bands and SCL as COGs, and the STAC items and catalog that list them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

from eo_tasks.cog import write_cog
from eo_tasks.files import write_json
from eo_tasks.raster import NODATA, REFLECTANCE_SCALE, PixelGrid
from eo_tasks.sample.clouds import NO_DATA
from eo_tasks.sample.materials import BANDS
from eo_tasks.sample.render import SUN_AZIMUTH_DEG, sun_elevation_deg
from eo_tasks.sample.season import Acquisition, Observation

COLLECTION = "sentinel-2-l2a"
TILE = "33TWM"
COMMON_NAMES = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}  # STAC eo extension, version 1.1.0
STAC_VERSION = "1.0.0"
EXTENSIONS = [
    "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
    "https://stac-extensions.github.io/projection/v1.1.0/schema.json",
    "https://stac-extensions.github.io/raster/v1.1.0/schema.json",
]
COG_TYPE = "image/tiff; application=geotiff; profile=cloud-optimized"


@dataclass(frozen=True)
class SceneRecord:
    """What the catalog says of a scene."""

    id: str
    item: dict[str, Any]


def scene_id(acquisition: Acquisition) -> str:
    """The id as earth-search writes it."""
    return f"{acquisition.satellite}_{TILE}_{acquisition.time:%Y%m%d}_0_L2A"


def stored_dn(observation: Observation, acquisition: Acquisition) -> NDArray[np.uint16]:
    """What the product's files hold: reflectance × 10000, with the baseline's offset, 0 outside the swath.

    Returns:
        DN of ``BANDS``, shape (band, y, x).
    """
    dn = np.rint(observation.reflectance * REFLECTANCE_SCALE) + acquisition.offset_dn
    inside = in_swath(acquisition, observation.reflectance.shape[-2:])
    return np.where(inside, np.clip(dn, 1, np.iinfo(np.uint16).max), NODATA).astype(np.uint16)


def stored_scl(observation: Observation, acquisition: Acquisition) -> NDArray[np.uint8]:
    """The classification as stored at 20 m; "no data" where any of a pixel's 10 m pixels lies outside the swath."""
    inside = in_swath(acquisition, observation.reflectance.shape[-2:])
    all_inside = inside.reshape(inside.shape[0] // 2, 2, inside.shape[1] // 2, 2).all(axis=(1, 3))
    return np.where(all_inside, observation.scl, np.uint8(NO_DATA))


def in_swath(acquisition: Acquisition, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Where the sensor saw the ground, shape (y, x); an edge cuts off the south-west along the orbit."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    if not acquisition.has_edge:
        return np.ones(shape, bool)
    return np.asarray(x / shape[1] + 0.25 * (1 - y / shape[0]) > 0.28)


def write_scene(folder: Path, observation: Observation, acquisition: Acquisition, pixels: PixelGrid) -> SceneRecord:
    """Write one scene's files into ``folder/<id>``, its item last.

    Args:
        folder: The collection's.
        observation: What was seen.
        acquisition: When and how.
        pixels: Where its 10 m pixels lie.
    """
    name = scene_id(acquisition)
    dn, scl = stored_dn(observation, acquisition), stored_scl(observation, acquisition)
    coarse = PixelGrid(pixels.epsg, pixels.bounds, 2 * pixels.resolution_m)
    assets = {}
    for band, image in zip(BANDS, dn, strict=True):
        write_cog(folder / name / f"{band}.tif", image[None], pixels, nodata=NODATA, names=(band,))
        assets[band] = _asset(band, pixels, "uint16")
    write_cog(folder / name / "SCL.tif", scl[None], coarse, nodata=NO_DATA, names=("SCL",), resampling="nearest")
    assets["SCL"] = _asset("SCL", coarse, "uint8")
    item = _item(name, acquisition, pixels, assets)
    item["properties"]["eo:cloud_cover"] = round(observation.sky.cloud_cover, 4)
    item["properties"]["s2:nodata_pixel_percentage"] = round(100 * float((dn[0] == NODATA).mean()), 4)
    write_json(folder / name / f"{name}.json", item)
    return SceneRecord(name, item)


def write_catalog(folder: Path, records: Sequence[SceneRecord]) -> Path:
    """Write the catalog over a collection's scenes; returns the path of ``catalog.json``."""
    ordered = sorted(records, key=lambda record: record.item["properties"]["datetime"])
    west, south, east, north = zip(*(record.item["bbox"] for record in ordered), strict=True)
    times = [record.item["properties"]["datetime"] for record in ordered]
    collection = {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "id": COLLECTION,
        "title": "Synthetic scenes in the manner of Sentinel-2 L2A",
        "description": "Made by eo_tasks.sample. No pixel of it is a measurement.",
        "license": "Apache-2.0",
        "extent": {
            "spatial": {"bbox": [[min(west), min(south), max(east), max(north)]]},
            "temporal": {"interval": [[times[0], times[-1]]]},
        },
        "links": [
            _link("root", "../catalog.json", "application/json"),
            _link("parent", "../catalog.json", "application/json"),
            *(_link("item", f"./{record.id}/{record.id}.json", "application/geo+json") for record in ordered),
        ],
    }
    catalog = {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": "eo-tasks-sample",
        "description": "The sample of eo-tasks.",
        "links": [
            _link("root", "./catalog.json", "application/json"),
            _link("child", f"./{COLLECTION}/collection.json", "application/json"),
        ],
    }
    write_json(folder / COLLECTION / "collection.json", collection)
    write_json(folder / "catalog.json", catalog)
    return folder / "catalog.json"


def _item(name: str, acquisition: Acquisition, pixels: PixelGrid, assets: dict[str, Any]) -> dict[str, Any]:
    west, south, east, north = transform_bounds(f"EPSG:{pixels.epsg}", "EPSG:4326", *pixels.bounds)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": EXTENSIONS,
        "id": name,
        "collection": COLLECTION,
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": acquisition.time.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "platform": acquisition.satellite.replace("S2", "sentinel-2").lower(),
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            "grid:code": f"MGRS-{TILE}",
            "proj:epsg": pixels.epsg,
            "proj:code": f"EPSG:{pixels.epsg}",
            "view:sun_azimuth": float(SUN_AZIMUTH_DEG),
            "view:sun_elevation": round(sun_elevation_deg(acquisition.day_of_year), 4),
            "s2:processing_baseline": acquisition.baseline,
            "earthsearch:boa_offset_applied": acquisition.offset_applied,
        },
        "links": [
            _link("root", "../../catalog.json", "application/json"),
            _link("parent", "../collection.json", "application/json"),
            _link("collection", "../collection.json", "application/json"),
        ],
        "assets": assets,
    }


def _asset(band: str, pixels: PixelGrid, dtype: str) -> dict[str, Any]:
    declared = {"name": band} | ({"common_name": COMMON_NAMES[band]} if band in COMMON_NAMES else {})
    return {
        "href": f"./{band}.tif",
        "type": COG_TYPE,
        "roles": ["data"],
        "gsd": pixels.resolution_m,
        "eo:bands": [declared],
        "raster:bands": [{"nodata": NODATA, "data_type": dtype, "spatial_resolution": pixels.resolution_m}],
        "proj:shape": list(pixels.shape),
        "proj:transform": list(pixels.transform)[:6],
    }


def _link(rel: str, href: str, media_type: str) -> dict[str, str]:
    return {"rel": rel, "href": href, "type": media_type}
