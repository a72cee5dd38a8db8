"""The producer: ``celery -A eo_tasks call enqueue_years --kwargs '{"years": [2022, 2023], "grid_ids": [463]}'``."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any

from eo_tasks.celery import app
from eo_tasks.errors import EOTasksError, PermanentError
from eo_tasks.plan import Wanted
from eo_tasks.state.runs import Run, RunState
from eo_tasks.tasks.context import accounts, pipeline, runs
from eo_tasks.tasks.feed import advance
from eo_tasks.tasks.send import dispatch
from eo_tasks.tasks.survey import Survey
from eo_tasks.units import Stage

ANSWER_S = 3.0  # the caller waits; what is not looked at by then is the feeder's


@app.task(name="enqueue_years", throws=(EOTasksError,))
def enqueue_years(
    years: Sequence[int], grid_ids: Sequence[int | str] | None = None, resume: bool = True
) -> dict[str, Any]:
    """Make cells × years a run, look at its first cells, and enqueue what they miss; the feeder does the rest.

    Args:
        years: The years to map; change is mapped between consecutive ones.
        grid_ids: Ids or labels of the cells; the whole grid if not given.
        resume: Whether what is stored already counts; if not, everything is made anew and replaced.

    Returns:
        The run's id and state, how many cells it has and how many were looked at, and of these how many units are
        planned, skipped because their output is stored, and enqueued now.

    Raises:
        PermanentError: A year or cell does not exist, or the grid cannot be read.
    """
    asked = make_run(years, grid_ids, resume=resume)
    pipeline().store.put_cells(pipeline().grid.select(asked.wanted.grid_ids))
    known = runs().get(asked.id)
    run = runs().add(asked)
    if known is None or known.state.has_ended:
        accounts().forget_spent(run.id)
        accounts().forgive()
    if run.state is not RunState.ACTIVE:
        return summary(run, [], Counter())
    if not runs().position(run).cell:
        runs().rewind(run)  # ask for it again, and it is looked at again
    found = advance(run, monotonic() + ANSWER_S)
    sent = Counter(
        unit.stage for stage in reversed(Stage) for unit in dispatch(stage, runs().active()) if run.wants(unit)
    )
    return summary(runs().get(run.id) or run, found, sent)


def make_run(years: Sequence[int], grid_ids: Sequence[int | str] | None, *, resume: bool = True) -> Run:
    """Check what a person asked for and make it a run."""
    if isinstance(years, int | str) or isinstance(grid_ids, int | str):
        raise PermanentError('years and grid_ids are lists: {"years": [2022, 2023], "grid_ids": [463, 464]}.')
    cells = pipeline().grid.select(grid_ids)
    wanted = Wanted.of([cell.grid_id for cell in cells], years, datetime.now(UTC).year)
    now = time()
    return Run(wanted, now, 0 if resume else now, since=now)


def summary(run: Run, found: Sequence[Survey], sent: Counter[Stage]) -> dict[str, Any]:
    """Small and JSON-ready: what is planned, skipped and enqueued, in all and by stage."""
    planned: Counter[Stage] = Counter()
    skipped: Counter[Stage] = Counter()
    for part in found:
        todo = part.plan
        missing = len(todo.downloads) + len(todo.stores)
        planned.update({Stage.DOWNLOAD: len(todo.downloads), Stage.STORE: missing})
        planned[Stage.BTC] += len(todo.pairs) + len(todo.waiting)
        skipped.update(part.done)
    counts = {"planned": planned, "skipped": skipped, "enqueued": sent}
    return {
        "run": run.id,
        "state": str(run.state),
        "cells": len(run.wanted.grid_ids),
        "cells_looked_at": _cells_looked_at(run, found),
        **{what: counted.total() for what, counted in counts.items()},
        "waiting_for_a_person": sum(len(part.stuck) for part in found),
        "stages": {str(stage): {what: counted[stage] for what, counted in counts.items()} for stage in Stage},
    }


def _cells_looked_at(run: Run, found: Sequence[Survey]) -> int:
    if not found:
        return 0
    position = runs().position(run)
    return position.cell or len(run.wanted.grid_ids)
