"""Celery alone: three tasks that do nothing (``celery -A benchmarks.orchestration.bare worker``).

The same settings of delivery, queues, time limits and events as ours, in databases of its own of the same Redis. The
result is stored, which is how such a person knows what is done, or ignored.
"""

import os
from urllib.parse import urlsplit, urlunsplit

from celery import Celery, Task, chain
from celery.canvas import Signature

from benchmarks.orchestration.worker import prepare
from eo_tasks.celery import BTC, DOWNLOADS, STORES, configure
from eo_tasks.settings import current_settings

BROKER_DB, RESULT_DB = 2, 3


def _database(url: str, number: int) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{number}"))


app = Celery("bare")
configure(app, current_settings())
LIMITS = app.conf.task_annotations["eo_tasks.download"]
app.conf.update(
    broker_url=_database(current_settings().broker_url, BROKER_DB),
    result_backend=_database(current_settings().result_url, RESULT_DB),
    task_annotations={"*": LIMITS},
    task_routes={},
)
if os.environ.get("BENCHMARK_READY"):  # in a worker
    prepare(app)


def _task(name: str, queue: str, *, is_stored: bool) -> Task:
    @app.task(name=f"bare.{name}.{'stored' if is_stored else 'ignored'}", queue=queue, ignore_result=not is_stored)
    def task(grid_id: int, year: int) -> dict[str, object]:
        return {"unit": f"{name}_{grid_id}_{year}", "state": "completed", "size_bytes": 1}

    return task


STEPS = {
    is_stored: [
        _task(name, queue, is_stored=is_stored)
        for name, queue in (("download", DOWNLOADS), ("store", STORES), ("btc", BTC))
    ]
    for is_stored in (False, True)
}


def chained(grid_id: int, year: int, *, is_stored: bool) -> Signature:
    """Three steps, one after the other."""
    return chain(*(step.si(grid_id, year) for step in STEPS[is_stored]))
