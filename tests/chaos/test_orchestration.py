"""The orchestration under blows, with real workers and stub steps: killed workers, a killed, wiped or slow Redis, a
full disk, a cell that kills, a frozen worker, two producers.

``CHAOS=long`` is the whole length, for ``make chaos``; without it each drill is short. ``CHAOS_FIGURES`` names a file
for the figures.
"""

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, monotonic_ns

import pytest
from redis import Redis

from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.runs import Runs, RunState
from eo_tasks.units import Stage, Unit
from tests.chaos.harness import (
    BEAT,
    CONTROL,
    MortalRedis,
    Progress,
    Supervisor,
    cpu,
    enqueue,
    examine,
    gpu,
    read_output,
    report,
    stubbed,
    supervised,
    units_of,
    until,
)

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.timeout(3600)]

YEARS = (2020, 2021, 2022, 2023)
WORKERS = {"control": CONTROL, "beat": BEAT, "cpu1": cpu("cpu1"), "cpu2": cpu("cpu2"), "gpu1": gpu("gpu1")}


@dataclass(frozen=True)
class Size:
    """How much and how often."""

    cells: int
    kills: int
    redis_cells: int
    redis_kills: int
    wiped_cells: int
    produced_cells: int
    deadline_s: float


SHORT = Size(cells=75, kills=15, redis_cells=40, redis_kills=2, wiped_cells=50, produced_cells=25, deadline_s=180)
LONG = Size(cells=500, kills=112, redis_cells=250, redis_kills=12, wiped_cells=150, produced_cells=150, deadline_s=1500)


@pytest.fixture
def size() -> Size:
    return LONG if os.environ.get("CHAOS") == "long" else SHORT


def has_ended(redis: Redis) -> bool:
    """Whether every run is complete."""
    return {run.state for run in Runs(redis).all()} == {RunState.COMPLETE}


def test_nothing_is_lost_or_made_by_two_at_once_however_often_workers_are_killed(
    environment: dict[str, str], redis: Redis, tmp_path: Path, size: Size
) -> None:
    slow = [Unit(Stage.DOWNLOAD, cell, (2021,)) for cell in range(5, size.cells, 20)]
    slow += [Unit(Stage.BTC, cell, (2021, 2022)) for cell in range(10, size.cells, 40)]
    country = stubbed(
        environment, tmp_path, size.cells,
        STUB_SLOW=",".join(unit.id for unit in slow), STUB_SLOW_SECONDS="3",  # longer than a lease
    )  # fmt: skip
    units = units_of(range(size.cells), YEARS)
    progress, rng = Progress(Ledger(redis, Limits()), units), random.Random(20261125)  # noqa: S311
    begun = monotonic()
    with supervised(country, tmp_path / "logs") as workers:
        workers.start(**WORKERS)
        enqueue(country, tmp_path, YEARS)
        for number in range(size.kills):
            enough = (number + 1) * len(units) // (size.kills + 2)
            until(lambda enough=enough: progress.done() >= enough, size.deadline_s, workers.explain)
            if not kill_one_at_work(workers, rng, progress, size.deadline_s):
                break
        until(progress.is_complete, size.deadline_s, workers.explain)
        findings = examine(country, units, workers.notes, workers.gone)
        seconds, kills = round(monotonic() - begun, 1), dict(workers.kills)
    report("workers killed", findings, kills=kills, units=len(units), seconds=seconds, deaths=progress.deaths())
    assert kills["group"] + kills["child"] >= 0.9 * size.kills  # a slow machine may be done before the last one
    assert findings.all_is_well, findings


