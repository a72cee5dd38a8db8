"""A worker writes down every few seconds how it and its machine are, so that nobody has to ask it.

A thread of its own does that: while Redis is away, or a disk hangs, the worker's loop turns on.
"""

import logging
import os
import socket
from contextlib import suppress
from threading import Event, Thread
from time import time
from typing import Any

import psutil
from celery import bootsteps
from celery.worker.state import active_requests
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from eo_tasks.celery import BTC
from eo_tasks.errors import PermanentError
from eo_tasks.settings import current_settings
from eo_tasks.state.workers import INTERVAL_S, WorkerReport, Workers
from eo_tasks.units import Unit
from workers.machine import GB, disk_gb, family_memory_gb, gpus

log = logging.getLogger(__name__)

ANSWER_S = 2.0
LEAVE_S = 3.0  # a worker that stops does not wait longer for its report to be taken back


class Presence(bootsteps.StartStopStep):  # type: ignore[misc]
    """Keeps this worker's report in Redis, and takes it back when the worker stops in order.

    It comes after the pool, whose processes are made before there is a second thread.
    """

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._stop = Event()
        self._thread: Thread | None = None

    def start(self, worker: Any) -> None:
        """Report now and from then on."""
        self._thread = Thread(target=self._keep, args=(worker, time()), name="presence", daemon=True)
        self._thread.start()

    def stop(self, worker: Any) -> None:
        """Take the report back."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(LEAVE_S)

    def terminate(self, worker: Any) -> None:
        """Take the report back: also a worker that drops its work stops in order."""
        self.stop(worker)

    def _keep(self, worker: Any, started_at: float) -> None:
        redis = _connect()
        workers, is_heard = Workers(redis), True
        while not self._stop.is_set():
            try:
                workers.put(report(worker, started_at))
                is_heard = True
            except (RedisError, OSError, psutil.Error) as error:
                if is_heard:  # once an outage
                    log.warning("worker's report not written", extra={"error": f"{type(error).__name__}: {error}"})
                is_heard = False
            self._stop.wait(INTERVAL_S)
        with suppress(RedisError):
            workers.remove(str(worker.hostname))
        redis.close()


def report(worker: Any, started_at: float) -> WorkerReport:
    """How a worker and its machine are now."""
    queues = tuple(worker.app.amqp.queues.consume_from)
    memory = psutil.virtual_memory()
    free_gb, total_gb = disk_gb(current_settings().folder)
    return WorkerReport(
        name=str(worker.hostname),
        host=socket.gethostname(),
        pid=os.getpid(),
        queues=queues,
        processes=int(worker.concurrency),
        units=_at_work(),
        started_at=started_at,
        at=time(),
        cpu=psutil.cpu_percent() / 100,  # since it was asked last
        cores=psutil.cpu_count() or 1,
        memory_gb=(memory.total - memory.available) / GB,
        memory_total_gb=memory.total / GB,
        worker_memory_gb=family_memory_gb(),
        disk_free_gb=free_gb,
        disk_total_gb=total_gb,
        gpus=gpus() if BTC in queues else (),
    )


def _at_work() -> tuple[str, ...]:
    """Units at work; a task that is no unit's by its name."""
    while True:
        with suppress(RuntimeError):  # the loop took one on, or was done with one, while this looked
            return tuple(sorted(_name(request) for request in list(active_requests)))


def _name(request: Any) -> str:
    try:
        return Unit.parse(str(request.id)).id
    except PermanentError:
        return str(request.name)


def _connect() -> Redis:
    """A client that gives up soon: the next report comes in a moment."""
    return Redis.from_url(
        current_settings().result_url,
        decode_responses=True,
        socket_connect_timeout=ANSWER_S,
        socket_timeout=ANSWER_S,
        retry=Retry(NoBackoff(), 0),
    )
