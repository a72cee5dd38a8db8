"""What Prometheus reads, from a real Redis."""

from dataclasses import replace
from time import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from eo_tasks.grid import GridYear
from eo_tasks.metrics import exposition
from eo_tasks.overview.known import Known
from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges
from eo_tasks.state.alerts import Alert, AlertRecord, Alerts
from eo_tasks.state.durations import Durations
from eo_tasks.state.entry import Limits
from eo_tasks.state.history import Sample
from eo_tasks.state.keys import counts_key
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.runs import Run
from eo_tasks.state.workers import SILENT_S, Gpu, WorkerReport
from eo_tasks.tasks.send import publish
from eo_tasks.units import Stage
from tests.monitoring import OURS
from tests.system import this_process

pytestmark = pytest.mark.integration

CREATED = 1_700_000_000.0
RUN = Run(Wanted(Ranges.of([463, 464]), (2021,)), created_at=CREATED)
WORKER = WorkerReport(
    name="gpu@a", host="a", pid=1, queues=("btc",), processes=1, units=("btc_463_2021_2022",), started_at=CREATED,
    at=CREATED, cpu=0.5, cores=2, memory_gb=1, memory_total_gb=4, worker_memory_gb=0.5, disk_free_gb=50,
    disk_total_gb=100,
    gpus=(Gpu("NVIDIA H100", 0.9, 20, 80),),
)  # fmt: skip


@pytest.fixture
def known(redis: Redis, broker: Redis) -> Known:
    return Known.of(redis, broker)


def read(known: Known) -> dict[str, float]:
    """Each sample as Prometheus names it."""
    return {
        sample.name + "".join(f",{label}={value}" for label, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(exposition(known).decode())
        for sample in family.samples
    }


@pytest.fixture
def everything(known: Known, redis: Redis) -> Known:
    """Something of each kind."""
    now = time()
    known.runs.add(RUN)
    known.accounts.learn("acc", "job-1", RUN.id, 7.5, 10)
    known.accounts.learn("acc", "job-2", RUN.id, 2.5, 10)
    known.history.add(Sample(now - 100, {Stage.STORE: 0}, {}))
    known.history.add(Sample(now - 50, {Stage.STORE: 5}, {}))
    known.workers.put(replace(WORKER, at=now))
    known.workers.put(replace(WORKER, name="cpu@b", host="b", at=now - SILENT_S - 1, gpus=()))
    Durations(redis).add(Stage.BTC, 2.0, 1000)
    Durations(redis).add(Stage.BTC, 20.0, 500)
    Alerts(redis).put(AlertRecord(Alert("disk", "a", "Host a: 1 GB free."), now))
    Alerts(redis).put(AlertRecord(Alert("disk", "b", "Host b: 1 GB free."), now, now + 1))
    redis.set("eo-tasks:tick-ended:beat.feed", now)
    return known


def test_every_metric_that_is_promised_is_there_and_no_other(everything: Known) -> None:
    assert {sample.partition(",")[0] for sample in read(everything)} == OURS


def test_each_number_is_what_the_system_knows(everything: Known) -> None:
    found = read(everything)
    expected = {
        "eo_tasks_units,stage=store,state=waiting": 2,
        "eo_tasks_units,stage=store,state=failed": 0,
        "eo_tasks_left_seconds,stage=store": 20,  # two at one in ten seconds
        "eo_tasks_unit_seconds_bucket,le=1.0,stage=btc": 0,
        "eo_tasks_unit_seconds_bucket,le=2.5,stage=btc": 1,
        "eo_tasks_unit_seconds_bucket,le=+Inf,stage=btc": 2,
        "eo_tasks_unit_seconds_count,stage=btc": 2,
        "eo_tasks_unit_seconds_sum,stage=btc": 22,
        "eo_tasks_pixels_total,stage=btc": 1500,
        "eo_tasks_runs,state=active": 1,
        "eo_tasks_runs,state=paused": 0,
        "eo_tasks_orders,state=started": 0,
        "eo_tasks_credits_total,account=acc": 10,
        "eo_tasks_workers,alive=true,kind=gpu": 1,
        "eo_tasks_workers,alive=false,kind=cpu": 1,
        "eo_tasks_worker_units,worker=gpu@a": 1,
        "eo_tasks_worker_memory_bytes,worker=gpu@a": 0.5e9,
        "eo_tasks_host_cpu_ratio,host=a": 0.5,
        "eo_tasks_host_disk_free_bytes,host=a": 50e9,
        "eo_tasks_gpu_load_ratio,gpu=0,host=a,name=NVIDIA H100": 0.9,
        "eo_tasks_gpu_memory_bytes,gpu=0,host=a,name=NVIDIA H100": 20e9,
        "eo_tasks_alerts,rule=disk": 1,
        "eo_tasks_queue_length,queue=control": 0,
        "eo_tasks_queue_age_seconds,queue=btc": 0,
    }
    assert {name: found[name] for name in expected} == expected
    assert found["eo_tasks_tick_ended_timestamp_seconds,tick=beat.feed"] == pytest.approx(time(), abs=60)
    assert "eo_tasks_host_cpu_ratio,host=b" not in found  # of a worker that is gone nothing is known


def test_system_that_has_done_nothing_yet_has_numbers_too(known: Known) -> None:
    found = read(known)
    assert found["eo_tasks_units,stage=download,state=completed"] == 0
    assert found["eo_tasks_unit_seconds_count,stage=download"] == 0


def test_queue_is_as_old_as_the_unit_that_waits_longest_at_its_head(
    environment: dict[str, str], redis: Redis, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time() - 300]
    ledger = Ledger(redis, Limits(), lambda: now[0])
    with this_process(environment, monkeypatch):
        for year in (2021, 2022, 2023):
            ledger.make_ready([GridYear(463, year).download], "test")
            publish(ledger.take(Stage.DOWNLOAD, "test", 1))
            now[0] += 100
        ledger.begin(GridYear(463, 2021).download, "me", "cpu@a")  # its message is on its way back, say
        found = read(Known.of(redis, broker))
    assert found["eo_tasks_queue_length,queue=downloads"] == 3
    assert found["eo_tasks_queue_age_seconds,queue=downloads"] == pytest.approx(200, abs=10)


def test_a_million_units_cost_no_more_commands_than_ten(known: Known, redis: Redis) -> None:
    def commands_for(cells: int) -> int:
        known.runs.add(Run(Wanted(Ranges((range(cells),)), (2021, 2022)), created_at=CREATED + cells))
        for period in ("2021", "2022"):
            redis.hset(counts_key(Stage.STORE, period), "completed", cells)
        before = redis.info("stats")["total_commands_processed"]
        assert exposition(known)
        return int(redis.info("stats")["total_commands_processed"]) - before

    few = commands_for(5)
    assert commands_for(250_000) <= few + 3  # one more run: three questions
