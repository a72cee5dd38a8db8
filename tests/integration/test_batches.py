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
from redis.exceptions import ConnectionError as RedisConnectionError

from eo_tasks.errors import DeviceError, PermanentError
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges
from eo_tasks.state.entry import Entry, Limits, State
from eo_tasks.state.heartbeat import Heartbeat
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.queues import next_ids
from eo_tasks.state.runs import Run
from eo_tasks.steps import Outcome
from eo_tasks.storage import LocalStore
from eo_tasks.units import Stage, Unit
from tests.archive import image_path
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


def settled(ledger: Ledger) -> dict[str, Entry]:
    """What the ledger knows of the pairs that ended."""
    entries = ledger.entries(pair.btc for pair in PAIRS)
    return {unit.id: entry for unit, entry in entries.items() if entry.state.is_settled}


def times_of_delivery(log: str) -> dict[str, float]:
    """When the worker took each message, seconds since 1970."""
    lines = re.findall(r"\[(\S+ \S+),(\d+): INFO/MainProcess\] Task eo_tasks\.btc\[(\w+)\] received", log)
    return {unit_id: mktime(strptime(at, "%Y-%m-%d %H:%M:%S")) + int(ms) / 1000 for at, ms, unit_id in lines}


def test_one_message_brings_on_the_pairs_that_wait_and_every_unit_is_done_once(
    country: dict[str, str], redis: Redis, broker: Redis, tmp_path: Path
) -> None:
    ledger = Ledger(redis, Limits())
    with system(country, tmp_path / "logs") as running:
        enqueue(country, tmp_path, running, redis)
        assert sorted(next_ids(broker, "btc")) == sorted(pair.btc.id for pair in PAIRS)
        running.start("gpu", GPU)
        wait_for(redis, lambda: len(settled(ledger)) == len(PAIRS), DEADLINE_S, running.logs)

        def is_idle() -> bool:  # the other messages are delivered, and end at once
            log = (tmp_path / "logs" / "gpu.log").read_text()
            return broker.llen("btc") == 0 and all(f"[{pair.btc.id}] succeeded" in log for pair in PAIRS)

        wait_for(redis, is_idle, DEADLINE_S, running.logs)
    entries = ledger.entries(pair.btc for pair in PAIRS)
    assert {(entry.state, entry.attempts) for entry in entries.values()} == {(State.COMPLETED, 1)}
    delivered = times_of_delivery((tmp_path / "logs" / "gpu.log").read_text())
    done_before = [unit for unit, entry in entries.items() if entry.since < delivered[unit.id]]
    assert len(done_before) >= len(PAIRS) - 2, "most pairs were to be done before their own message came"
    store = LocalStore(Path(country["DATA_DIR"]))
    assert all((store.mask_record(pair) or {})["changed_ha"] > 0 for pair in PAIRS)
    assert not redis.keys("celery-task-meta-btc_*")


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
            told = f"[{bad.btc.id}] raised expected: PermanentError('StorageError: Cell 1, 2023: "
            return len(settled(ledger)) == len(PAIRS) and told in log

        wait_for(redis, is_delivered, DEADLINE_S, running.logs)
    states = {unit: entry.state for unit, entry in ledger.entries(pair.btc for pair in PAIRS).items()}
    assert states.pop(bad.btc) is State.FAILED
    assert set(states.values()) == {State.COMPLETED}
    assert ledger.entry(bad.btc).error.startswith("StorageError: Cell 1, 2023: the stored composite is broken")


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


def send(ledger: Ledger, pairs: Iterable[YearPair]) -> list[Unit]:
    """Have the messages of pairs sent, as far as there is room, by a run that wants all of them."""
    from eo_tasks.tasks.context import runs
    from eo_tasks.tasks.send import dispatch

    run = runs().add(Run(Wanted(Ranges.of(range(CELLS)), YEARS), created_at=1.0))
    ledger.make_ready((pair.btc for pair in pairs), run.id)
    return dispatch(Stage.BTC, [run])


@pytest.fixture
def at_work(
    environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[BaseException], Ledger]]:
    """Run the task of a cell's first pair, whose second one waits, with an inference that raises."""
    with this_process(environment, monkeypatch) as ledger:
        from eo_tasks import steps
        from eo_tasks.tasks import batch

        def run(error: BaseException) -> Ledger:
            def failing(_: object, groups: Iterable[list[YearPair]]) -> Iterator[tuple[YearPair, Outcome]]:
                taken = next(iter(groups))
                assert taken == CELL_PAIRS
                raise error
                yield

            monkeypatch.setattr(steps, "infer_all", failing)
            assert send(ledger, CELL_PAIRS) == [pair.btc for pair in CELL_PAIRS]
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


