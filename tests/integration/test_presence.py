"""What a worker tells of itself, in Redis."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from time import time

import pytest
from redis import Redis

from eo_tasks.grid import GridYear
from eo_tasks.state.workers import KEY, SILENT_S, WorkerReport, Workers
from eo_tasks.tasks.send import publish
from tests.system import CONTROL, CPU, GPU, System, system, this_process

pytestmark = pytest.mark.integration

DEADLINE_S = 120


def wait_for_report(redis: Redis, running: System, holds: Callable[[dict[str, WorkerReport]], bool]) -> None:
    """Look at the reports whenever one is written or taken back."""
    redis.config_set("notify-keyspace-events", "KEA")
    end = time() + DEADLINE_S
    with redis.pubsub(ignore_subscribe_messages=True) as changes:
        changes.psubscribe(f"__keyspace@1__:{KEY}")
        while not holds(reports(redis)):
            assert time() < end, running.logs()
            changes.get_message(timeout=1)


def reports(redis: Redis) -> dict[str, WorkerReport]:
    return {report.name.split("@")[0]: report for report in Workers(redis).all()}


@pytest.mark.parametrize(
    ("arguments", "kind", "queues", "processes"),
    [
        (CPU, "cpu", {"stores", "downloads"}, 2),
        (CONTROL, "control", {"control"}, 3),
        (GPU, "gpu", {"btc"}, 1),
    ],
    ids=["cpu", "control", "gpu"],
)
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGQUIT])
def test_worker_reports_while_it_lives_and_takes_its_report_back_when_it_stops(
    sample_environment: dict[str, str], redis: Redis, tmp_path: Path, arguments, kind, queues, processes, ending
) -> None:
    with system(sample_environment, tmp_path / "logs") as running:
        begun = time()
        running.start("worker", arguments)
        wait_for_report(redis, running, lambda known: kind in known)
        report = reports(redis)[kind]
        assert set(report.queues) == queues
        assert report.processes == processes
        assert report.pid == running.processes["worker"].pid
        assert begun <= report.started_at <= report.at <= time()
        assert report.is_alive(time())
        assert not report.is_alive(report.at + SILENT_S)
        assert 0 <= report.cpu <= 1
        assert report.cores == os.cpu_count()
        assert 0 < report.worker_memory_gb < report.memory_total_gb
        assert 0 < report.memory_gb < report.memory_total_gb
        assert 0 < report.disk_free_gb < report.disk_total_gb

        wait_for_report(redis, running, lambda known: known[kind].at > report.at)
        wait_for_ready(redis, running)
        worker = running.processes["worker"]
        os.kill(worker.pid, ending)
        worker.wait(DEADLINE_S)
        assert reports(redis) == {}


def wait_for_ready(redis: Redis, running: System) -> None:
    wait_for_report(redis, running, lambda _: "ready." in running.logs())


def test_worker_tells_what_it_works_on_by_the_units_name(
    sample_environment: dict[str, str], redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubbed = sample_environment | {"STUB_SECONDS": "20", "PYTHONPATH": str(Path(__file__).parents[2])}
    unit = GridYear(463, 2021).download
    with system(stubbed, tmp_path / "logs") as running, this_process(stubbed, monkeypatch) as ledger:
        running.start("cpu", ("-A", "tests.stubs.cpu", "worker", "-n", "cpu@%h"))
        ledger.make_ready([unit], "test")
        publish(ledger.take(unit.stage, "test", 1))
        wait_for_report(redis, running, lambda known: "cpu" in known and known["cpu"].units == (unit.id,))


def test_worker_outlives_an_outage_of_redis_and_reports_again(
    sample_environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    with system(sample_environment, tmp_path / "logs") as running:
        running.start("worker", CPU)
        wait_for_report(redis, running, lambda known: "cpu" in known)
        redis.execute_command("CLIENT", "PAUSE", 8000, "ALL")
        at = time()
        wait_for_report(redis, running, lambda known: known["cpu"].at > at)
        assert running.processes["worker"].poll() is None
        assert "worker's report not written" in running.logs()
