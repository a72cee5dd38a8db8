"""A worker with steps that do nothing (``celery -A benchmarks.orchestration.steps worker``).

Like the real ones they ask how old an output may be and confirm their lease; there is no grid, source, store or
network. ``BENCHMARK_STEP_S`` is how long each waits.
"""

import os
from collections.abc import Generator, Iterable, Sequence
from time import sleep

from benchmarks.orchestration.worker import prepare
from eo_tasks import steps
from eo_tasks.celery import app
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.steps import Outcome, Pipeline
from eo_tasks.units import Unit

__all__ = ["app", "install"]

STEP_S = float(os.environ.get("BENCHMARK_STEP_S", "0"))


def execute(pipeline: Pipeline, unit: Unit) -> Outcome:
    """Do what every real step does of orchestration, and wait."""
    pipeline.not_before(unit)
    if STEP_S:
        sleep(STEP_S)
    pipeline.confirm(unit)
    return Outcome(False, {"size_bytes": 1})


def download(pipeline: Pipeline, grid_year: GridYear) -> Outcome:
    """In the place of ``steps.download``."""
    return execute(pipeline, grid_year.download)


def store(pipeline: Pipeline, grid_year: GridYear) -> Outcome:
    """In the place of ``steps.store``."""
    return execute(pipeline, grid_year.store)


def infer_all(
    pipeline: Pipeline, groups: Iterable[Sequence[YearPair]]
) -> Generator[tuple[YearPair, Outcome | Exception], None, None]:
    """In the place of ``steps.infer_all``."""
    for group in groups:
        for pair in group:
            yield pair, execute(pipeline, pair.btc)


def install() -> None:
    """Put these steps in the place of the real ones, for this process."""
    steps.download, steps.store, steps.infer_all = download, store, infer_all  # type: ignore[assignment]


if os.environ.get("BENCHMARK_READY"):  # in a worker
    install()
    prepare(app)