def kill_one_at_work(workers: Supervisor, rng: random.Random, progress: Progress, deadline_s: float) -> bool:
    """SIGKILL a CPU or GPU worker that is in the middle of a step: all of it, or the one process alone.

    Returns:
        Whether there was one before all was done.
    """
    names = [name for name in workers.commands if name.startswith(("cpu", "gpu"))]
    rng.shuffle(names)
    whole, victim = rng.random() < 0.5, list[tuple[str, int]]()

    def is_one_at_work() -> bool:
        busy = {execution.pid for execution in workers.notes.running()}
        for name in names:
            if pids := busy & {child.pid for child in workers.children(name)}:
                victim.append((name, min(pids)))
                return True
        return progress.is_complete()

    until(is_one_at_work, deadline_s, workers.explain)
    if not victim:
        return False
    name, pid = victim[0]
    if whole:
        workers.kill(name)
    else:
        workers.kill_child(pid)
    return True


def test_nothing_is_lost_or_made_by_two_at_once_however_often_redis_is_killed(
    environment: dict[str, str], tmp_path: Path, size: Size
) -> None:
    server = MortalRedis(tmp_path / "redis")
    country = stubbed(environment | dict(server.server.environment), tmp_path, size.redis_cells, LEASE_S="3")
    units, rng = units_of(range(size.redis_cells), YEARS), random.Random(20261126)  # noqa: S311
    with ExitStack() as cleanup:
        server.start()
        cleanup.callback(server.kill)
        redis = cleanup.enter_context(server.client())
        progress, begun = Progress(Ledger(redis, Limits()), units), monotonic()
        with supervised(country, tmp_path / "logs") as workers:
            workers.start(**WORKERS)
            enqueue(country, tmp_path, YEARS)
            for number in range(size.redis_kills):
                enough = (number + 1) * len(units) // (size.redis_kills + 2)
                until(lambda enough=enough: progress.done() >= enough, size.deadline_s, workers.explain)
                server.kill_for(rng.uniform(0, 4))  # shorter and longer than a lease
                workers.kills["redis"] += 1
            until(progress.is_complete, size.deadline_s, workers.explain)
            findings = examine(country, units, workers.notes, workers.gone)
            seconds, kills = round(monotonic() - begun, 1), dict(workers.kills)
        report("Redis killed", findings, kills=kills, units=len(units), seconds=seconds, deaths=progress.deaths())
    assert kills["redis"] == size.redis_kills
    assert findings.all_is_well, findings


