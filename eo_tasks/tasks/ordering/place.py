"""Putting downloads on order, block by block."""

import secrets
from collections.abc import Sequence
from time import time

from eo_tasks.grid import GridYear
from eo_tasks.settings import ImagerySource, OpenEOMode
from eo_tasks.state.entry import State
from eo_tasks.state.order import Order
from eo_tasks.state.runs import Run
from eo_tasks.steps.requests import request_recipe
from eo_tasks.tasks.context import accounts, ledger, not_before, orders, pipeline, runs
from eo_tasks.units import Unit


def source_of(unit: Unit) -> ImagerySource:
    """The source that a download is to come from: the first that can be used and has not failed for it."""
    preferred = pipeline().settings.imagery_source
    if len(preferred) == 1:
        return preferred[0]
    left = preferred[min(accounts().tried(unit.id), len(preferred) - 1) :]
    return next((source for source in left if not is_out(source)), left[0])


def is_out(source: ImagerySource) -> bool:
    """Whether a source's account cannot be used for now."""
    backend = pipeline().backends.get(source)
    return backend is not None and accounts().standing(backend.account).out_until > time()


def place(grid_year: GridYear, source: ImagerySource) -> Order | None:
    """Put a download on order, together with all that is missing of its block.

    Returns:
        The order; ``None`` if the composite is there, or in someone's hands.
    """
    unit, backend = grid_year.download, pipeline().backends[source]
    if not _is_missing(grid_year) or ledger().entry(unit).state is State.ORDERED:
        return None
    active = runs().active()  # as of now: one that began a moment ago wants the rest of the block too
    others = [GridYear(cell_id, grid_year.year) for cell_id in _companions(grid_year)]
    cells = [other.grid_id for other in others if _joins(other, unit, active)]
    wanting = [run for run in active if run.wants(unit)]
    if (better := source_of(unit)) is not source and better in pipeline().backends:
        return place(grid_year, better)  # the account was found out meanwhile
    order = Order(
        id=secrets.token_hex(5),
        source=str(source),
        account=backend.account,
        is_batch=backend.mode is OpenEOMode.BATCH,
        year=grid_year.year,
        cells=(grid_year.grid_id, *cells),
        recipe=request_recipe(pipeline(), backend.collection),
        run=wanting[0].id if wanting else "",
        created_at=round(time(), 3),
        not_before=not_before(unit),
    )
    return orders().join(order)


def _companions(grid_year: GridYear) -> list[int]:
    """Ids of the other cells of a cell's block."""
    made = pipeline()
    block = made.blocks.cells(made.blocks.name(made.grid.cell(grid_year.grid_id)))
    return [cell.grid_id for cell in block if cell.grid_id != grid_year.grid_id]


def _joins(other: GridYear, unit: Unit, active: Sequence[Run]) -> bool:
    """Whether another cell of the block is wanted, missing, and to come from the same source."""
    if not any(run.wants(other.download) for run in active):
        return False
    return _is_missing(other) and accounts().tried(other.download.id) == accounts().tried(unit.id)


def _is_missing(grid_year: GridYear) -> bool:
    oldest = not_before(grid_year.download)
    return not pipeline().store.has_image(grid_year, oldest) and pipeline().staging.record(grid_year, oldest) is None
