"""The producer: ``celery -A eo_tasks call enqueue_years --kwargs '{"years": [2022, 2023], "grid_ids": [463]}'``."""

from collections.abc import Sequence
from datetime import UTC, datetime
from time import time
from typing import Any

from eo_tasks.celery import app
from eo_tasks.errors import EOTasksError, PermanentError
from eo_tasks.plan import Wanted
from eo_tasks.settings import current_settings
from eo_tasks.state.runs import Run
from eo_tasks.tasks.context import pipeline, runs
from eo_tasks.tasks.converge import Convergence, converge, room_left
from eo_tasks.units import Stage


@app.task(name="enqueue_years", throws=(EOTasksError,))
def enqueue_years(years: Sequence[int], grid_ids: Sequence[int | str] | None = None) -> dict[str, Any]:
    """Plan cells × years and enqueue what is missing.

    Args:
        years: The years to map; change is mapped between consecutive ones.
        grid_ids: Ids or labels of the cells; the whole grid if not given.

    Returns:
        The run's id and how many units are planned, skipped because their output is stored, and enqueued now.

    Raises:
        PermanentError: A year or cell does not exist, or the grid cannot be read.
    """
    run = make_run(years, grid_ids)
    runs().add(run)
    return summary(run, converge(run, room_left(current_settings().max_in_flight)))


def make_run(years: Sequence[int], grid_ids: Sequence[int | str] | None) -> Run:
    """Check what a person asked for and make it a run."""
    if isinstance(years, int | str) or isinstance(grid_ids, int | str):
        raise PermanentError('years and grid_ids are lists: {"years": [2022, 2023], "grid_ids": [463, 464]}.')
    cells = pipeline().grid.select(grid_ids)
    wanted = Wanted.of([cell.grid_id for cell in cells], years, datetime.now(UTC).year)
    return Run(wanted, time())


def summary(run: Run, result: Convergence) -> dict[str, Any]:
    """Small and JSON-ready: what is planned, skipped and enqueued, in all and by stage."""
    todo = result.plan
    grid_years = len(todo.downloads) + len(todo.stores)
    stages = {
        Stage.DOWNLOAD: (len(todo.downloads), todo.images_done + len(todo.stores)),
        Stage.STORE: (grid_years, todo.images_done),
        Stage.BTC: (len(todo.pairs) + len(todo.waiting), todo.masks_done),
    }
    by_stage = {
        str(stage): {"planned": planned, "skipped": skipped, "enqueued": result.sent.get(stage, 0)}
        for stage, (planned, skipped) in stages.items()
    }
    totals = {key: sum(counts[key] for counts in by_stage.values()) for key in ("planned", "skipped", "enqueued")}
    return {"run": run.id, **totals, "waiting_for_a_person": len(result.stuck), "stages": by_stage}
