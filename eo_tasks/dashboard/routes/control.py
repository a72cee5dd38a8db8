"""What a person does: start, pause, resume, stop, cancel, try again. Each is written down with who did it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from time import time
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path
from pydantic import BaseModel, ConfigDict, Field

from eo_tasks.dashboard.access import Visitor
from eo_tasks.dashboard.asked import Acting, Log, SharedViews, told
from eo_tasks.overview.summary import RunNumbers, read_run
from eo_tasks.ranges import write_ranges
from eo_tasks.state.audit import Audit, Deed
from eo_tasks.tasks import control
from eo_tasks.tasks.enqueue import enqueue_years, make_run
from eo_tasks.tasks.forecast import forecast
from eo_tasks.units import Stage

router = APIRouter(tags=["control"])

MOST_CELLS = 1_000_000
GridId = Annotated[int, Field(ge=0, le=2**31 - 1)]
Year = Annotated[int, Field(ge=1900, le=9999)]


class Request(BaseModel):
    """Cells × years.

    Attributes:
        grid_ids: Ids or labels; the whole grid for ``None``.
        resume: Whether what is stored counts; if not, everything is made anew.
    """

    model_config = ConfigDict(extra="forbid")

    years: list[Year] = Field(min_length=1, max_length=100)
    grid_ids: list[GridId | Annotated[str, Field(max_length=100)]] | None = Field(None, max_length=MOST_CELLS)
    resume: bool = True


class Which(BaseModel):
    """Units that wait for a person: those that fit everything that is given.

    Attributes:
        error: An id of ``/errors``, or a class of errors.
        empty: Those without imagery, instead of those that failed.
    """

    model_config = ConfigDict(extra="forbid")

    error: str | None = Field(None, max_length=200)
    cell: GridId | None = None
    year: Year | None = None
    stage: Stage | None = None
    run: str | None = Field(None, max_length=100)
    empty: bool = False


class Action(StrEnum):
    """What is done to a run."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Acted:
    """A run after something was done to it.

    Attributes:
        withdrawn: Units that waited in queues, or are given up.
    """

    run: RunNumbers
    withdrawn: int


@dataclass(frozen=True)
class Retried:
    """What became of units that were to be tried again: queued now, queued when there is room, wanted by no run."""

    sent: int
    ready: int
    unwanted: int


@dataclass(frozen=True)
class Plan:
    """What a request would do.

    Attributes:
        units: By stage, and by todo, done, in_flight, stuck, empty, blocked.
        credits: Likely cost; ``None`` if unknown.
        busy_s: Likely time of each stage; ``None`` if unknown.
    """

    run: str
    cells: int
    units: dict[str, dict[str, int]]
    stale_masks: int
    requests: int | None
    credits: float | None
    busy_s: dict[str, float | None]


KINDS = ("todo", "done", "in_flight", "stuck", "empty", "blocked")


@router.post("/runs", status_code=201, responses=told(401, 403, 404, 409))
def start(given: Request, visitor: Acting, audit: Log) -> dict[str, Any]:
    """Enqueue what is missing of cells × years; the answer is the producer's."""
    done: dict[str, Any] = _audited(
        audit,
        visitor,
        "start" if given.resume else "start afresh",
        f"{write_ranges(given.years)}, {'all' if given.grid_ids is None else len(given.grid_ids)} cells",
        lambda: enqueue_years(given.years, given.grid_ids, given.resume),
        lambda done: f"run {done['run']}: {done['planned']} planned, {done['enqueued']} enqueued",
    )
    return done


@router.post("/runs/plan", responses=told(401, 403, 404, 409))
def plan(given: Request, _: Acting) -> Plan:
    """What that request would do, and cost; nothing is changed."""
    run = make_run(given.years, given.grid_ids, resume=given.resume)
    made = forecast(run)
    units = {str(stage): {kind: made.number(stage, kind) for kind in KINDS} for stage in Stage}
    busy = {str(stage): seconds for stage, seconds in made.busy_s.items()}
    return Plan(run.id, len(run.wanted.grid_ids), units, made.stale_masks, made.requests, made.credits, busy)


@router.post("/runs/{run}/{action}", responses=told(401, 403, 404, 409))
def act_on_run(
    run: Annotated[str, Path(max_length=100)], action: Action, visitor: Acting, audit: Log, views: SharedViews
) -> Acted:
    """Pause, resume, stop or cancel a run."""
    if not any(one.id == run for one in views.known.runs.all()):
        raise HTTPException(404, f"Run {run}: no such run.")
    found = control.find_run(run)

    def do() -> int:
        return getattr(control, action)(found) or 0

    number = _audited(audit, visitor, action, f"run {run}", do, lambda done: f"{done} units withdrawn")
    return Acted(read_run(views.known, control.find_run(run)), number)


@router.post("/retry", responses=told(401, 403, 404, 409))
def retry(which: Which, visitor: Acting, audit: Log, views: SharedViews) -> Retried:
    """Try units again that wait for a person."""
    units = control.choose(which.error, which.cell, which.year, which.stage, which.run, is_empty=which.empty)
    if not units:
        raise HTTPException(404, "No failed unit matches.")
    chosen = ", ".join(f"{name} {value}" for name, value in which.model_dump().items() if value not in (None, False))
    done = _audited(
        audit,
        visitor,
        "retry",
        chosen or "all that failed",
        lambda: control.retry(units),
        lambda done: f"{done.sent} queued, {done.ready} when there is room, {done.unwanted} unwanted",
    )
    return Retried(done.sent, done.ready, done.unwanted)


def _audited(
    audit: Audit, visitor: Visitor, action: str, target: str, do: Callable[[], Any], told_of: Callable[[Any], str]
) -> Any:
    """Do it and write down what came of it, or why it could not be done."""
    who = f"{visitor.user} (dashboard)"
    try:
        done = do()
    except Exception as error:
        audit.add(Deed(time(), who, action, target, f"not done: {error}"))
        raise
    audit.add(Deed(time(), who, action, target, told_of(done)))
    return done
