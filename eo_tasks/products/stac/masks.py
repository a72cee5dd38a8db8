"""Change masks as STAC items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eo_tasks.change import CHANGED, UNCHANGED, UNSEEN
from eo_tasks.products.mask import PROBABILITY_SCALE
from eo_tasks.products.stac.item import (
    CLASSIFICATION,
    COG,
    FILE,
    JSON,
    PNG,
    PROCESSING,
    PROJECTION,
    RASTER,
    SHA2_256,
    Json,
    Link,
    Origin,
    file_of,
    item,
    period_of,
    place_of,
    projection_of,
    software_of,
)


@dataclass(frozen=True)
class MaskAssets:
    """The files of a mask, relative to its item, with what cannot be read in its record.

    Attributes:
        sha256: Checksums of the two COGs.
        sizes: Their sizes, bytes.
        sheet: The cell's contact sheet, if there is one.
    """

    png: str
    cog: str
    probability: str
    sizes: tuple[int, int]
    sha256: tuple[str, str]
    sheet: str | None = None


@dataclass(frozen=True)
class Parent:
    """One of a mask's two composites.

    Attributes:
        item: Its item, relative to the mask's; ``None`` if it is not stored any more.
        months: Its season, as far as known.
    """

    year: int
    item: str | None
    months: Sequence[int] | None


def mask_id(grid_id: int, before: int, after: int) -> str:
    """The item's id: the name of the mask's file, with both years."""
    return f"change_mask_grid_{grid_id}_{before}_{after}"


def mask_item(
    record: Mapping[str, Any],
    origin: Origin,
    assets: MaskAssets,
    parents: tuple[Parent, Parent],
    model: Link | None,
) -> Json:
    """The item of a mask; it is derived from the items of both composites, and of the model.

    Args:
        record: The JSON beside its PNG.
        origin: Where the item lies in the catalog.
        assets: Its files.
        parents: The earlier composite and the later one.
        model: The item of the network that made it, if the record tells which.
    """
    grid_id, (before, after) = record["grid_id"], record["years"]
    made_by = record.get("model") or {}
    earlier, later = parents
    period = period_of(before, earlier.months)[0], period_of(after, later.months)[1]
    of_model = {"format": "stac-mlm", "expression": model.href} if model else None
    return item(
        mask_id(grid_id, before, after),
        origin,
        extensions=[CLASSIFICATION, FILE, PROCESSING, PROJECTION, RASTER],
        place=place_of(record),
        period=period,
        properties={
            "title": f"Cell {grid_id}, change {before}–{after}",
            **projection_of(record),
            "processing:level": "L4",
            "processing:lineage": f"Change between the composites of {before} and {after}, by BTC",
            "processing:software": software_of(record),
            "processing:expression": of_model,
            "eo_tasks:grid_id": grid_id,
            "eo_tasks:years": [before, after],
            "eo_tasks:changed_ha": record.get("changed_ha"),
            "eo_tasks:seen_ha": record.get("seen_ha"),
            "eo_tasks:model": made_by.get("checkpoint"),
            "eo_tasks:revision": made_by.get("revision"),
            "eo_tasks:weights_sha256": made_by.get("weights_sha256"),
            "eo_tasks:precision": made_by.get("precision"),
            "eo_tasks:threshold": record.get("threshold"),
            "eo_tasks:pixels_sha256": record.get("pixels_sha256"),
        },
        assets=_assets(record, assets),
        links=[
            *(
                Link("derived_from", parent.item, title=f"Composite of {parent.year}")
                for parent in parents
                if parent.item is not None
            ),
            *([model] if model else []),
        ],
    )


def _assets(record: Mapping[str, Any], files: MaskAssets) -> dict[str, Json]:
    created = {"created": record["made_at"]} if record.get("made_at") else {}
    facts = [
        {"file:size": size, "file:checksum": SHA2_256 + sha256, **created}
        for size, sha256 in zip(files.sizes, files.sha256, strict=True)
    ]
    classes = [
        {"value": UNCHANGED, "name": "unchanged", "description": "Seen in both years, not changed"},
        {"value": CHANGED, "name": "changed", "description": "Changed", "color_hint": "E63C28"},
        {"value": UNSEEN, "name": "unseen", "description": "Not seen in both years", "nodata": True},
    ]
    common = {"data_type": "uint8", "nodata": UNSEEN}
    assets: dict[str, Json] = {
        "change": {
            "href": files.cog,
            "type": COG,
            "title": "Changed, unchanged, not seen",
            "roles": ["data"],
            "bands": [{"name": "change", **common}],
            "raster:bands": [{"name": "change", **common}],
            "classification:classes": classes,
            **facts[0],
        },
        "probability": {
            "href": files.probability,
            "type": COG,
            "title": "Probability of change",
            "roles": ["data"],
            "bands": [{"name": "change_probability", **common}],
            "raster:bands": [{"name": "change_probability", **common, "scale": 1 / PROBABILITY_SCALE, "offset": 0}],
            **facts[1],
        },
        "picture": {
            "href": files.png,
            "type": PNG,
            "title": "White where changed",
            "roles": ["visual"],
            **file_of(record),
        },
        "record": {
            "href": f"{files.png.removesuffix('.png')}.json",
            "type": JSON,
            "title": "What the mask was made of",
            "roles": ["metadata"],
        },
    }
    if files.sheet is not None:
        assets["overview"] = {"href": files.sheet, "type": PNG, "title": "The cell in all years", "roles": ["overview"]}
    return assets
