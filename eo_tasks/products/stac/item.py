"""What all items have: their place, their time, their links, how they were made."""

import calendar
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pyproj import Transformer

from eo_tasks.grid import Bounds

VERSION = "1.1.0"
JSON, GEOJSON = "application/json", "application/geo+json"
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
PNG = "image/png"

# Of eo and raster not the latest: most readers, odc-stac and pystac among them, know eo:bands and raster:bands, which
# their version 2 forbids beside the bands of STAC 1.1. Both are written.
EXTENSIONS = "https://stac-extensions.github.io"
CLASSIFICATION = f"{EXTENSIONS}/classification/v2.0.0/schema.json"
EO = f"{EXTENSIONS}/eo/v1.1.0/schema.json"
FILE = f"{EXTENSIONS}/file/v2.1.0/schema.json"
MLM = f"{EXTENSIONS}/mlm/v1.4.0/schema.json"
PROCESSING = f"{EXTENSIONS}/processing/v1.1.0/schema.json"
PROJECTION = f"{EXTENSIONS}/projection/v2.0.0/schema.json"
RASTER = f"{EXTENSIONS}/raster/v1.1.0/schema.json"

Json = dict[str, Any]
PLACES = 7  # decimals of a degree: about a centimetre
SHA2_256 = "1220"  # what a multihash of 32 bytes by SHA2-256 begins with: https://multiformats.io/multihash/


@dataclass(frozen=True)
class Link:
    """A link to another file of the catalog."""

    rel: str
    href: str
    kind: str = GEOJSON
    title: str | None = None

    @property
    def json(self) -> Json:
        """As it is written."""
        title = {} if self.title is None else {"title": self.title}
        return {"rel": self.rel, "href": self.href, "type": self.kind, **title}


@dataclass(frozen=True)
class Origin:
    """Where an item lies in the catalog.

    Attributes:
        collection: Its collection's id.
        parent: The catalog that lists it, relative to it.
        collection_file: Its collection, relative to it.
        root: The root catalog, relative to it.
    """

    collection: str
    parent: str
    collection_file: str
    root: str

    @property
    def links(self) -> list[Json]:
        """Links up."""
        return [
            Link("root", self.root, JSON).json,
            Link("parent", self.parent, JSON).json,
            Link("collection", self.collection_file, JSON).json,
        ]


def item(
    name: str,
    origin: Origin,
    *,
    extensions: Sequence[str],
    place: Json,
    period: tuple[str, str],
    properties: Mapping[str, Any],
    assets: Mapping[str, Json],
    links: Sequence[Link] = (),
) -> Json:
    """An item of these parts.

    Args:
        name: Its id.
        origin: Where it lies in the catalog.
        extensions: Schemas that its fields follow.
        place: ``geometry``, and ``bbox`` where there is one.
        period: First and last moment of what it shows.
        properties: All others.
        assets: Its files.
        links: Those that do not lead up.
    """
    start, end = period
    return {
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": sorted(extensions),
        "id": name,
        "collection": origin.collection,
        **place,
        "properties": {
            "datetime": None,
            "start_datetime": start,
            "end_datetime": end,
            **{name: value for name, value in properties.items() if value is not None},
        },
        "links": [*origin.links, *(link.json for link in links)],
        "assets": dict(assets),
    }


def place_of(record: Mapping[str, Any]) -> Json:
    """Outline and bounding box of a record's pixels, in degrees."""
    epsg, bounds = record["epsg"], record["bounds"]
    return dict(_place(int(epsg), tuple(map(float, bounds))))


@lru_cache(maxsize=4096)  # a cell lies in the same place every year
def _place(epsg: int, bounds: Bounds) -> Json:
    xmin, ymin, xmax, ymax = bounds
    degrees = _degrees(epsg)
    corners = [(xmin, ymin), (xmax, ymin), (xmax, ymax), (xmin, ymax), (xmin, ymin)]
    ring = [[round(value, PLACES) for value in degrees.transform(*corner)] for corner in corners]
    bbox = [round(value, PLACES) for value in degrees.transform_bounds(*bounds)]
    return {"geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": bbox}


@lru_cache(maxsize=8)
def _degrees(epsg: int) -> Transformer:
    return Transformer.from_crs(epsg, 4326, always_xy=True)


def projection_of(record: Mapping[str, Any]) -> Json:
    """The fields of the projection extension."""
    xmin, _, _, ymax = record["bounds"]
    size = record["resolution_m"]
    return {
        "gsd": size,
        "proj:code": f"EPSG:{record['epsg']}",
        "proj:bbox": list(record["bounds"]),
        "proj:shape": [record["height"], record["width"]],
        "proj:transform": [size, 0, xmin, 0, -size, ymax],
    }


def software_of(record: Mapping[str, Any]) -> Json | None:
    """Versions of what wrote a file, under the names that people know."""
    versions = record.get("versions")
    if not versions:
        return None
    names = {"eo_tasks": "eo-tasks", "gdal": "GDAL", "python": "Python"}
    return {names.get(name, name): str(version) for name, version in versions.items()}


def file_of(record: Mapping[str, Any]) -> Json:
    """Size, checksum and age of the file that a record tells of."""
    facts = {
        "file:size": record.get("size_bytes"),
        "file:checksum": SHA2_256 + record["sha256"] if record.get("sha256") else None,
        "created": record.get("made_at"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def period_of(year: int, months: Sequence[int] | None) -> tuple[str, str]:
    """First and last moment of a season; of the whole year where the months are not known."""
    first, last = (min(months), max(months)) if months else (1, 12)
    days = calendar.monthrange(year, last)[1]
    return f"{year}-{first:02}-01T00:00:00Z", f"{year}-{last:02}-{days}T23:59:59Z"
