"""What a source is asked for, by the settings."""

import hashlib
import json
from collections.abc import Sequence

from eo_tasks.blocks import union
from eo_tasks.grid import Cell, GridYear
from eo_tasks.raster import PixelGrid
from eo_tasks.settings import Settings
from eo_tasks.sources import CompositeRequest
from eo_tasks.steps.pipeline import Pipeline


def cell_request(settings: Settings, cell: Cell, year: int, extra_months: int = 0) -> CompositeRequest:
    """One cell's composite."""
    return _request(settings, str(GridYear(cell.grid_id, year)), PixelGrid.of(cell), year, extra_months)


def block_request(
    settings: Settings, name: str, cells: Sequence[Cell], year: int, extra_months: int = 0
) -> CompositeRequest:
    """One composite that covers many cells."""
    return _request(settings, name, union(cells), year, extra_months)


def request_recipe(pipeline: Pipeline, collection: str, extra_months: int = 0) -> str:
    """Fingerprint of all that decides composites, beside their cells and year: the grid, the season, the bands."""
    chosen = pipeline.settings
    recipe = [
        pipeline.grid.fingerprint,
        collection,
        chosen.composite_bands,
        season(chosen, extra_months),
        chosen.masked_scl,
        chosen.max_cloud_cover,
    ]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()[:8]


def season(settings: Settings, extra_months: int = 0) -> tuple[int, ...]:
    """Months of a composite, so many more on both sides, within one year."""
    months = settings.composite_months
    return tuple(range(max(months[0] - extra_months, 1), min(months[-1] + extra_months, 12) + 1))


def seasons(settings: Settings) -> tuple[int, ...]:
    """How many months are added, try after try, until a cell is clear enough."""
    return (0, settings.extra_months) if season(settings, settings.extra_months) != season(settings) else (0,)


def _request(settings: Settings, name: str, pixels: PixelGrid, year: int, extra_months: int) -> CompositeRequest:
    return CompositeRequest(
        name,
        pixels,
        year,
        bands=settings.composite_bands,
        months=season(settings, extra_months),
        masked_scl=settings.masked_scl,
        max_cloud_cover=settings.max_cloud_cover,
    )
