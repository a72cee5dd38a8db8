"""Synthetic Sentinel-2 scenes and the STAC records of them, as a static catalog and for a STAC API."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

COLLECTION = "SENTINEL2_L2A"
EPSG = 32633


@dataclass(frozen=True)
class SyntheticScene:
    """One acquisition: its files' pixels, north-up, at ``resolution_m`` from the corner ``left, top``."""

    id: str
    taken: str
    bands: Mapping[str, NDArray[Any]]
    left: float = 500_000
    top: float = 5_150_000
    resolution_m: float = 10
    nodata: float | None = 0
    epsg: int = EPSG
    properties: Mapping[str, Any] = field(default_factory=lambda: {"earthsearch:boa_offset_applied": True})
    assets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def write(self, folder: Path) -> pystac.Item:
        """Write the scene's GeoTIFFs and describe them as a STAC item with absolute paths."""
        folder = folder / self.id
        folder.mkdir(parents=True)
        transform = Affine(self.resolution_m, 0, self.left, 0, -self.resolution_m, self.top)
        height, width = next(iter(self.bands.values())).shape
        for band, image in self.bands.items():
            nodata = {} if self.nodata is None else {"nodata": self.nodata if band != "SCL" else 0}
            with rasterio.open(
                folder / f"{band}.tif",
                "w",
                driver="GTiff",
                dtype=image.dtype,
                count=1,
                height=height,
                width=width,
                crs=f"EPSG:{self.epsg}",
                transform=transform,
                **nodata,
            ) as sink:
                sink.write(image, 1)
        right, bottom = self.left + width * self.resolution_m, self.top - height * self.resolution_m
        bbox = list(transform_bounds(self.epsg, 4326, self.left, bottom, right, self.top))
        west, south, east, north = bbox
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        taken = datetime.fromisoformat(self.taken)
        item = pystac.Item(
            self.id,
            {"type": "Polygon", "coordinates": [ring]},
            bbox,
            taken,
            {"proj:epsg": self.epsg, **self.properties},
        )
        item.stac_extensions = ["https://stac-extensions.github.io/projection/v1.1.0/schema.json"]
        for band in self.bands:
            told = {
                "gsd": self.resolution_m,
                "proj:shape": [height, width],
                "proj:transform": list(transform)[:6],
                **self.assets.get(band, {}),
            }
            key = str(told.pop("key", band))
            path = str(folder / f"{band}.tif")
            item.add_asset(key, pystac.Asset(path, media_type=pystac.MediaType.COG, roles=["data"], extra_fields=told))
        return item


def write_catalog(folder: Path, scenes: Sequence[SyntheticScene], collection: str = COLLECTION) -> Path:
    """Write scenes and a self-contained static catalog of them; give the path of its ``catalog.json``."""
    catalog = pystac.Catalog("synthetic", "Synthetic scenes")
    shelf = pystac.Collection(
        collection,
        "Synthetic scenes",
        pystac.Extent(
            pystac.SpatialExtent([[-180, -90, 180, 90]]),
            pystac.TemporalExtent([[datetime.fromisoformat("2015-01-01T00:00:00Z"), None]]),
        ),
    )
    catalog.add_child(shelf)
    shelf.add_items([scene.write(folder / "scenes") for scene in scenes])
    catalog.normalize_and_save(str(folder / "catalog"), pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog" / "catalog.json"


def write_api_records(folder: Path, scenes: Sequence[SyntheticScene]) -> None:
    """Write scenes, and the ``collection.json`` and ``items.json`` from which a STAC API serves them."""
    items = [scene.write(folder / "scenes") for scene in scenes]
    bands = list(scenes[0].bands)
    dates = sorted(item.datetime.isoformat().replace("+00:00", "Z") for item in items if item.datetime)
    boxes = np.array([item.bbox for item in items])
    bbox = [*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist()]
    record = {
        "type": "Collection",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/datacube/v2.2.0/schema.json"],
        "id": COLLECTION,
        "title": COLLECTION,
        "description": "Synthetic scenes",
        "license": "other",
        "links": [],
        "extent": {"spatial": {"bbox": [bbox]}, "temporal": {"interval": [[dates[0], dates[-1]]]}},
        "item_assets": {band: {"type": pystac.MediaType.COG, "roles": ["data"]} for band in bands},
        "cube:dimensions": {
            "x": {"type": "spatial", "axis": "x", "extent": [bbox[0], bbox[2]], "reference_system": 4326},
            "y": {"type": "spatial", "axis": "y", "extent": [bbox[1], bbox[3]], "reference_system": 4326},
            "t": {"type": "temporal", "extent": [dates[0], dates[-1]]},
            "bands": {"type": "bands", "values": bands},
        },
    }
    (folder / "collection.json").write_text(json.dumps(record))
    features = []
    for item in items:
        feature = item.to_dict(include_self_link=False, transform_hrefs=False)
        for asset in feature["assets"].values():
            asset["href"] = f"file://{asset['href']}"
        features.append(feature | {"collection": COLLECTION, "stac_version": "1.0.0", "links": []})
    (folder / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    (folder / "services.json").write_text("{}")
