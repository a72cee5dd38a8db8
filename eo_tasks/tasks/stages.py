"""The three stages as Celery tasks."""

from functools import partial
from typing import Any

from celery import Task
from celery.exceptions import Ignore

from eo_tasks import steps
from eo_tasks.celery import app
from eo_tasks.errors import SourceBusyError
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.state.entry import Followers, State
from eo_tasks.steps import Outcome
from eo_tasks.tasks.batch import infer_batch
from eo_tasks.tasks.context import accounts, pipeline
from eo_tasks.tasks.ordering.place import place, source_of
from eo_tasks.tasks.send import pairs_completed_by, publish
from eo_tasks.tasks.shell import UnitTask, perform


@app.task(bind=True, base=UnitTask, name="eo_tasks.download")
def download(self: Task, grid_id: int, year: int) -> dict[str, Any]:
    """Make a grid-year's composite and stage it; the chain goes on with ``store``.

    From a source that computes for minutes it is ordered, with the rest of its block: see ``tasks.ordering``.
    """
    grid_year = GridYear(grid_id, year)

    def follow(state: State) -> Followers:
        if state is not State.EMPTY:
            return Followers(then=grid_year.store)
        return Followers(empty=(grid_year.store, *(pair for _, pair in pairs_completed_by(grid_year))))

    source = source_of(grid_year.download)
    if source in pipeline().backends:
        if place(grid_year, source) is not None:
            raise Ignore  # it is on order now; whoever fetches it goes on
        step = partial(_stored_by_now, grid_year)
    else:
        step = partial(steps.download, pipeline(), grid_year)
    result, closed = perform(self, grid_year.download, step, follow)
    if closed.state.is_done and len(pipeline().settings.imagery_source) > 1:
        accounts().set_tried(grid_year.download.id, 0)
    return result


def _stored_by_now(grid_year: GridYear) -> Outcome:
    """What is not on order is here already."""
    oldest = pipeline().not_before(grid_year.download)
    if pipeline().store.has_image(grid_year, oldest) or pipeline().staging.record(grid_year, oldest) is not None:
        return Outcome(True, {})
    raise SourceBusyError(f"{grid_year}: is not on order yet", retry_after_s=1)


@app.task(bind=True, base=UnitTask, name="eo_tasks.store")
def store(self: Task, grid_id: int, year: int) -> dict[str, Any]:
    """Insert a staged composite into the store, then send the year pairs that it completes.

    The pairs are enqueued in the same atomic step in which the composite becomes stored, so that of two composites the
    later one always finds the other: whichever that is.
    """
    grid_year = GridYear(grid_id, year)

    def follow(_: State) -> Followers:
        return Followers(pairs=pairs_completed_by(grid_year))

    result, closed = perform(self, grid_year.store, lambda: steps.store(pipeline(), grid_year), follow)
    publish(closed.enqueued)
    return result


@app.task(bind=True, base=UnitTask, name="eo_tasks.btc")
def btc(self: Task, grid_id: int, before: int, after: int) -> dict[str, Any]:
    """Infer a year pair's change mask and store it, and those of pairs that wait."""
    return infer_batch(self, YearPair(grid_id, before, after))
