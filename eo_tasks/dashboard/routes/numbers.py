"""Numbers, states, failures, workers, deeds."""

import dataclasses
from dataclasses import dataclass
from time import time
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query

from eo_tasks.dashboard.asked import Log, Looking, SharedViews, told
from eo_tasks.grid import Bounds
from eo_tasks.overview.failures import FailureGroup, read_failures
from eo_tasks.overview.matrix import MOST_ROWS, Matrix, read_matrix
from eo_tasks.overview.measures import Measured, measure_states
from eo_tasks.overview.places import Shapes
from eo_tasks.overview.summary import Summary
from eo_tasks.state.audit import Deed
from eo_tasks.state.keys import years_of
from eo_tasks.state.workers import Gpu
from eo_tasks.units import Stage

router = APIRouter(tags=["numbers"])

LARGEST_ID = 2**31 - 1
IdRange = Annotated[str | None, Query(pattern=r"^\d{1,10}-\d{1,10}$", description="Only cells with these ids.")]
Box = Annotated[
    str | None,
    Query(pattern=r"^-?\d{1,3}(\.\d{1,15})?(,-?\d{1,3}(\.\d{1,15})?){3}$", description="west,south,east,north"),
]
Period = Annotated[str, Query(pattern=r"^\d{4}(_\d{4})?$", description="Such as 2023 or 2022_2023.")]


@dataclass(frozen=True)
class WorkerNow:
    """A worker and its machine, as it told last; see ``state.workers.WorkerReport``."""

    name: str
    host: str
    pid: int
    queues: tuple[str, ...]
    processes: int
    units: tuple[str, ...]
    started_at: float
    at: float
    cpu: float
    cores: int
    memory_gb: float
    memory_total_gb: float
    worker_memory_gb: float
    disk_free_gb: float
    disk_total_gb: float
    gpus: tuple[Gpu, ...]
    is_alive: bool


@router.get("/summary", responses=told(401))
def summary(views: SharedViews, _: Looking) -> Summary:
    """Where everything stands, in numbers."""
    return views.summary()


@router.get("/matrix", responses=told(401, 404))
def matrix(
    views: SharedViews,
    _: Looking,
    first: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
    rows: Annotated[int, Query(ge=1, le=2 * MOST_ROWS)] = 2 * MOST_ROWS,
    of: IdRange = None,
) -> Matrix:
    """Cells × stages × years as letters; many cells are shown in groups, which ``of`` opens."""
    part = None
    if of is not None:
        start, _dash, stop = of.partition("-")
        part = int(start), int(stop)
    return read_matrix(views.states, views.places.labels, first, rows, part)


@router.get("/grid", responses=told(401, 404))
def grid(views: SharedViews, _: Looking, bbox: Box = None) -> Shapes:
    """Outlines of the cells, or of blocks of them, in longitude and latitude."""
    return views.places.shapes(_bounds(bbox))


@router.get("/map", responses=told(401, 404))
def map_(
    views: SharedViews,
    _: Looking,
    period: Period,
    stage: Stage = Stage.DOWNLOAD,
    measure: Annotated[str, Query(pattern="^(state|changed)$")] = "state",
    bbox: Box = None,
) -> Measured:
    """A value for each outline: its state, or its changed hectares between two years."""
    box = _bounds(bbox)
    if measure == "state":
        return measure_states(views.places, views.states, stage, period, box)
    years = years_of(period)
    if len(years) != 2:
        raise HTTPException(422, "Changed hectares are of two years: give period=2022_2023.")
    return views.changes.measure(*years, box)


@router.get("/errors", responses=told(401))
def errors(views: SharedViews, _: Looking) -> list[FailureGroup]:
    """What units wait for a person for."""
    return read_failures(views.known)


@router.get("/workers", responses=told(401))
def workers(views: SharedViews, _: Looking) -> list[WorkerNow]:
    """Who works, on what machines."""
    return workers_now(views)


@router.get("/audit", responses=told(401))
def audit(deeds: Log, _: Looking, most: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[Deed]:
    """Who did what, the latest first."""
    return deeds.latest(most)


def workers_now(views: SharedViews) -> list[WorkerNow]:
    """The workers' reports, and which of them are silent."""
    now = time()
    return [
        WorkerNow(**{field.name: getattr(report, field.name) for field in dataclasses.fields(report)},
                  is_alive=report.is_alive(now))
        for report in views.known.workers.all()
    ]  # fmt: skip


def _bounds(bbox: str | None) -> Bounds | None:
    if bbox is None:
        return None
    west, south, east, north = map(float, bbox.split(","))
    return west, south, east, north
