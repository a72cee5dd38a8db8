"""Downloading and storing composites."""

from pathlib import Path
from tempfile import TemporaryDirectory

from eo_tasks.errors import EmptyCompositeError, RasterError, StorageError
from eo_tasks.grid import Cell, GridYear
from eo_tasks.raster import Composite, PixelGrid, write_composite
from eo_tasks.sources import CompositeRequest
from eo_tasks.steps.pipeline import Outcome, Pipeline
from eo_tasks.steps.records import image_record
from eo_tasks.steps.scratch import FETCH_PREFIX
from eo_tasks.storage import Record


def download(pipeline: Pipeline, grid_year: GridYear) -> Outcome:
    """Make a grid-year's composite and stage it for the store.

    Raises:
        EmptyCompositeError: No clear observation exists.
        SourceError, SourceUnavailableError: As the source says.
    """
    not_before = pipeline.not_before(grid_year.download)
    if pipeline.store.has_image(grid_year, not_before) or pipeline.staging.get(grid_year, not_before) is not None:
        return Outcome(True, {})
    chosen = pipeline.settings
    cell = pipeline.grid.cell(grid_year.grid_id)
    request = CompositeRequest.of(
        cell,
        grid_year.year,
        bands=chosen.composite_bands,
        months=chosen.composite_months,
        masked_scl=chosen.masked_scl,
        max_cloud_cover=chosen.max_cloud_cover,
    )
    cog = pipeline.staging.cog(grid_year)
    cog.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cog.parent, prefix=FETCH_PREFIX) as scratch:
        composite = pipeline.source.composite(request, Path(scratch))
        record = stage(pipeline, cell, request, composite, Path(scratch) / cog.name)
    return Outcome(False, {"size_bytes": record["size_bytes"], "clear_share": record["clear_share"]})


def stage(pipeline: Pipeline, cell: Cell, request: CompositeRequest, composite: Composite, aside: Path) -> Record:
    """Check a composite, write it aside, and put it where the store takes it from; gives its record."""
    grid_year = GridYear(cell.grid_id, request.year)
    if composite.pixels != PixelGrid.of(cell):
        raise RasterError(f"{grid_year}: the source gave {composite.pixels}, asked for was {PixelGrid.of(cell)}.")
    if not composite.valid.any():
        raise EmptyCompositeError(f"{grid_year}: no clear observation in months {request.months}.")
    write_composite(aside, composite)
    record = image_record(cell, request, composite, aside)
    pipeline.confirm(grid_year.download)
    cog = pipeline.staging.cog(grid_year)
    cog.with_suffix(".json").unlink(missing_ok=True)  # an old record must not vouch for the new file
    aside.replace(cog)
    pipeline.staging.add(grid_year, record)
    return record


def store(pipeline: Pipeline, grid_year: GridYear) -> Outcome:
    """Insert a staged composite into the store.

    Raises:
        StorageError: Nothing is staged for it.
    """
    not_before = pipeline.not_before(grid_year.store)
    is_stored, staged = pipeline.store.has_image(grid_year, not_before), pipeline.staging.get(grid_year, not_before)
    if staged is None and not is_stored:
        raise StorageError(f"{grid_year}: no staged composite to store. Enqueue that year again to download it.")
    if not is_stored and staged is not None:
        pipeline.confirm(grid_year.store)
        pipeline.store.put_image(grid_year, staged)
    pipeline.staging.remove(grid_year)
    return Outcome(is_stored, {})
