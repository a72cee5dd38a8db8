"""Killing real workers as chance has it, and checking afterwards what each unit went through.

What the stub steps noted is the evidence: every execution with its begin and end, see ``tests.stubs.steps``.
"""

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from threading import Event, RLock, Thread
from time import monotonic, monotonic_ns

import geopandas
import psutil
from redis import Redis
from redis.exceptions import RedisError
from shapely.geometry import box

from eo_tasks.local.redis_server import RedisServer, free_port, prepare_redis, wait_for_redis
from eo_tasks.state.ledger import Ledger
from eo_tasks.units import Stage, Unit
from tests.stubs.steps import log_folder, output_of
from tests.system import System, celery, system

REPOSITORY = Path(__file__).parents[2]
LOOK_S = 0.1  # between two looks at processes and conditions
BELOW_EPHEMERAL = 20_000  # of a port that no client's own end can take while the server is away
SIDE_M = 1000

CONTROL = ("-A", "tests.stubs.control", "worker", "-n", "control@%h")
BEAT = ("-A", "tests.stubs.control", "beat", "--pidfile=")


def cpu(name: str) -> tuple[str, ...]:
    return ("-A", "tests.stubs.cpu", "worker", "-n", f"{name}@%h")


def gpu(name: str) -> tuple[str, ...]:
    return ("-A", "tests.stubs.gpu", "worker", "-n", f"{name}@%h")


def stubbed(environment: Mapping[str, str], folder: Path, cells: int, **variables: str) -> dict[str, str]:
    """The environment of stub workers for a grid of so many cells."""
    grid_file = folder / "grid.gpkg"
    squares = [box(n * SIDE_M, 5_000_000, (n + 1) * SIDE_M, 5_000_000 + SIDE_M) for n in range(cells)]
    geopandas.GeoDataFrame(geometry=squares, crs=32633).to_file(grid_file)
    return dict(environment) | {
        "PYTHONPATH": str(REPOSITORY),
        "GRID_FILE": str(grid_file),
        "IMAGERY_SOURCE": "stac",  # never asked
        "STAC_URL": str(folder / "catalog.json"),
        "LEASE_S": "2",
        "SWEEP_S": "1",
        "MAX_DEATHS": "1000",  # the units are not to blame
        "STUB_SECONDS": "0.02",
        **variables,
    }


def units_of(cells: Collection[int], years: Sequence[int]) -> list[Unit]:
    """Every unit that mapping these cells and years takes."""
    single = [Unit(stage, cell, (year,)) for stage in (Stage.DOWNLOAD, Stage.STORE) for cell in cells for year in years]
    return single + [Unit(Stage.BTC, cell, pair) for cell in cells for pair in pairwise(years)]


def enqueue(environment: Mapping[str, str], cwd: Path, years: Sequence[int]) -> None:
    """Ask for the whole grid in these years, as a person does."""
    request = json.dumps({"years": list(years)})
    called = celery(environment, cwd, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)
    assert called.returncode == 0, called.stderr


def until(condition: Callable[[], bool], deadline_s: float, explain: Callable[[], str], look_s: float = LOOK_S) -> None:
    """Look at a condition again and again until it holds; while Redis is away it does not.

    Raises:
        AssertionError: It does not hold in time.
    """
    end, look = monotonic() + deadline_s, Event()
    while True:
        with suppress(RedisError):
            if condition():
                return
        assert monotonic() < end, f"not within {deadline_s:g} s\n{explain()}"
        look.wait(look_s)


@dataclass
class Execution:
    """One time that a process made a unit's output, or tried to; ``end`` is ``died`` if it could not say."""

    unit: str
    pid: int
    token: str
    begun_ns: int
    ended_ns: int | None = None
    end: str = "died"


