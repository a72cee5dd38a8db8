"""Downloading and storing composites."""

from pathlib import Path
from tempfile import TemporaryDirectory

from eo_tasks.errors import EmptyCompositeError, RasterError, StorageError
from eo_tasks.grid import GridYear
from eo_tasks.raster import Composite, write_composite
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
    request = CompositeRequest(
        cell=pipeline.grid.cell(grid_year.grid_id),
        year=grid_year.year,
        bands=chosen.composite_bands,
        months=chosen.composite_months,
        masked_scl=chosen.masked_scl,
        max_cloud_cover=chosen.max_cloud_cover,
    )
    cog = pipeline.staging.cog(grid_year)
    cog.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cog.parent, prefix=FETCH_PREFIX) as scratch:
        composite = pipeline.source.composite(request, Path(scratch))
        record = _stage(pipeline, grid_year, request, composite, Path(scratch) / cog.name)
    return Outcome(False, {"size_bytes": record["size_bytes"], "clear_share": record["clear_share"]})


def _stage(
    pipeline: Pipeline, grid_year: GridYear, request: CompositeRequest, composite: Composite, aside: Path
) -> Record:
    """Check a composite, write it aside, and put it where the store takes it from; gives its record."""
    if composite.pixels != request.pixels:
        raise RasterError(f"{grid_year}: the source gave {composite.pixels}, asked for was {request.pixels}.")
    if not composite.valid.any():
        raise EmptyCompositeError(f"{grid_year}: no clear observation in months {request.months}.")
    write_composite(aside, composite)
    record = image_record(request, composite, aside)
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
