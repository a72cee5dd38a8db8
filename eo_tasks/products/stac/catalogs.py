"""The catalogs over the items."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eo_tasks.products.stac.item import GEOJSON, JSON, VERSION, Json, Link

CATALOG, COLLECTION = "catalog.json", "collection.json"
WORLD = [-180, -90, 180, 90]


@dataclass
class Extent:
    """Where and when the items of a collection lie, as they come."""

    bbox: list[float] | None = None
    start: str | None = None
    end: str | None = None

    def add(self, item: Mapping[str, Any]) -> None:
        """Count an item in."""
        period = item["properties"]["start_datetime"], item["properties"]["end_datetime"]
        self._merge(item.get("bbox"), *period)

    def merge(self, other: "Extent") -> None:
        """Count another's items in."""
        self._merge(other.bbox, other.start, other.end)

    def _merge(self, bbox: Sequence[float] | None, start: str | None, end: str | None) -> None:
        if bbox is not None:
            ours = self.bbox or bbox
            self.bbox = [*map(min, ours[:2], bbox[:2]), *map(max, ours[2:], bbox[2:])]
        if start is not None and end is not None:  # ISO 8601 sorts as text
            self.start, self.end = min(self.start or start, start), max(self.end or end, end)

    @property
    def json(self) -> Json:
        """As a collection tells it."""
        return {
            "spatial": {"bbox": [self.bbox or WORLD]},
            "temporal": {"interval": [[self.start, self.end]]},
        }


def catalog(
    name: str,
    description: str,
    links: Iterable[Link],
    *,
    root: str,
    parent: str | None = None,
    title: str | None = None,
) -> Json:
    """A catalog that lists others, or items.

    Args:
        name: Its id.
        description: What it lists.
        links: To those.
        root: The root catalog, relative to it.
        parent: The catalog that lists it; ``None`` for the root.
        title: What people call it.
    """
    return {
        "type": "Catalog",
        "stac_version": VERSION,
        "id": name,
        **({} if title is None else {"title": title}),
        "description": description,
        "links": _links(root, parent, links),
    }


def collection(name: str, title: str, description: str, extent: Extent, links: Iterable[Link], **others: Any) -> Json:
    """A collection right below the root.

    Args:
        name: Its id.
        title: What people call it.
        description: What its items are.
        extent: Where and when they lie.
        links: To the catalogs below it, or items.
        others: More fields.
    """
    root = f"../{CATALOG}"
    return {
        "type": "Collection",
        "stac_version": VERSION,
        "id": name,
        "title": title,
        "description": description,
        "license": "other",
        "extent": extent.json,
        **others,
        "links": _links(root, root, links),
    }


def child(href: str, title: str) -> Link:
    """A link to a catalog below."""
    return Link("child", href, JSON, title)


def member(href: str) -> Link:
    """A link to an item."""
    return Link("item", href, GEOJSON)


def _links(root: str, parent: str | None, links: Iterable[Link]) -> list[Json]:
    up = [Link("root", root, JSON).json] + ([] if parent is None else [Link("parent", parent, JSON).json])
    return [*up, *(link.json for link in links)]
