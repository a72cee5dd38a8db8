"""The ledger against a real Redis."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from eo_tasks.state.heartbeat import Heartbeat
from eo_tasks.state.ledger import Entry, Ledger, Limits, State
from eo_tasks.units import Stage, Unit

pytestmark = pytest.mark.integration

UNIT = Unit(Stage.DOWNLOAD, 463, (2023,))
LIMITS = Limits(lease_s=30, max_attempts=2, max_deaths=2)


class Clock:
    """A clock that tests set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(redis: Redis, clock: Clock) -> Ledger:
    return Ledger(redis, LIMITS, clock)


def lose_lease(ledger: Ledger, unit: Unit = UNIT) -> None:
    """What time does to the lease of a dead worker."""
    assert ledger.redis.delete(f"eo-tasks:lease:{unit.id}") == 1


def test_unit_without_an_entry_is_pending(ledger: Ledger) -> None:
    assert ledger.entry(UNIT) == Entry()
    assert ledger.entry(UNIT).state is State.PENDING


def test_unit_goes_from_enqueued_through_started_to_completed(ledger: Ledger, clock: Clock) -> None:
    assert ledger.enqueue(UNIT)
    assert ledger.entry(UNIT).state is State.ENQUEUED
    clock.now = 1010
    lease = ledger.begin(UNIT, "me", "cpu@host")
    assert lease is not None
    clock.now = 1020
    assert ledger.finish(lease, is_skipped=False)
    assert ledger.entry(UNIT) == Entry(State.COMPLETED, attempts=1, since=1020, started_at=1010, worker="cpu@host")


def test_counts_follow_every_transition(ledger: Ledger) -> None:
    others = [Unit(Stage.DOWNLOAD, grid_id, (2023,)) for grid_id in (1, 2, 3)]
    for unit in others:
        ledger.enqueue(unit)
    assert ledger.counts(Stage.DOWNLOAD, "2023") == {State.ENQUEUED: 3}
    first, second = (ledger.begin(unit, "me", "w") for unit in others[:2])
    ledger.finish(first, is_skipped=True)
    ledger.fail(second, "SourceError: no")
    assert ledger.counts(Stage.DOWNLOAD, "2023") == {State.ENQUEUED: 1, State.SKIPPED: 1, State.FAILED: 1}


def test_unit_in_flight_is_not_enqueued_again(ledger: Ledger) -> None:
    assert ledger.enqueue(UNIT)
    assert not ledger.enqueue(UNIT)
    ledger.begin(UNIT, "me", "w")
    assert not ledger.enqueue(UNIT)


def test_only_one_of_many_producers_enqueues_a_unit(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: ledger.enqueue(UNIT), range(64))) == 1


def test_second_delivery_of_a_leased_unit_is_dropped(ledger: Ledger) -> None:
    ledger.enqueue(UNIT)
    assert ledger.begin(UNIT, "first", "w1") is not None
    assert ledger.begin(UNIT, "second", "w2") is None
    assert ledger.entry(UNIT).attempts == 1


def test_only_one_of_many_workers_begins_a_unit(ledger: Ledger) -> None:
    ledger.enqueue(UNIT)
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda owner: ledger.begin(UNIT, str(owner), "w"), range(64)))
    assert sum(lease is not None for lease in leases) == 1


def test_delivery_after_completion_is_dropped(ledger: Ledger) -> None:
    ledger.enqueue(UNIT)
    ledger.finish(ledger.begin(UNIT, "me", "w"), is_skipped=False)
    assert ledger.begin(UNIT, "late", "w") is None
    assert ledger.entry(UNIT).state is State.COMPLETED


def test_completed_unit_whose_output_vanished_can_be_enqueued_again_with_a_clean_record(ledger: Ledger) -> None:
    ledger.enqueue(UNIT)
    ledger.finish(ledger.begin(UNIT, "me", "w"), is_skipped=False)
    assert ledger.enqueue(UNIT)
    assert ledger.entry(UNIT).attempts == 0


def test_late_result_of_a_worker_that_lost_its_lease_changes_nothing(ledger: Ledger) -> None:
    ledger.enqueue(UNIT)
    frozen = ledger.begin(UNIT, "frozen", "w1")
    lose_lease(ledger)
    ledger.enqueue(UNIT, is_lost=True)
    current = ledger.begin(UNIT, "current", "w2")
    assert not ledger.finish(frozen, is_skipped=False)
    assert not ledger.renew(frozen)
    assert ledger.entry(UNIT).state is State.STARTED
    assert ledger.finish(current, is_skipped=False)


