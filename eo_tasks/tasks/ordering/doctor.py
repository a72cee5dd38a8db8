"""Our jobs at the accounts, held against the open orders: what nobody waits for, and what is there twice."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from time import time

from eo_tasks.grid import GridYear
from eo_tasks.sources.openeo.backend import Backend
from eo_tasks.sources.openeo.job import Job, JobStatus
from eo_tasks.state.order import Order, OrderState, Titled, read_title
from eo_tasks.tasks.context import accounts, orders, pipeline, runs
from eo_tasks.tasks.ordering.advance import ADOPTED_S
from eo_tasks.units import Stage, Unit


class Standing(StrEnum):
    """What a job of ours is to us."""

    OPEN = "open"  # an order waits for it
    WANTED = "wanted"  # no order knows it, but it makes what a run wants: the next order takes it over
    SPARE = "spare"  # an order has another job
    STORED = "stored"  # all that it made is stored
    UNWANTED = "unwanted"  # no run wants what it makes, or it made nothing


@dataclass(frozen=True)
class OwnJob:
    """A job of ours at an account."""

    job: Job
    titled: Titled
    standing: Standing

    @property
    def is_litter(self) -> bool:
        """Whether nothing is lost with it: what finished stays, for as long as the source keeps it."""
        return self.standing is Standing.SPARE or (
            self.standing is Standing.UNWANTED and self.job.status is not JobStatus.FINISHED
        )


def own_jobs(backend: Backend) -> list[OwnJob]:
    """Our jobs at an account, those first that need looking at; what may be taken over is remembered for that.

    Raises:
        EOTasksError: The source does not answer, or refuses.
    """
    with backend.connected() as jobs:
        held = [(job, titled) for job in jobs.all() if (titled := read_title(job.title)) is not None]
    known = {order.id: order for order in orders().all(backend.account)}
    found = [OwnJob(job, titled, _standing(job, titled, known.get(titled.order_id))) for job, titled in held]
    wanted = {
        one.job.id: json.dumps([one.job.title, one.job.created_at or 0])
        for one in found
        if one.standing is Standing.WANTED
    }
    accounts().keep_orphans(backend.account, wanted)
    return sorted(found, key=lambda one: (list(Standing).index(one.standing), one.job.id), reverse=True)


def delete_litter(backend: Backend, found: Sequence[OwnJob]) -> Iterator[OwnJob]:
    """Delete jobs with which nothing is lost, one by one."""
    with backend.connected() as jobs:
        for one in found:
            if one.is_litter:
                jobs.delete(one.job.id)
                yield one


def _standing(job: Job, titled: Titled, order: Order | None) -> Standing:
    if order is not None and (job.id == order.job_id or order.state is OrderState.CREATING):
        return Standing.OPEN
    if order is not None and order.job_id and job.id not in order.ignored:
        return Standing.SPARE
    grid_years = [GridYear(cell, titled.year) for cell in sorted(titled.cells)]
    is_useful = job.status not in (JobStatus.ERROR, JobStatus.CANCELED) and (job.created_at or 0) > time() - ADOPTED_S
    missing = [grid_year for grid_year in grid_years if not pipeline().store.has_image(grid_year)]
    if not missing:
        return Standing.STORED
    units = [Unit(Stage.DOWNLOAD, grid_year.grid_id, (grid_year.year,)) for grid_year in missing]
    is_wanted = any(run.wants(unit) for run in runs().all() if not run.state.has_ended for unit in units)
    return Standing.WANTED if is_wanted and is_useful else Standing.UNWANTED
