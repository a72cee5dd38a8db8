"""Workers that come and go, a clock that is away, and a worker that is told to stop, with stub steps."""

import signal
from pathlib import Path

import psutil
import pytest
from redis import Redis

from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.runs import Runs, RunState
from eo_tasks.units import Stage, Unit
from tests.chaos.harness import BEAT, CONTROL, cpu, enqueue, gpu, stubbed, units_of, until
from tests.system import System, system

pytestmark = pytest.mark.integration

YEARS = (2021, 2022, 2023)
DEADLINE_S = 120


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    return Ledger(redis, Limits())


def counted(ledger: Ledger, state: State) -> int:
    """Units of all stages and years in a state."""
    return sum(counts.get(state, 0) for counts in ledger.all_counts().values())


def done(ledger: Ledger) -> int:
    """Units of all stages and years whose output is there."""
    return sum(counts.get(state, 0) for counts in ledger.all_counts().values() for state in State if state.is_done)


def has_ended(redis: Redis) -> bool:
    return {run.state for run in Runs(redis).all()} == {RunState.COMPLETE}


def terminate(running: System, name: str) -> None:
    """Tell a worker to stop, as ``docker stop`` does, and wait until it has."""
    process = running.processes.pop(name)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=60)


def test_workers_join_and_leave_in_the_middle_of_a_run(
    environment: dict[str, str], redis: Redis, ledger: Ledger, tmp_path: Path
) -> None:
    country = stubbed(environment, tmp_path, 200, REMAP_SIGTERM="SIGQUIT")
    units = units_of(range(200), YEARS)
    with system(country, tmp_path / "logs") as running:
        for name, command in {"control": CONTROL, "beat": BEAT, "gpu": gpu("gpu"), "cpu1": cpu("cpu1")}.items():
            running.start(name, command)
        enqueue(country, tmp_path, YEARS)
        until(lambda: counted(ledger, State.COMPLETED) > 20, DEADLINE_S, running.logs)
        running.start("cpu2", cpu("cpu2"))
        until(lambda: "cpu2@" in workers_of(ledger, units), DEADLINE_S, running.logs)
        terminate(running, "cpu1")
        until(lambda: has_ended(redis), DEADLINE_S, running.logs)
    entries = ledger.entries(units)
    assert all(entry.state.is_done for entry in entries.values())
    assert sum(entry.deaths for entry in entries.values()) == 0


def workers_of(ledger: Ledger, units: list[Unit]) -> str:
    return " ".join({entry.worker for entry in ledger.entries(units).values()})


def test_worker_that_is_told_to_stop_gives_unfinished_units_back_unblamed_within_seconds(
    environment: dict[str, str], redis: Redis, ledger: Ledger, tmp_path: Path
) -> None:
    country = stubbed(environment, tmp_path, 2, REMAP_SIGTERM="SIGQUIT", STUB_SECONDS="300", LEASE_S="120")
    download = Unit(Stage.DOWNLOAD, 0, (2021,))
    with system(country, tmp_path / "logs") as running:
        for name, command in {"control": CONTROL, "beat": BEAT, "cpu1": cpu("cpu1")}.items():
            running.start(name, command)
        enqueue(country, tmp_path, (2021,))
        until(lambda: counted(ledger, State.STARTED) == 2, DEADLINE_S, running.logs)
        children = psutil.Process(running.processes["cpu1"].pid).children(recursive=True)
        terminate(running, "cpu1")
        assert not any(child.is_running() for child in children)
        assert ledger.leased([download]) == set()  # given back, not left to the end of a lease
        running.start("cpu2", cpu("cpu2"))
        until(lambda: ledger.entry(download).worker.startswith("cpu2@"), DEADLINE_S, running.logs)
        entry = ledger.entry(download)
    assert (entry.state, entry.deaths) == (State.STARTED, 0)


def test_clock_that_is_away_costs_time_and_nothing_else(
    environment: dict[str, str], redis: Redis, ledger: Ledger, tmp_path: Path
) -> None:
    country = stubbed(environment, tmp_path, 20, MAX_IN_FLIGHT="12")
    units = units_of(range(20), YEARS)
    with system(country, tmp_path / "logs") as running:
        for name, command in {"control": CONTROL, "cpu": cpu("cpu"), "gpu": gpu("gpu")}.items():
            running.start(name, command)
        enqueue(country, tmp_path, YEARS)

        def is_idle() -> bool:  # what was sent is done to its end: download, store and pair, without any tick
            return done(ledger) >= 32 and not any(ledger.active(stage) for stage in Stage)

        until(is_idle, DEADLINE_S, running.logs)
        assert done(ledger) < len(units)
        running.start("beat", BEAT)
        until(lambda: has_ended(redis), DEADLINE_S, running.logs)
    # On a busy machine a lease of 3 s may end before its work has: the second run of that unit finds its output there.
    assert {unit.id: entry.state for unit, entry in ledger.entries(units).items() if not entry.state.is_done} == {}