def test_what_is_stored_is_not_made_again_after_redis_lost_everything(
    environment: dict[str, str], redis: Redis, tmp_path: Path, size: Size
) -> None:
    country = stubbed(environment, tmp_path, size.wiped_cells)
    units = units_of(range(size.wiped_cells), YEARS)
    progress, data_dir = Progress(Ledger(redis, Limits()), units), Path(country["DATA_DIR"])

    def made() -> dict[str, str]:
        tokens = {unit.id: read_output(data_dir, unit) for unit in units}
        return {unit_id: token for unit_id, token in tokens.items() if token is not None}

    with supervised(country, tmp_path / "logs") as workers:
        workers.start(**WORKERS)
        enqueue(country, tmp_path, YEARS)
        until(lambda: progress.done() >= len(units) // 2, size.deadline_s, workers.explain)
        redis.flushall()
        # What was in work when the memory was wiped goes on to its end; then it is as if nothing had ever been asked.
        until(lambda: not workers.notes.running(), size.deadline_s, workers.explain)
        before, begun_ns = made(), monotonic_ns()
        enqueue(country, tmp_path, YEARS)
        until(lambda: len(made()) == len(units), size.deadline_s, workers.explain)
        until(lambda: has_ended(redis), size.deadline_s, workers.explain)
        findings = examine(country, units, workers.notes, workers.gone)
        again = {execution.unit for execution in workers.notes.look() if execution.begun_ns > begun_ns}
    report("Redis wiped", findings, units=len(units), stored_before=len(before))
    assert 0 < len(before) < len(units)
    assert {unit_id: token for unit_id, token in made().items() if unit_id in before} == before
    assert again.isdisjoint(before)
    assert findings.all_is_well, findings


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here, which takes root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk_puts_units_off_and_they_complete_when_there_is_room(
    environment: dict[str, str], redis: Redis, tmp_path: Path, small_disk: Path, size: Size
) -> None:
    cells, years = 4, (2021,)
    country = stubbed(
        environment | {"DATA_DIR": str(small_disk)}, tmp_path, cells,
        STUB_PAYLOAD_BYTES=str(400_000), STUB_LOG=str(tmp_path / "notes"),
    )  # fmt: skip
    units, ledger = units_of(range(cells), years), Ledger(redis, Limits())
    progress = Progress(ledger, units)

    def put_off() -> list[str]:
        return [entry.error for entry in ledger.entries(units).values() if entry.state is State.RETRYING]

    def whole() -> set[str]:  # reading one that is not whole raises
        return {unit.id for unit in units if read_output(small_disk, unit) is not None}

    with supervised(country, tmp_path / "logs") as workers:
        workers.start(control=CONTROL, beat=BEAT, cpu1=cpu("cpu1"))
        enqueue(country, tmp_path, years)
        # Five outputs fit, and who has no room waits for its next try.
        until(lambda: len(put_off()) + progress.done() >= cells and bool(put_off()), size.deadline_s, workers.explain)
        until(lambda: not workers.notes.running(), size.deadline_s, workers.explain)
        errors, stored = put_off(), whole()
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        until(progress.is_complete, size.deadline_s, workers.explain)
        findings = examine(country, units, workers.notes, workers.gone)
        attempts = sum(entry.attempts for entry in ledger.entries(units).values())
    report("disk full", findings, units=len(units), put_off=len(errors), attempts=attempts)
    assert errors
    assert all("StorageFullError" in error and "full" in error.lower() for error in errors), errors
    assert len(stored) < len(units)
    assert not list((small_disk / "stub").rglob("*.part"))
    assert findings.all_is_well, findings


def test_cell_that_kills_its_worker_is_quarantined_and_all_others_complete(
    environment: dict[str, str], redis: Redis, tmp_path: Path, size: Size
) -> None:
    cells, years = range(10), (2021, 2022)
    killers = [Unit(Stage.DOWNLOAD, 7, (2021,)), Unit(Stage.BTC, 3, years)]
    country = stubbed(
        environment, tmp_path, len(cells), MAX_DEATHS="3", STUB_KILLER=",".join(unit.id for unit in killers)
    )
    barred = {*killers, Unit(Stage.STORE, 7, (2021,)), Unit(Stage.BTC, 7, years)}
    others = [unit for unit in units_of(cells, years) if unit not in barred]
    ledger = Ledger(redis, Limits())
    progress = Progress(ledger, others)

    def are_quarantined() -> bool:
        return all(entry.state is State.QUARANTINED for entry in ledger.entries(killers).values())

    with supervised(country, tmp_path / "logs") as workers:
        workers.start(**WORKERS)
        enqueue(country, tmp_path, years)
        until(are_quarantined, size.deadline_s, workers.explain)
        until(progress.is_complete, size.deadline_s, workers.explain)
        findings = examine(country, others, workers.notes, workers.gone)
        executions = Counter(execution.unit for execution in workers.notes.look())
    entries = ledger.entries(killers)
    report("cell that kills", findings, units=len(others), deaths=sum(entry.deaths for entry in entries.values()))
    for unit, names in zip(killers, (("cpu1@", "cpu2@"), ("gpu1@",)), strict=True):
        assert any(name in entries[unit].error for name in names), entries[unit]
        assert executions[unit.id] == 3
    assert executions.keys().isdisjoint(unit.id for unit in barred - set(killers))
    assert findings.all_is_well, findings


def test_worker_that_wakes_up_after_its_lease_ended_changes_nothing(
    environment: dict[str, str], redis: Redis, tmp_path: Path, size: Size
) -> None:
    cells, years = range(4), (2021, 2022)
    frozen = [Unit(Stage.DOWNLOAD, 2, (2021,)), Unit(Stage.BTC, 1, years)]
    country = stubbed(environment, tmp_path, len(cells), STUB_FREEZE=",".join(unit.id for unit in frozen))
    units, ledger = units_of(cells, years), Ledger(redis, Limits())
    progress = Progress(ledger, units)
    with supervised(country, tmp_path / "logs") as workers:
        workers.start(**WORKERS, gpu2=gpu("gpu2"))
        enqueue(country, tmp_path, years)
        sleepers = [freeze_whole_worker(workers, unit, size.deadline_s) for unit in frozen]
        until(progress.is_complete, size.deadline_s, workers.explain)
        before = ledger.entries(units)
        for name in sleepers:
            workers.signal(name, signal.SIGCONT)
        until(lambda: not workers.notes.running(), size.deadline_s, workers.explain)
        executions = workers.notes.look()
        findings = examine(country, units, workers.notes, workers.gone)
        until(lambda: has_ended(redis), size.deadline_s, workers.explain)
        assert ledger.entries(units) == before
        assert progress.is_complete()
    report("worker frozen", findings, units=len(units))
    assert not findings.lost
    for unit in frozen:
        first, second = (execution for execution in executions if execution.unit == unit.id)
        assert (first.end, second.end) == ("failed", "stored")  # the late one is told in time that it lost its lease
        assert read_output(Path(country["DATA_DIR"]), unit) == second.token
    # What else the frozen workers had in work was taken over as well. A step that was stopped after its last look at
    # its lease and before its atomic move, a short moment, may still have replaced the other's output.
    assert {unit_id for unit_id, _ in findings.at_once} >= {unit.id for unit in frozen}
    assert len(findings.twice) <= 1


def freeze_whole_worker(workers: Supervisor, unit: Unit, deadline_s: float) -> str:
    """Wait until a step has stopped its own process, then stop the rest of its worker as well; gives its name."""
    stopped: list[str] = []

    def is_stopped() -> bool:
        pids = {execution.pid for execution in workers.notes.running() if execution.unit == unit.id}
        for name in workers.commands:
            stopped[:] = [name for child in workers.children(name) if child.pid in pids and child.status() == "stopped"]
            if stopped:
                break
        return bool(stopped)

    until(is_stopped, deadline_s, workers.explain)
    workers.signal(stopped[0], signal.SIGSTOP)
    return stopped[0]


PRODUCER = """
import sys
from tests.stubs import control
from eo_tasks.tasks import enqueue_years
print("ready", flush=True)
sys.stdin.readline()
print(enqueue_years({years}))
"""


def test_two_producers_at_once_have_every_unit_made_once(
    environment: dict[str, str], redis: Redis, broker: Redis, tmp_path: Path, size: Size
) -> None:
    country = stubbed(environment, tmp_path, size.produced_cells)
    units, ledger = units_of(range(size.produced_cells), YEARS), Ledger(redis, Limits())
    progress = Progress(ledger, units)
    request = json.dumps({"years": list(YEARS)})
    called = [sys.executable, "-m", "celery", "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request]
    with supervised(country, tmp_path / "logs") as workers, ExitStack() as cleanup:
        workers.start(**WORKERS, control2=("-A", "tests.stubs.control", "worker", "-n", "control2@%h"))

        def start(*argv: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                argv, env=country, cwd=tmp_path, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            return cleanup.enter_context(process)

        producers = [start(sys.executable, "-c", PRODUCER.format(years=list(YEARS))) for _ in range(2)]
        assert [producer.stdout.readline().strip() for producer in producers if producer.stdout] == ["ready"] * 2
        callers = [start(*called) for _ in range(2)]
        for producer in producers:
            assert producer.stdin
            producer.stdin.write("go\n")
            producer.stdin.flush()
        assert [process.wait(size.deadline_s) for process in (*producers, *callers)] == [0] * 4
        until(progress.is_complete, size.deadline_s, workers.explain)
        until(lambda: not any(broker.llen(queue) for queue in ("downloads", "stores", "btc")), 60, workers.explain)
        findings = examine(country, units, workers.notes, workers.gone)
    report("two producers", findings, units=len(units))
    assert findings.all_is_well, findings
    assert findings.repeated == 0
    assert {entry.attempts for entry in ledger.entries(units).values()} == {1}