def test_leases_of_units_whose_end_could_not_be_written_down_are_left_to_end(
    at_work: Callable[[BaseException], Ledger], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eo_tasks.tasks.context import heartbeat

    def away(*_: object, **__: object) -> None:
        raise RedisConnectionError("Connection refused")

    renewed: list[str] = []
    monkeypatch.setattr(Ledger, "retry", away)
    monkeypatch.setattr(Ledger, "renew", lambda _, lease: renewed.append(lease.unit.id) or True)
    with pytest.raises(RedisConnectionError):
        at_work(RuntimeError("no such kernel"))
    later = heartbeat()._clock() + 3600
    monkeypatch.setattr(heartbeat(), "_clock", lambda: later)
    for pair in CELL_PAIRS:
        heartbeat().confirm(pair.btc)  # would renew a lease that it held
    assert renewed == []


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


@pytest.mark.parametrize("max_in_flight", [1000, 3, 1])
def test_a_task_takes_on_what_waits_and_what_found_no_room_before(
    environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch, max_in_flight: int
) -> None:
    with this_process(environment | {"MAX_IN_FLIGHT": str(max_in_flight)}, monkeypatch) as ledger:
        from eo_tasks import steps
        from eo_tasks.tasks import batch

        most, taken = [], []

        def infer_all(_: object, groups: Iterable[list[YearPair]]) -> Iterator[tuple[YearPair, Outcome]]:
            for group in groups:
                taken.append(group)
                most.append(len(ledger.active(Stage.BTC)))
                for pair in group:
                    yield pair, Outcome(False, {"changed_ha": 1.0})

        monkeypatch.setattr(steps, "infer_all", infer_all)
        assert len(send(ledger, PAIRS)) == min(max_in_flight, len(PAIRS))
        assert batch.infer_batch(TASK, PAIRS[0]) == {
            "unit": PAIRS[0].btc.id, "state": "completed", "changed_ha": 1.0,
        }  # fmt: skip
        assert sorted(pair for group in taken for pair in group) == PAIRS
        assert all(len({pair.grid_id for pair in group}) == 1 for group in taken)
        if max_in_flight > len(PAIRS):
            assert [len(group) for group in taken] == [len(YEARS) - 1] * CELLS
        assert max(most) <= max_in_flight
        assert set(settled(ledger)) == {pair.btc.id for pair in PAIRS}
        assert not ledger.leased(pair.btc for pair in PAIRS)


def test_a_task_of_a_pair_that_took_a_worker_down_takes_no_other_on(
    environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with this_process(environment, monkeypatch) as ledger:
        from eo_tasks import steps
        from eo_tasks.tasks import batch

        taken = []

        def infer_all(_: object, groups: Iterable[list[YearPair]]) -> Iterator[tuple[YearPair, Outcome]]:
            for group in groups:
                taken.append(group)
                yield group[0], Outcome(False, {})

        monkeypatch.setattr(steps, "infer_all", infer_all)
        send(ledger, PAIRS)
        lose(ledger, PAIRS[0].btc)
        batch.infer_batch(TASK, PAIRS[0])
        assert taken == [[PAIRS[0]]]
        assert set(settled(ledger)) == {PAIRS[0].btc.id}


def test_a_message_of_a_unit_that_another_worker_holds_ends_without_a_result(
    environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with this_process(environment, monkeypatch) as ledger:
        from eo_tasks.tasks.batch import infer_batch

        send(ledger, PAIRS[:1])
        ledger.begin(UNIT, "another", "gpu@other")
        with pytest.raises(Ignore):
            infer_batch(TASK, PAIRS[0])


@pytest.mark.parametrize("is_failed", [False, True])
def test_a_message_of_a_unit_that_ended_in_another_batch_ends_as_the_unit_did(
    environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch, *, is_failed: bool
) -> None:
    with this_process(environment, monkeypatch) as ledger:
        from eo_tasks.tasks.batch import infer_batch

        send(ledger, PAIRS[:1])
        lease = ledger.claim(UNIT, "another", "gpu@other")
        if is_failed:
            ledger.fail(lease, "StorageError: Cell 0, 2021: broken")
            with pytest.raises(PermanentError, match=r"^StorageError: Cell 0, 2021: broken$"):
                infer_batch(TASK, PAIRS[0])
        else:
            ledger.finish(lease, is_skipped=False)
            assert infer_batch(TASK, PAIRS[0]) == {"unit": UNIT.id, "state": "completed"}


# The ledger's and the queue's part, without a worker

UNIT, OTHER = PAIRS[0].btc, PAIRS[1].btc


def take(ledger: Ledger, *units: Unit) -> None:
    """Let units be enqueued."""
    ledger.make_ready(units, "run")
    assert ledger.take(Stage.BTC, "run", len(units)) == list(units)


def lose(ledger: Ledger, unit: Unit) -> None:
    """Let a unit take its worker down, and be sent again."""
    ledger.begin(unit, "first", "w")
    ledger.redis.delete(f"eo-tasks:lease:{unit.id}")
    assert ledger.resend([unit]) == [unit]
    assert ledger.entry(unit).deaths == 1


def test_only_a_unit_whose_message_waits_is_claimed(redis: Redis) -> None:
    ledger = Ledger(redis, Limits())
    assert ledger.claim(UNIT, "me", "w") is None
    take(ledger, UNIT)
    lease = ledger.claim(UNIT, "me", "w")
    assert lease is not None
    assert ledger.entry(UNIT).state is State.STARTED
    assert ledger.claim(UNIT, "another", "w") is None
    ledger.finish(lease, is_skipped=False)
    assert ledger.claim(UNIT, "me", "w") is None


def test_a_unit_that_took_a_worker_down_is_not_claimed_beside_another(redis: Redis) -> None:
    ledger = Ledger(redis, Limits())
    take(ledger, UNIT)
    lose(ledger, UNIT)
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
    take(ledger, UNIT, OTHER)
    redis.config_set("notify-keyspace-events", "KEx")
    with redis.pubsub(ignore_subscribe_messages=True) as expired:
        expired.psubscribe("__keyspace@1__:eo-tasks:lease:*")
        expired.get_message(timeout=5)
        heartbeat = Heartbeat(ledger)
        heartbeat.take(lambda: ledger.begin(UNIT, "me", "w"))
        heartbeat.drop(heartbeat.take(lambda: ledger.begin(OTHER, "me", "w")))
        gone = next(message for message in iter(lambda: expired.get_message(timeout=10), None) if message)
        assert gone["channel"].endswith(OTHER.id)
        assert ledger.leased([UNIT, OTHER]) == {UNIT}
        heartbeat.stop()