def test_unit_that_ends_its_workers_is_quarantined(ledger: Ledger) -> None:
    ledger.enqueue(UNIT)
    for owner in ("first", "second"):
        assert ledger.begin(UNIT, owner, "cpu@host") is not None
        lose_lease(ledger)
        assert ledger.enqueue(UNIT, is_lost=True)
    assert ledger.begin(UNIT, "third", "cpu@host") is None
    entry = ledger.entry(UNIT)
    assert entry.state is State.QUARANTINED
    assert entry.error == "WorkerDeath: ended its worker 2 times, last on cpu@host"
    assert not ledger.enqueue(UNIT)


def test_redelivery_of_a_dead_workers_message_counts_the_death_too(ledger: Ledger) -> None:
    ledger.enqueue(UNIT)
    ledger.begin(UNIT, "first", "w")
    lose_lease(ledger)
    assert ledger.begin(UNIT, "second", "w") is not None
    assert ledger.entry(UNIT).deaths == 1


def test_transient_failure_waits_until_it_is_due(ledger: Ledger, clock: Clock) -> None:
    ledger.enqueue(UNIT)
    assert ledger.retry(ledger.begin(UNIT, "me", "w"), "SourceUnavailableError: busy", delay_s=60)
    assert ledger.entry(UNIT).state is State.RETRYING
    clock.now += 59
    assert not ledger.enqueue(UNIT)
    clock.now += 2
    assert ledger.enqueue(UNIT)


def test_unit_has_failed_once_its_tries_are_used_up(ledger: Ledger, clock: Clock) -> None:
    for delay_s in (1, 1):
        ledger.enqueue(UNIT)
        is_put_back = ledger.retry(ledger.begin(UNIT, "me", "w"), "SourceUnavailableError: busy", delay_s)
        clock.now += 10
    assert not is_put_back
    assert ledger.entry(UNIT).state is State.FAILED
    assert not ledger.enqueue(UNIT)


def test_failed_unit_starts_afresh_after_reset(ledger: Ledger) -> None:
    ledger.enqueue(UNIT)
    assert not ledger.reset(UNIT)
    ledger.fail(ledger.begin(UNIT, "me", "w"), "SourceError: no")
    assert dict(ledger.waiting_for_a_person())[UNIT].error == "SourceError: no"
    assert ledger.reset(UNIT)
    assert ledger.entry(UNIT) == Entry()
    assert ledger.counts(Stage.DOWNLOAD, "2023") == {}
    assert ledger.enqueue(UNIT)


def test_unit_of_a_stopped_worker_is_given_back_without_blame(ledger: Ledger) -> None:
    ledger.enqueue(UNIT)
    ledger.begin(UNIT, "me", "w")
    assert ledger.release_all() == 1
    assert ledger.enqueue(UNIT)
    assert ledger.entry(UNIT).deaths == 0
    assert ledger.begin(UNIT, "next", "w") is not None


def test_entries_come_for_any_mix_of_units(ledger: Ledger) -> None:
    pair = Unit(Stage.BTC, 463, (2022, 2023))
    ledger.enqueue(pair)
    absent = Unit(Stage.STORE, 9, (2021,))
    assert {unit: entry.state for unit, entry in ledger.entries([UNIT, pair, absent]).items()} == {
        UNIT: State.PENDING,
        pair: State.ENQUEUED,
        absent: State.PENDING,
    }
    assert ledger.periods() == [(Stage.BTC, "2022_2023")]


def test_leased_units_are_told_from_the_others(ledger: Ledger) -> None:
    other = Unit(Stage.DOWNLOAD, 464, (2023,))
    ledger.enqueue(UNIT)
    ledger.begin(UNIT, "me", "w")
    assert ledger.leased([UNIT, other]) == {UNIT}


def test_heartbeat_outlives_the_lease_it_renews(redis: Redis) -> None:
    ledger = Ledger(redis, Limits(lease_s=0.3))
    ledger.enqueue(UNIT)
    lease = ledger.begin(UNIT, "me", "w")
    with Heartbeat(ledger, lease):
        assert redis.blpop(["nothing"], timeout=1) is None  # three leases long
        assert ledger.leased([UNIT]) == {UNIT}
    assert ledger.finish(lease, is_skipped=False)
