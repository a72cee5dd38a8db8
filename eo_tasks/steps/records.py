"""The JSON beside an image or a mask."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eo_tasks.grid import Cell, YearPair
from eo_tasks.products.facts import file_facts
from eo_tasks.products.mask import MaskFiles, MaskWriter
from eo_tasks.raster import NODATA, Composite, PixelGrid
from eo_tasks.sources import CompositeRequest
from eo_tasks.steps.pipeline import Pipeline


def image_record(cell: Cell, request: CompositeRequest, composite: Composite, cog: Path) -> dict[str, Any]:
    """The record of a composite: what it is and where it comes from."""
    pixels, origin, counts = composite.pixels, composite.origin, composite.clear_count
    return {
        "grid_id": cell.grid_id,
        "label": cell.label,
        "year": request.year,
        "months": list(request.months),
        "bands": list(composite.bands),
        "dtype": "uint16",
        "scale": 1e-4,
        "nodata": NODATA,
        "epsg": pixels.epsg,
        "bounds": list(pixels.bounds),
        "width": pixels.width,
        "height": pixels.height,
        "resolution_m": pixels.resolution_m,
        "source": origin.source,
        "collection": origin.collection,
        "scenes": list(origin.scenes),
        "dates": list(origin.dates),
        "offset": origin.offset,
        "details": dict(origin.details),
        "masked_scl": list(request.masked_scl),
        "clear_share": round(float(composite.valid.mean()), 6),
        "clear_count_mean": round(float(counts.mean()), 3),
        "pixels_sha256": composite.checksum,
        **file_facts(cog),
    }


def mask_record(
    pipeline: Pipeline,
    pair: YearPair,
    pixels: PixelGrid,
    images_sha256: Sequence[str | None],
    written: MaskWriter,
    files: MaskFiles,
) -> dict[str, Any]:
    """The record of a mask: both years, model, recipe, what it is made of, how much changed."""
    return {
        "grid_id": pair.grid_id,
        "years": [pair.before, pair.after],
        "model": pipeline.model.facts,
        "recipe": dict(pipeline.recipe),
        "threshold": pipeline.settings.btc_threshold,
        "images_sha256": list(images_sha256),
        "changed_ha": round(written.changed_px * pixels.pixel_ha, 4),
        "seen_ha": round(written.seen_px * pixels.pixel_ha, 4),
        "epsg": pixels.epsg,
        "bounds": list(pixels.bounds),
        "width": pixels.width,
        "height": pixels.height,
        "resolution_m": pixels.resolution_m,
        "cog": {"unchanged": 0, "changed": 1, "not_seen": 255},
        "probability": {"scale": "1/254", "not_seen": 255},
        "pixels_sha256": written.checksum,
        **file_facts(files.png),
    }
