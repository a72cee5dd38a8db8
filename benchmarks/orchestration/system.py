"""A Redis of its own, workers as processes, and what both of them do and take."""

import os
import platform
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from math import log
from pathlib import Path
from statistics import linear_regression, median
from threading import Event, Thread
from time import monotonic, perf_counter
from typing import Any

import psutil
from redis import Redis

from eo_tasks import __version__
from eo_tasks.local.redis_server import RedisServer, prepare_redis, wait_for_redis

REPOSITORY = Path(__file__).parents[2]
LOOK_S = 0.005
START_S = 60.0
STEP_END_S = 300.0
REWRITE_END_S = 120.0


@contextmanager
def own_redis(folder: Path) -> Iterator[RedisServer]:
    """A server that is gone afterwards; with the append-only file on, as in operation."""
    server = prepare_redis(folder)
    with subprocess.Popen(server.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_redis(server)
            yield server
        finally:
            process.kill()


def client(server: RedisServer, database: int = 0) -> Redis:
    """A client of one of its databases."""
    return Redis(port=server.port, password=server.password, db=database, decode_responses=True)


@dataclass
class Workers:
    """Celery workers, stopped but when it is their turn, so that they take nothing from the others."""

    environment: Mapping[str, str]
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, module: str, *arguments: str, **variables: str) -> None:
        """Start a worker, and return when it is ready."""
        name = f"worker-{len(self.processes)}"
        ready = self.folder / f"{name}.ready"
        with (self.folder / f"{name}.log").open("ab") as log:
            worker = ("worker", "-n", f"{name}@bench", "-l", "WARNING", *arguments)
            process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", module, *worker],
                env={**self.environment, "BENCHMARK_READY": str(ready), **variables},
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        end, look = monotonic() + START_S, Event()
        while not ready.exists():
            if process.poll() is not None or monotonic() > end:
                raise RuntimeError(f"{name} does not start:\n{(self.folder / f'{name}.log').read_text()[-3000:]}")
            look.wait(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of all workers."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def freeze(self) -> None:
        """It is the turn of others."""
        self.signal(signal.SIGSTOP)

    def go(self) -> None:
        """It is their turn."""
        self.signal(signal.SIGCONT)

    def quit(self) -> None:
        """Have them end in order, so that they write their profile."""
        self.go()
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(START_S)

    def cpu_s(self) -> float:
        """Processor time of all their processes so far."""
        total = 0.0
        for process in self.processes:
            parent = psutil.Process(process.pid)
            for one in (parent, *parent.children(recursive=True)):
                times = one.cpu_times()
                total += times.user + times.system
        return total


@contextmanager
def workers(environment: Mapping[str, str], folder: Path) -> Iterator[Workers]:
    """Workers that are all gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    running = Workers(environment, folder)
    try:
        yield running
    finally:
        running.signal(signal.SIGKILL)
        for process in running.processes:
            process.wait()


@dataclass(frozen=True)
class Cost:
    """What a round took."""

    seconds: float
    worker_cpu_s: float
    redis_cpu_s: float

    @property
    def cpu_s(self) -> float:
        """Processor time of workers and Redis: unlike the rate, it hardly depends on what else the machine does."""
        return self.worker_cpu_s + self.redis_cpu_s


class Watch:
    """Looks at a broker until nothing is queued and nothing unacknowledged."""

    def __init__(self, server: RedisServer, database: int, queues: Sequence[str]) -> None:
        self.redis = client(server, database)
        self._queues = queues

    def is_idle(self) -> bool:
        """In one step of Redis, so that a message between two queues is seen."""
        pipe = self.redis.pipeline(transaction=True)
        for name in self._queues:
            pipe.llen(name)
        pipe.hlen("unacked")
        return not any(pipe.execute())

    def run(self, turn: Workers) -> Cost:
        """Let workers work until all is done."""
        cpu_s, redis_s = turn.cpu_s(), redis_cpu_s(self.redis)
        start, look = perf_counter(), Event()
        turn.go()
        idle_since: float | None = None
        while idle_since is None or perf_counter() - idle_since < 4 * LOOK_S:  # a pop and its note are two steps
            look.wait(LOOK_S)
            idle_since = (idle_since or perf_counter()) if self.is_idle() else None
            if perf_counter() - start > STEP_END_S:
                raise RuntimeError(f"not done within {STEP_END_S:g} s; see the logs in {turn.folder}")
        seconds = idle_since - start
        turn.freeze()
        return Cost(seconds, turn.cpu_s() - cpu_s, redis_cpu_s(self.redis) - redis_s)


def redis_cpu_s(redis: Redis) -> float:
    """Processor time of the server so far."""
    used = redis.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def command_s(redis: Redis) -> float:
    """Time that the server spent in commands so far; those inside a script count with it alone."""
    stats = redis.info("commandstats")
    return sum(float(one["usec"]) for name, one in stats.items() if not name.startswith("cmdstat_info")) / 1e6


def used_bytes(redis: Redis) -> int:
    """Memory of the data: without buffers of clients and of the append-only file.

    While that file is rewritten its buffer takes more than the server tells: wait for the end.
    """
    end, look = monotonic() + REWRITE_END_S, Event()
    while redis.info("persistence")["aof_rewrite_in_progress"] and monotonic() < end:
        look.wait(0.1)
    found = redis.info("memory")
    return int(found["used_memory"]) - int(found["mem_aof_buffer"]) - int(found["mem_clients_normal"])


class Commands:
    """Counts what clients ask of the server, by MONITOR: it slows everything, so never while something is timed."""

    def __init__(self, watch: Watch) -> None:
        self._redis = client_like(watch.redis)
        self._ignored = str(watch.redis.client_info()["addr"])
        self.by_client: Counter[str] = Counter()
        self.in_scripts: Counter[str] = Counter()
        self.round_trips = 0
        self._in_transaction: set[str] = set()
        self._end = f"end-{id(self)}"

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is asked within the block."""
        with self._redis.monitor() as monitor:
            thread = Thread(target=self._read, args=(monitor,))
            thread.start()
            try:
                yield
            finally:
                client_like(self._redis).echo(self._end)
                thread.join()

    def _read(self, monitor: Any) -> None:
        for told in monitor.listen():
            text = str(told["command"])
            address = f"{told['client_address']}:{told['client_port']}"
            if self._end in text:
                return
            if address == self._ignored:
                continue
            name = text.partition(" ")[0].upper()
            if told["client_type"] == "lua":
                self.in_scripts[name] += 1
                continue
            self.by_client[name] += 1
            if name == "MULTI":
                self._in_transaction.add(address)
            elif name == "EXEC":
                self._in_transaction.discard(address)
                self.round_trips += 1
            elif address not in self._in_transaction:
                self.round_trips += 1


def client_like(redis: Redis) -> Redis:
    """Another client of the same database."""
    given = redis.connection_pool.connection_kwargs
    return Redis(port=given["port"], password=given["password"], db=given["db"], decode_responses=True)


def rss_mb(pid: int | None = None) -> float:
    """Resident memory of a process, this one if not given."""
    return float(psutil.Process(pid).memory_info().rss) / 1e6


def environment_of(server: RedisServer, folder: Path, **variables: str) -> dict[str, str]:
    """What a process needs to use that Redis, and nothing of the developer's own settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV") if name in os.environ}
    own = {"DATA_DIR": str(folder / "data"), "IMAGERY_SOURCE": "stac", "STAC_URL": str(folder / "catalog.json")}
    return kept | dict(server.environment) | own | {"PYTHONPATH": str(REPOSITORY)} | variables


def describe(server: RedisServer) -> dict[str, object]:
    """What figures are worth nothing without."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    models = [line.partition(":")[2].strip() for line in info.splitlines() if "model name" in line]
    return {
        "device": models[0] if models else platform.processor(),
        "cpus": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        **{name: version(name) for name in ("celery", "kombu", "redis")},
        "redis_server": client(server).info("server")["redis_version"],
        "eo_tasks": __version__,
        "commit": commit(),
    }


def commit() -> str:
    """Of this checkout; ``-dirty`` if it was changed since."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median over the rounds of the quotient, so that a machine whose speed drifts does not matter."""
    return median(a / b for a, b in zip(above, below, strict=True))


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Growth exponent: the slope of the line through the logarithms; 0 is flat, 1 is linear."""
    return float(linear_regression([log(size) for size in sizes], [log(value) for value in values]).slope)
