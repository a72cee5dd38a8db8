"""Batches of the GPU worker: one message, many pairs, and each pair on its own when something goes wrong."""

import json
import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import mktime, strptime
from types import SimpleNamespace

import pytest
from celery.exceptions import Ignore, Retry
from redis import Redis

from eo_tasks.errors import DeviceError
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.state.entry import Entry, Limits, State
from eo_tasks.state.heartbeat import Heartbeat
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.queues import next_ids
from eo_tasks.steps import Outcome
from eo_tasks.storage.layout import image_path
from eo_tasks.units import Stage
from tests.painted import paint
from tests.system import CONTROL, GPU, System, celery, system, this_process, wait_for

pytestmark = pytest.mark.integration

YEARS = (2021, 2022, 2023)
CELLS = 4
PAIRS = [YearPair(cell, *years) for cell in range(CELLS) for years in ((2021, 2022), (2022, 2023))]
DEADLINE_S = 120


@pytest.fixture
def country(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Four cells whose composites are stored."""
    return paint(environment, tmp_path / "grid.gpkg", CELLS, YEARS)


def enqueue(country: dict[str, str], folder: Path, running: System, redis: Redis) -> None:
    """Let the messages of all pairs wait in the queue before a GPU worker sees any."""
    running.start("control", CONTROL)
    request = json.dumps({"years": list(YEARS)})
    done = celery(country, folder, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)
    key = f"celery-task-meta-{done.stdout.strip()}"
    wait_for(redis, lambda: redis.exists(key) == 1, DEADLINE_S, running.logs)


def results(redis: Redis) -> dict[str, dict[str, object]]:
    """The stored results of the pairs that have one."""
    stored = redis.mget([f"celery-task-meta-{pair.btc.id}" for pair in PAIRS])
    return {pair.btc.id: json.loads(text) for pair, text in zip(PAIRS, stored, strict=True) if text}


def times_of_delivery(log: str) -> dict[str, float]:
    """When the worker took each message, seconds since 1970."""
    lines = re.findall(r"\[(\S+ \S+),(\d+): INFO/MainProcess\] Task eo_tasks\.btc\[(\w+)\] received", log)
    return {unit_id: mktime(strptime(at, "%Y-%m-%d %H:%M:%S")) + int(ms) / 1000 for at, ms, unit_id in lines}


def test_one_message_brings_on_the_pairs_that_wait_and_every_unit_has_its_result(
    country: dict[str, str], redis: Redis, broker: Redis, tmp_path: Path
) -> None:
    ledger = Ledger(redis, Limits())
    with system(country, tmp_path / "logs") as running:
        enqueue(country, tmp_path, running, redis)
        assert sorted(next_ids(broker, "btc")) == sorted(pair.btc.id for pair in PAIRS)
        running.start("gpu", GPU)
        wait_for(redis, lambda: len(results(redis)) == len(PAIRS), DEADLINE_S, running.logs)

        def is_idle() -> bool:  # the other messages are delivered, and end at once
            log = (tmp_path / "logs" / "gpu.log").read_text()
            return broker.llen("btc") == 0 and all(f"[{pair.btc.id}] succeeded" in log for pair in PAIRS)

        wait_for(redis, is_idle, DEADLINE_S, running.logs)
    entries = ledger.entries(pair.btc for pair in PAIRS)
    assert {(entry.state, entry.attempts) for entry in entries.values()} == {(State.COMPLETED, 1)}
    delivered = times_of_delivery((tmp_path / "logs" / "gpu.log").read_text())
    done_before = [unit for unit, entry in entries.items() if entry.since < delivered[unit.id]]
    assert len(done_before) >= len(PAIRS) - 2, "most pairs were to be done before their own message came"
    for unit_id, result in results(redis).items():
        assert result["status"] == "SUCCESS"
        assert result["result"]["unit"] == unit_id
        assert result["result"]["state"] == "completed"
        assert result["result"]["changed_ha"] > 0


def test_a_broken_composite_fails_its_own_pairs_and_no_other(
    country: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    broken = image_path(Path(country["DATA_DIR"]), GridYear(1, 2023))
    content = bytearray(broken.read_bytes())
    content[len(content) // 4 :] = bytes(len(content) - len(content) // 4)  # as long as before: found when it is read
    broken.write_bytes(content)
    ledger = Ledger(redis, Limits())
    with system(country, tmp_path / "logs") as running:
        enqueue(country, tmp_path, running, redis)
        running.start("gpu", GPU)
        bad = YearPair(1, 2022, 2023)

        def is_delivered() -> bool:  # its own message, after the batch in which it failed
            log = (tmp_path / "logs" / "gpu.log").read_text()
            return len(results(redis)) == len(PAIRS) and f"[{bad.btc.id}] raised expected: StorageError" in log

        wait_for(redis, is_delivered, DEADLINE_S, running.logs)
    states = {unit: entry.state for unit, entry in ledger.entries(pair.btc for pair in PAIRS).items()}
    assert states.pop(bad.btc) is State.FAILED
    assert set(states.values()) == {State.COMPLETED}
    assert ledger.entry(bad.btc).error.startswith("StorageError: Cell 1, 2023: the stored composite is broken")
    assert results(redis)[bad.btc.id]["status"] == "FAILURE"


def test_a_worker_that_is_told_to_stop_gives_back_what_it_claimed(
    country: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    ledger = Ledger(redis, Limits())
    with system(country, tmp_path / "logs") as running:
        enqueue(country, tmp_path, running, redis)
        running.start("gpu", GPU)

        def is_at_work() -> bool:
            return any(ledger.counts(Stage.BTC, period).get(State.STARTED) for period in ("2021_2022", "2022_2023"))

        wait_for(redis, is_at_work, DEADLINE_S, running.logs)
        os.kill(running.processes["gpu"].pid, signal.SIGTERM)
        assert running.processes["gpu"].wait(DEADLINE_S) == 0
        entries = ledger.entries(pair.btc for pair in PAIRS).values()
    assert not ledger.leased(pair.btc for pair in PAIRS)
    assert not [entry for entry in entries if entry.state is State.STARTED or entry.deaths]


# What no real worker does on demand: the task in this process, with a network that fails

TASK = SimpleNamespace(request=SimpleNamespace(hostname="gpu@test"))
CELL_PAIRS = PAIRS[:2]


@pytest.fixture
def at_work(
    environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[BaseException], Ledger]]:
    """Run the task of a cell's first pair, whose second one waits, with an inference that raises."""
    with this_process(environment, monkeypatch) as ledger:
        from eo_tasks.tasks import batch
        from eo_tasks.tasks.send import send

        def run(error: BaseException) -> Ledger:
            def failing(_: object, groups: Iterable[list[YearPair]]) -> Iterator[tuple[YearPair, Outcome]]:
                taken = next(iter(groups))
                assert taken == CELL_PAIRS
                raise error
                yield

            monkeypatch.setattr(batch, "infer_all", failing)
            for pair in CELL_PAIRS:
                send(pair.btc)
            batch.infer_batch(TASK, CELL_PAIRS[0])
            return ledger

        yield run


def entries_of(redis: Redis) -> list[Entry]:
    return list(Ledger(redis, Limits()).entries(pair.btc for pair in CELL_PAIRS).values())


def test_a_network_that_fails_puts_off_every_unit_in_work(
    at_work: Callable[[BaseException], Ledger], redis: Redis
) -> None:
    with pytest.raises(Retry):
        at_work(RuntimeError("no such kernel"))
    for entry in entries_of(redis):
        assert entry.state is State.RETRYING
        assert "inference failed (RuntimeError: no such kernel)" in entry.error
        assert entry.due > entry.since


def test_a_device_that_fails_ends_the_process_so_that_a_new_one_takes_its_place(
    at_work: Callable[[BaseException], Ledger], redis: Redis
) -> None:
    with pytest.raises(SystemExit):
        at_work(DeviceError("cuda: an illegal memory access was encountered"))
    assert {entry.state for entry in entries_of(redis)} == {State.RETRYING}
    assert not Ledger(redis, Limits()).leased(pair.btc for pair in CELL_PAIRS)


def test_a_process_that_is_told_to_stop_gives_back_its_units_unblamed(
    at_work: Callable[[BaseException], Ledger], redis: Redis
) -> None:
    with pytest.raises(SystemExit):
        at_work(SystemExit(0))
    assert {(entry.state, entry.deaths, entry.error) for entry in entries_of(redis)} == {(State.RETRYING, 0, "")}
    assert not Ledger(redis, Limits()).leased(pair.btc for pair in CELL_PAIRS)


def test_a_message_of_a_unit_that_another_worker_holds_ends_without_a_result(
    environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with this_process(environment, monkeypatch) as ledger:
        from eo_tasks.tasks.batch import infer_batch

        ledger.enqueue(UNIT)
        ledger.begin(UNIT, "another", "gpu@other")
        with pytest.raises(Ignore):
            infer_batch(TASK, PAIRS[0])


# The ledger's and the queue's part, without a worker

UNIT, OTHER = PAIRS[0].btc, PAIRS[1].btc


def test_only_a_unit_whose_message_waits_is_claimed(redis: Redis) -> None:
    ledger = Ledger(redis, Limits())
    assert ledger.claim(UNIT, "me", "w") is None
    ledger.enqueue(UNIT)
    lease = ledger.claim(UNIT, "me", "w")
    assert lease is not None
    assert ledger.entry(UNIT).state is State.STARTED
    assert ledger.claim(UNIT, "another", "w") is None
    ledger.finish(lease, is_skipped=False)
    assert ledger.claim(UNIT, "me", "w") is None


def test_a_unit_that_took_a_worker_down_is_not_claimed_beside_another(redis: Redis) -> None:
    ledger = Ledger(redis, Limits())
    ledger.enqueue(UNIT)
    ledger.begin(UNIT, "first", "w")
    redis.delete(f"eo-tasks:lease:{UNIT.id}")  # its worker died
    ledger.enqueue(UNIT, is_lost=True)
    assert ledger.entry(UNIT).deaths == 1
    assert ledger.claim(UNIT, "second", "w") is None
    assert ledger.begin(UNIT, "second", "w") is not None


def test_messages_are_looked_at_in_the_order_of_their_delivery(redis: Redis, broker: Redis) -> None:
    ids = [f"btc_{number}_2021_2022" for number in range(120)]
    for unit_id in ids:
        broker.lpush("btc", json.dumps({"headers": {"id": unit_id}}))
    assert list(next_ids(broker, "btc")) == ids
    assert broker.llen("btc") == len(ids)


def test_a_heartbeat_keeps_the_leases_that_it_is_told_to_hold_and_no_other(redis: Redis) -> None:
    ledger = Ledger(redis, Limits(lease_s=1))
    for unit in (UNIT, OTHER):
        ledger.enqueue(unit)
    kept, dropped = (ledger.begin(unit, "me", "w") for unit in (UNIT, OTHER))
    redis.config_set("notify-keyspace-events", "KEx")
    with redis.pubsub(ignore_subscribe_messages=True) as expired:
        expired.psubscribe("__keyspace@1__:eo-tasks:lease:*")
        expired.get_message(timeout=5)
        with Heartbeat(ledger, dropped) as heartbeat:
            heartbeat.hold(kept)
            heartbeat.drop(dropped)
            gone = next(message for message in iter(lambda: expired.get_message(timeout=10), None) if message)
            assert gone["channel"].endswith(OTHER.id)
            assert ledger.leased([UNIT, OTHER]) == {UNIT}
