"""Who works, and how their machines are: each worker writes it down every few seconds, and nobody has to ask."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import time

from redis import Redis

KEY = "eo-tasks:workers"
INTERVAL_S = 5.0
SILENT_S = 4 * INTERVAL_S  # a worker that said nothing for so long counts as dead
FORGOTTEN_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One graphics card; shares are of 1."""

    name: str
    load: float
    memory_gb: float
    memory_total_gb: float


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """One worker process and the machine that it is on.

    Attributes:
        name: Such as ``cpu@host``.
        queues: What it takes from.
        processes: How many units it works on at once.
        units: What it works on now.
        started_at: Seconds since 1970.
        at: When this was written.
        cpu: Share of the machine's cores in use, of 1.
        memory_gb: In use on the machine.
        worker_memory_gb: In use by the worker and its processes.
        disk_free_gb: On the file system of DATA_DIR.
    """

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
    gpus: tuple[Gpu, ...] = ()

    def is_alive(self, now: float) -> bool:
        """Whether it said something lately."""
        return now - self.at < SILENT_S


class Workers:
    """The reports, in Redis; one that stopped in order is not among them, one that was killed is, for a day."""

    def __init__(self, redis: Redis, clock: Callable[[], float] = time) -> None:
        self._redis = redis
        self._clock = clock

    def put(self, report: WorkerReport) -> None:
        """Write down how a worker is."""
        self._redis.hset(KEY, report.name, json.dumps(asdict(report)))

    def remove(self, name: str) -> None:
        """Forget a worker that stopped in order."""
        self._redis.hdel(KEY, name)

    def all(self) -> list[WorkerReport]:
        """Every worker, by name."""
        found, now = self._redis.hgetall(KEY), self._clock()
        reports = [_read(str(text)) for text in found.values()]
        if old := [report.name for report in reports if now - report.at > FORGOTTEN_S]:
            self._redis.hdel(KEY, *old)
        return sorted((report for report in reports if report.name not in old), key=lambda report: report.name)


def _read(text: str) -> WorkerReport:
    record = json.loads(text)
    record["queues"], record["units"] = tuple(record["queues"]), tuple(record["units"])
    record["gpus"] = tuple(Gpu(**gpu) for gpu in record["gpus"])
    return WorkerReport(**record)
