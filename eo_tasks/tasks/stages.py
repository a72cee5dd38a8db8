"""The three stages as Celery tasks."""

from typing import Any

from celery import Task

from eo_tasks import steps
from eo_tasks.celery import app
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.tasks.batch import infer_batch
from eo_tasks.tasks.context import ledger, pipeline
from eo_tasks.tasks.send import send_ready_pairs
from eo_tasks.tasks.shell import UnitTask, perform


@app.task(bind=True, base=UnitTask, name="eo_tasks.download")
def download(self: Task, grid_id: int, year: int) -> dict[str, Any]:
    """Make a grid-year's composite and stage it; the chain goes on with ``store``."""
    grid_year = GridYear(grid_id, year)
    result = perform(self, grid_year.download, lambda: steps.download(pipeline(), grid_year))
    ledger().enqueue(grid_year.store)
    return result


@app.task(bind=True, base=UnitTask, name="eo_tasks.store")
def store(self: Task, grid_id: int, year: int) -> dict[str, Any]:
    """Insert a staged composite into the store, then send the year pairs that it completes."""
    grid_year = GridYear(grid_id, year)
    result = perform(self, grid_year.store, lambda: steps.store(pipeline(), grid_year))
    send_ready_pairs(grid_year)
    return result


@app.task(bind=True, base=UnitTask, name="eo_tasks.btc")
def btc(self: Task, grid_id: int, before: int, after: int) -> dict[str, Any]:
    """Infer a year pair's change mask and store it, and those of pairs that wait."""
    return infer_batch(self, YearPair(grid_id, before, after))
