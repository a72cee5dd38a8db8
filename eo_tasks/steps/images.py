"""Downloading and storing composites."""

from contextlib import suppress
from pathlib import Path

from eo_tasks.cog import write_composite
from eo_tasks.errors import EmptyCompositeError, RasterError, StorageError
from eo_tasks.grid import Cell, GridYear
from eo_tasks.raster import Composite, PixelGrid
from eo_tasks.sources import CompositeRequest
from eo_tasks.steps.pipeline import Outcome, Pipeline
from eo_tasks.steps.records import image_record
from eo_tasks.steps.requests import cell_request, seasons
from eo_tasks.steps.scratch import FETCH_PREFIX
from eo_tasks.storage.layout import image_name


def download(pipeline: Pipeline, grid_year: GridYear) -> Outcome:
    """Make a grid-year's composite and stage it for the store.

    Raises:
        EmptyCompositeError: No clear observation exists.
        SourceError, SourceUnavailableError: As the source says.
    """
    not_before = pipeline.not_before(grid_year.download)
    if pipeline.store.has_image(grid_year, not_before) or pipeline.staging.record(grid_year, not_before) is not None:
        return Outcome(True, {})
    cell = pipeline.grid.cell(grid_year.grid_id)
    *some, most = seasons(pipeline.settings)
    with pipeline.scratch(FETCH_PREFIX) as scratch:
        for extra_months in some:
            with suppress(EmptyCompositeError):
                return _make(pipeline, cell, grid_year.year, extra_months, scratch)
        return _make(pipeline, cell, grid_year.year, most, scratch)


def _make(pipeline: Pipeline, cell: Cell, year: int, extra_months: int, scratch: Path) -> Outcome:
    request = cell_request(pipeline.settings, cell, year, extra_months)
    return stage(pipeline, cell, request, pipeline.source.composite(request, scratch), scratch)


def stage(pipeline: Pipeline, cell: Cell, request: CompositeRequest, composite: Composite, scratch: Path) -> Outcome:
    """Check a cell's composite, write it aside, and put it where the store takes it from.

    Args:
        pipeline: Where to.
        cell: Whose composite.
        request: That it was made by, for this cell or for a block.
        composite: What the source gave.
        scratch: A folder to write to.

    Raises:
        RasterError: It lies on another pixel grid than the cell.
        EmptyCompositeError: Too little of it is clear.
    """
    grid_year = GridYear(cell.grid_id, request.year)
    if composite.pixels != PixelGrid.of(cell):
        raise RasterError(f"{grid_year}: the source gave {composite.pixels}, asked for was {PixelGrid.of(cell)}.")
    _check_clear(pipeline, grid_year, request, composite)
    cog = scratch / image_name(grid_year)
    write_composite(cog, composite)
    record = image_record(cell, request, composite, cog)
    pipeline.confirm(grid_year.download)
    pipeline.staging.add(grid_year, cog, record)
    facts = {name: record[name] for name in ("size_bytes", "clear_share")}
    return Outcome(False, facts | {"pixels": composite.pixels.width * composite.pixels.height})


def _check_clear(pipeline: Pipeline, grid_year: GridYear, request: CompositeRequest, composite: Composite) -> None:
    months = f"months {request.months[0]}–{request.months[-1]}"
    if not composite.valid.any():
        raise EmptyCompositeError(f"{grid_year}: no clear observation in {months}.")
    clear, least = float(composite.valid.mean()), pipeline.settings.min_clear
    if clear < least:
        raise EmptyCompositeError(
            f"{grid_year}: {clear:.1%} of the pixels are clear in {months}, less than MIN_CLEAR={least:g}. Lower it, "
            "or add months with EXTRA_MONTHS or COMPOSITE_MONTHS."
        )


def store(pipeline: Pipeline, grid_year: GridYear) -> Outcome:
    """Insert a staged composite into the store.

    Raises:
        StorageError: Nothing is staged for it.
    """
    not_before = pipeline.not_before(grid_year.store)
    is_stored = pipeline.store.has_image(grid_year, not_before)
    if not is_stored:
        with pipeline.scratch(FETCH_PREFIX) as scratch:
            staged = pipeline.staging.get(grid_year, scratch, not_before)
            if staged is None:
                raise StorageError(
                    f"{grid_year}: no staged composite to store. Enqueue that year again to download it."
                )
            pipeline.confirm(grid_year.store)
            pipeline.store.put_image(grid_year, staged)
    pipeline.staging.remove(grid_year)
    return Outcome(is_stored, {})