class Notes:
    """What the stub steps noted, read on as it grows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, int] = {}
        self.executions: dict[str, Execution] = {}

    def look(self) -> list[Execution]:
        """All executions so far, in the order in which they began."""
        for name in self._names():
            with (self._folder / name).open("rb") as file:
                file.seek(self._read.get(name, 0))
                lines = file.read().splitlines(keepends=True)
            for line in lines:
                if line.endswith(b"\n"):
                    self._read[name] = self._read.get(name, 0) + len(line)
                    self._take(*line.decode().split())
        return sorted(self.executions.values(), key=lambda execution: execution.begun_ns)

    def running(self) -> list[Execution]:
        """Those that have not ended, of dead processes too."""
        return [execution for execution in self.look() if execution.ended_ns is None]

    def pids(self) -> set[int]:
        """Every process that ever noted something."""
        return {int(name.partition("-")[0]) for name in self._names()}

    def _names(self) -> list[str]:
        with suppress(FileNotFoundError):
            return os.listdir(self._folder)  # noqa: PTH208  # ten times a second, names alone
        return []

    def _take(self, word: str, unit: str, pid: str, now_ns: str, token: str, end: str = "died") -> None:
        if word == "begin":
            self.executions[token] = Execution(unit, int(pid), token, int(now_ns))
        else:
            self.executions[token].ended_ns, self.executions[token].end = int(now_ns), end


@dataclass
class Supervisor:
    """Keeps Celery processes running as ``restart: unless-stopped`` does, kills them, and knows who died when."""

    running: System
    notes: Notes
    commands: dict[str, tuple[str, ...]] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    gone: list[tuple[int, int]] = field(default_factory=list)
    _lock: RLock = field(default_factory=RLock)
    _stop: Event = field(default_factory=Event)

    def start(self, **commands: tuple[str, ...]) -> None:
        """Start workers under names."""
        with self._lock:
            for name, command in commands.items():
                self.commands[name] = command
                self.running.start(name, command)

    def kill(self, name: str) -> None:
        """SIGKILL a worker with all its processes, and start it again."""
        with self._lock:
            children = self.children(name)
            self.running.kill(name)
            pids = [child.pid for child in children]
            self._await_end(pids)
            self.running.start(name, self.commands[name])
            self.kills["group"] += 1

    def kill_child(self, pid: int) -> None:
        """SIGKILL one process of a worker's pool, which the worker replaces."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            self._await_end([pid])
            self.kills["child"] += 1

    def children(self, name: str) -> list[psutil.Process]:
        """A worker's processes without its first."""
        try:
            return psutil.Process(self.running.processes[name].pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a worker."""
        os.killpg(self.running.processes[name].pid, number)

    def explain(self) -> str:
        """What a failing test wants to see."""
        open_units = [f"{execution.unit} in {execution.pid}" for execution in self.notes.running()]
        return f"kills: {dict(self.kills)}\nnot ended: {open_units[-20:]}\n{self.running.logs()}"

    def watch(self) -> None:
        """Restart what exited by itself, and note which processes are gone."""
        while not self._stop.wait(LOOK_S):
            with self._lock:
                for name, process in list(self.running.processes.items()):
                    if process.poll() is not None and name in self.commands:
                        self.kills[f"{name} exited"] += 1
                        self.running.start(name, self.commands[name])
                known = {pid for pid, _ in self.gone}
                self._record(*(pid for pid in self.notes.pids() - known if not is_alive(pid)))

    def stop(self) -> None:
        """Leave the processes to themselves."""
        self._stop.set()

    def _await_end(self, pids: Sequence[int]) -> None:
        until(lambda: not any(map(is_alive, pids)), 10, lambda: f"{pids} outlive SIGKILL", look_s=0.005)
        self._record(*pids)

    def _record(self, *pids: int) -> None:
        now_ns = monotonic_ns()
        with self._lock:
            self.gone += [(pid, now_ns) for pid in pids]


@contextmanager
def supervised(environment: Mapping[str, str], folder: Path) -> Iterator[Supervisor]:
    """Workers that are restarted when they exit, and are all gone afterwards."""
    notes = Notes(notes_folder(environment))
    with system(environment, folder) as running:
        supervisor = Supervisor(running, notes)
        watcher = Thread(target=supervisor.watch, name="supervisor", daemon=True)
        watcher.start()
        try:
            yield supervisor
        finally:
            supervisor.stop()
            watcher.join()
            for name in list(running.processes):
                with suppress(ProcessLookupError):
                    supervisor.signal(name, signal.SIGCONT)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def notes_folder(environment: Mapping[str, str]) -> Path:
    return Path(environment["STUB_LOG"]) if "STUB_LOG" in environment else log_folder(Path(environment["DATA_DIR"]))


class MortalRedis:
    """A Redis server that can be killed and comes back on the same port with the same files."""

    def __init__(self, folder: Path) -> None:
        server = prepare_redis(folder)
        port = free_port(BELOW_EPHEMERAL + os.getpid() % 10_000)
        configuration = folder / "redis.conf"
        configuration.write_text(configuration.read_text().replace(f"port {server.port}", f"port {port}"))
        self.server: RedisServer = replace(server, port=port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return when it answers."""
        self._process = subprocess.Popen(self.server.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_redis(self.server)

    def kill(self) -> None:
        """SIGKILL it."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def kill_for(self, seconds: float) -> None:
        """SIGKILL it, and have it back after so long an outage."""
        self.kill()
        Event().wait(seconds)
        self.start()

    def client(self) -> Redis:
        """A client of the database of the ledger."""
        return Redis(port=self.server.port, password=self.server.password, db=1, decode_responses=True)


@dataclass(frozen=True)
class Findings:
    """What the notes and outputs say of a run.

    Attributes:
        lost: Units without a whole output.
        at_once: Pairs of executions of one unit that overlapped in time, the later one by so many seconds.
        twice: Units of which two executions published an output, or another than the one that said so.
    """

    lost: list[str]
    at_once: list[tuple[str, float]]
    twice: list[str]
    executions: int
    repeated: int

    @property
    def all_is_well(self) -> bool:
        """Every output is there, made by one worker at a time."""
        return not (self.lost or self.at_once or self.twice)


def examine(
    environment: Mapping[str, str], units: Sequence[Unit], notes: Notes, gone: Sequence[tuple[int, int]]
) -> Findings:
    """Look at every unit's output, and at all its executions.

    Args:
        environment: Of the workers.
        units: Those that should have an output.
        notes: What the steps noted.
        gone: Processes, and the time at which each was seen to be gone: an execution without an end lasted until then.
    """
    data_dir, by_unit = Path(environment["DATA_DIR"]), dict[str, list[Execution]]()
    executions = notes.look()
    for execution in executions:
        by_unit.setdefault(execution.unit, []).append(execution)
    at_once = [overlap for same in by_unit.values() for overlap in overlaps(same, gone)]
    outputs = {unit.id: read_output(data_dir, unit) for unit in units}
    twice = []
    for unit_id, token in outputs.items():
        stored = [execution.token for execution in by_unit.get(unit_id, []) if execution.end == "stored"]
        if len(stored) > 1 or (token is not None and stored and stored != [token]):
            twice.append(unit_id)
    lost = [unit_id for unit_id, token in outputs.items() if token is None]
    return Findings(lost, at_once, twice, len(executions), len(executions) - len(by_unit))


def overlaps(same: Sequence[Execution], gone: Sequence[tuple[int, int]]) -> Iterator[tuple[str, float]]:
    """Executions of one unit that began before an earlier one had ended, and by how many seconds."""
    busy_until_ns = 0
    for execution in same:
        if execution.begun_ns < busy_until_ns:
            yield execution.unit, (busy_until_ns - execution.begun_ns) / 1e9
        busy_until_ns = max(busy_until_ns, lasted_until_ns(execution, gone))


def lasted_until_ns(execution: Execution, gone: Sequence[tuple[int, int]]) -> int:
    """When an execution ended, at the latest."""
    if execution.ended_ns is not None:
        return execution.ended_ns
    seen = [at_ns for pid, at_ns in gone if pid == execution.pid and at_ns >= execution.begun_ns]
    return min(seen, default=monotonic_ns())


def read_output(data_dir: Path, unit: Unit) -> str | None:
    """The token in a unit's output; ``None`` if it is not there.

    Raises:
        ValueError: It is not whole, or another unit's.
    """
    try:
        record = json.loads(output_of(data_dir, unit).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if record["unit"] != unit.id:
        raise ValueError(f"{unit.id} holds {record['unit']}")
    return str(record["token"])


@dataclass(frozen=True)
class Progress:
    """How far some units are, as the ledger counts them."""

    ledger: Ledger
    units: Sequence[Unit]

    def done(self) -> int:
        """Units whose output is stored."""
        places = {(unit.stage, unit.period) for unit in self.units}
        counted = [self.ledger.counts(stage, period) for stage, period in sorted(places)]
        return sum(number for counts in counted for state, number in counts.items() if state.is_done)

    def is_complete(self) -> bool:
        """All of them are."""
        return self.done() == len(self.units)

    def deaths(self) -> int:
        """Workers that the ledger counted as dead at these units."""
        return sum(entry.deaths for entry in self.ledger.entries(self.units).values())


def report(drill: str, findings: Findings, **figures: object) -> None:
    """Append a drill's figures, and what was found, to the file that CHAOS_FIGURES names, if any."""
    write_figures(
        drill,
        **figures,
        lost=len(findings.lost),
        at_once=len(findings.at_once),
        published_twice=len(findings.twice),
        executions=findings.executions,
        repeated_executions=findings.repeated,
    )


def write_figures(drill: str, **figures: object) -> None:
    """Append a drill's figures to the file that CHAOS_FIGURES names, if any."""
    if path := os.environ.get("CHAOS_FIGURES"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"drill": drill, **figures}) + "\n")
