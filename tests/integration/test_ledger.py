"""The ledger against a real Redis."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from eo_tasks.errors import LeaseLostError
from eo_tasks.state.entry import Entry, Followers, Lease, Limits, State
from eo_tasks.state.heartbeat import Heartbeat
from eo_tasks.state.ledger import Ledger
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


def enqueue(ledger: Ledger, unit: Unit) -> bool:
    """Make a unit ready and take it, as a dispatcher does that sends its message."""
    ledger.make_ready([unit], "run")
    return ledger.take(unit.stage, "run", 1) == [unit]


def resend(ledger: Ledger, unit: Unit) -> bool:
    """Say that a unit's message or worker is gone."""
    return ledger.resend([unit]) == [unit]


def lose_lease(ledger: Ledger, unit: Unit = UNIT) -> None:
    """What time does to the lease of a dead worker."""
    assert ledger.redis.delete(f"eo-tasks:lease:{unit.id}") == 1


def test_unit_without_an_entry_is_pending(ledger: Ledger) -> None:
    assert ledger.entry(UNIT) == Entry()
    assert ledger.entry(UNIT).state is State.PENDING


def test_unit_goes_from_enqueued_through_started_to_completed(ledger: Ledger, clock: Clock) -> None:
    assert enqueue(ledger, UNIT)
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
        enqueue(ledger, unit)
    assert ledger.counts(Stage.DOWNLOAD, "2023") == {State.ENQUEUED: 3}
    first, second = (ledger.begin(unit, "me", "w") for unit in others[:2])
    ledger.finish(first, is_skipped=True)
    ledger.fail(second, "SourceError: no")
    assert ledger.counts(Stage.DOWNLOAD, "2023") == {State.ENQUEUED: 1, State.SKIPPED: 1, State.FAILED: 1}


def test_unit_in_flight_is_not_enqueued_again(ledger: Ledger) -> None:
    assert enqueue(ledger, UNIT)
    assert not enqueue(ledger, UNIT)
    ledger.begin(UNIT, "me", "w")
    assert not enqueue(ledger, UNIT)


def test_only_one_of_many_producers_enqueues_a_unit(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: enqueue(ledger, UNIT), range(64))) == 1


def test_second_delivery_of_a_leased_unit_is_dropped(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    assert ledger.begin(UNIT, "first", "w1") is not None
    assert ledger.begin(UNIT, "second", "w2") is None
    assert ledger.entry(UNIT).attempts == 1


def test_only_one_of_many_workers_begins_a_unit(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda owner: ledger.begin(UNIT, str(owner), "w"), range(64)))
    assert sum(lease is not None for lease in leases) == 1


def test_delivery_after_completion_is_dropped(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    ledger.finish(ledger.begin(UNIT, "me", "w"), is_skipped=False)
    assert ledger.begin(UNIT, "late", "w") is None
    assert ledger.entry(UNIT).state is State.COMPLETED


def test_completed_unit_whose_output_vanished_can_be_enqueued_again_with_a_clean_record(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    ledger.finish(ledger.begin(UNIT, "me", "w"), is_skipped=False)
    assert enqueue(ledger, UNIT)
    assert ledger.entry(UNIT).attempts == 0


def test_late_result_of_a_worker_that_lost_its_lease_changes_nothing(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    frozen = ledger.begin(UNIT, "frozen", "w1")
    lose_lease(ledger)
    resend(ledger, UNIT)
    current = ledger.begin(UNIT, "current", "w2")
    assert not ledger.finish(frozen, is_skipped=False)
    assert not ledger.renew(frozen)
    assert ledger.entry(UNIT).state is State.STARTED
    assert ledger.finish(current, is_skipped=False)


def test_lease_that_ended_while_redis_was_away_is_taken_again_if_nobody_else_began(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    lease = ledger.begin(UNIT, "me", "w")
    lose_lease(ledger)
    assert ledger.renew(lease)
    assert ledger.leased([UNIT]) == {UNIT}
    lose_lease(ledger)
    assert ledger.finish(lease, is_skipped=False) is not None
    assert ledger.entry(UNIT).deaths == 0


def test_unit_that_ends_its_workers_is_quarantined(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    ledger.begin(UNIT, "first", "cpu@host")
    lose_lease(ledger)
    assert resend(ledger, UNIT)
    ledger.begin(UNIT, "second", "cpu@host")
    lose_lease(ledger)
    assert not resend(ledger, UNIT)
    assert ledger.begin(UNIT, "third", "cpu@host") is None
    entry = ledger.entry(UNIT)
    assert entry.state is State.QUARANTINED
    assert entry.error == "WorkerDeath: ended its worker 2 times, last on cpu@host"
    assert not enqueue(ledger, UNIT)
    (group,) = ledger.error_groups()
    assert (group.error_class, group.number) == ("WorkerDeath", 1)


def test_redelivery_of_a_dead_workers_message_counts_the_death_too(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    ledger.begin(UNIT, "first", "w")
    lose_lease(ledger)
    assert ledger.begin(UNIT, "second", "w") is not None
    assert ledger.entry(UNIT).deaths == 1


def test_transient_failure_waits_until_it_is_due(ledger: Ledger, clock: Clock) -> None:
    enqueue(ledger, UNIT)
    assert ledger.retry(ledger.begin(UNIT, "me", "w"), "SourceUnavailableError: busy", delay_s=60)
    assert ledger.entry(UNIT).state is State.RETRYING
    clock.now += 59
    assert not resend(ledger, UNIT)
    assert ledger.begin(UNIT, "early", "w") is None
    clock.now += 2
    assert resend(ledger, UNIT)


def test_unit_has_failed_once_its_tries_are_used_up(ledger: Ledger, clock: Clock) -> None:
    enqueue(ledger, UNIT)
    first = ledger.retry(ledger.begin(UNIT, "me", "w"), "SourceUnavailableError: busy", delay_s=1)
    clock.now += 10
    resend(ledger, UNIT)
    second = ledger.retry(ledger.begin(UNIT, "me", "w"), "SourceUnavailableError: busy", delay_s=1)
    assert (first.state, second.state) == (State.RETRYING, State.FAILED)
    assert not enqueue(ledger, UNIT)


def test_failed_unit_starts_afresh_when_it_is_forgotten(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    assert ledger.forget([UNIT]) == 0  # in flight
    ledger.fail(ledger.begin(UNIT, "me", "w"), "SourceError: no")
    assert ledger.waiting_for_a_person()[UNIT].error == "SourceError: no"
    assert ledger.forget([UNIT]) == 1
    assert ledger.entry(UNIT) == Entry()
    assert ledger.counts(Stage.DOWNLOAD, "2023") == {}
    assert ledger.error_groups() == []
    assert enqueue(ledger, UNIT)


def test_unit_of_a_stopped_worker_is_given_back_without_blame(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    ledger.begin(UNIT, "me", "w")
    assert ledger.release_all() == 1
    assert resend(ledger, UNIT)
    assert ledger.entry(UNIT).deaths == 0
    assert ledger.begin(UNIT, "next", "w") is not None


def test_entries_come_for_any_mix_of_units(ledger: Ledger) -> None:
    pair = Unit(Stage.BTC, 463, (2022, 2023))
    enqueue(ledger, pair)
    absent = Unit(Stage.STORE, 9, (2021,))
    assert {unit: entry.state for unit, entry in ledger.entries([UNIT, pair, absent]).items()} == {
        UNIT: State.PENDING,
        pair: State.ENQUEUED,
        absent: State.PENDING,
    }
    assert ledger.periods() == [(Stage.BTC, "2022_2023")]


def test_leased_units_are_told_from_the_others(ledger: Ledger) -> None:
    other = Unit(Stage.DOWNLOAD, 464, (2023,))
    enqueue(ledger, UNIT)
    ledger.begin(UNIT, "me", "w")
    assert ledger.leased([UNIT, other]) == {UNIT}


def test_heartbeat_outlives_the_lease_it_renews(redis: Redis) -> None:
    ledger = Ledger(redis, Limits(lease_s=0.3))
    heartbeat = Heartbeat(ledger)
    enqueue(ledger, UNIT)
    lease = heartbeat.take(lambda: ledger.begin(UNIT, "me", "w"))
    assert redis.blpop(["nothing"], timeout=1) is None  # three leases long
    assert ledger.leased([UNIT]) == {UNIT}
    heartbeat.confirm(UNIT)
    assert ledger.finish(lease, is_skipped=False)
    heartbeat.drop(lease)
    heartbeat.stop()


def test_heartbeat_refuses_to_publish_what_another_worker_answers_for(ledger: Ledger, clock: Clock) -> None:
    heartbeat = Heartbeat(ledger, clock)
    enqueue(ledger, UNIT)
    lease = heartbeat.take(lambda: ledger.begin(UNIT, "frozen", "w"))
    clock.now += 20
    heartbeat.confirm(UNIT)
    lose_lease(ledger)
    assert resend(ledger, UNIT)
    heartbeat.confirm(UNIT)  # renewed a moment ago: it is not asked whether another has it
    clock.now += 20  # frozen
    for _ in range(2):
        with pytest.raises(LeaseLostError, match=r"^Cell 463, 2023: "):
            heartbeat.confirm(UNIT)
    heartbeat.drop(lease)
    heartbeat.confirm(UNIT)  # not run under a lease any more
    heartbeat.stop()


def test_lease_is_as_old_as_the_question_for_it(ledger: Ledger, clock: Clock) -> None:
    heartbeat = Heartbeat(ledger, clock)
    enqueue(ledger, UNIT)

    def frozen_after_the_answer() -> Lease | None:
        lease = ledger.begin(UNIT, "frozen", "w")
        clock.now += 40
        lose_lease(ledger)
        resend(ledger, UNIT)
        return lease

    heartbeat.take(frozen_after_the_answer)
    with pytest.raises(LeaseLostError):
        heartbeat.confirm(UNIT)
    heartbeat.stop()


STORES = [Unit(Stage.STORE, 463, (year,)) for year in (2022, 2023)]
PAIR = Unit(Stage.BTC, 463, (2022, 2023))
COMPLETES = Followers(pairs=(("run", PAIR),))


def test_end_of_a_download_enqueues_its_store_in_the_same_step(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    ledger.finish(ledger.begin(UNIT, "me", "w"), is_skipped=False, followers=Followers(then=STORES[1]))
    assert ledger.entry(STORES[1]).state is State.ENQUEUED
    assert ledger.active(Stage.STORE) == [STORES[1]]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_pair_is_ready_the_moment_its_second_image_is_stored_whichever_that_is(ledger: Ledger, order) -> None:
    enqueue(ledger, STORES[0])
    enqueue(ledger, STORES[1])
    leases = [ledger.begin(unit, "me", "w") for unit in STORES]
    first, second = (ledger.finish(leases[at], is_skipped=False, followers=COMPLETES) for at in order)
    assert (first.enqueued, second.enqueued) == ((), (PAIR,))
    assert ledger.entry(PAIR).state is State.ENQUEUED
    assert ledger.active(Stage.BTC) == [PAIR]


def test_of_two_images_stored_at_once_exactly_one_makes_the_pair_ready(ledger: Ledger) -> None:
    cells = range(200)
    pairs = [Unit(Stage.BTC, cell, (2022, 2023)) for cell in cells]
    stores = [Unit(Stage.STORE, cell, (year,)) for cell in cells for year in (2022, 2023)]
    ledger.make_ready(stores, "run")
    leases = [ledger.begin(unit, "me", "w") for unit in ledger.take(Stage.STORE, "run", len(stores))]

    def end(lease: Lease) -> None:
        ledger.finish(lease, is_skipped=False, followers=Followers(pairs=(("run", pairs[lease.unit.grid_id]),)))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(end, leases))
    assert sorted(ledger.active(Stage.BTC)) == pairs


def test_pair_for_which_there_is_no_room_waits_on_the_list_of_its_run(redis: Redis) -> None:
    ledger = Ledger(redis, Limits(max_in_flight=2))
    first, second = (Unit(Stage.BTC, 463, years) for years in ((2021, 2022), (2022, 2023)))
    stores = [Unit(Stage.STORE, 463, (year,)) for year in (2021, 2022, 2023)]
    ledger.adopt([stores[0], stores[2]], State.SKIPPED)
    ledger.make_ready([Unit(Stage.BTC, 1, (2021, 2022))], "run")
    ledger.take(Stage.BTC, "run", 1)
    enqueue(ledger, stores[1])
    lease = ledger.begin(stores[1], "me", "w")
    ended = ledger.finish(lease, is_skipped=False, followers=Followers(pairs=(("run", first), ("run", second))))
    assert ended.enqueued == (first,)
    assert (ledger.ready_units("run", Stage.BTC), ledger.entry(second).state) == ([second], State.PENDING)
    assert ledger.take(Stage.BTC, "run", 5) == []
    ledger.finish(ledger.begin(first, "me", "w"), is_skipped=False)
    assert ledger.take(Stage.BTC, "run", 5) == [second]


def test_download_without_imagery_leaves_nothing_to_do_for_its_store_and_pairs(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    ended = ledger.find_empty(
        ledger.begin(UNIT, "me", "w"), "EmptyCompositeError: no", Followers(empty=(STORES[1], PAIR))
    )
    assert ended.state is State.EMPTY
    assert {ledger.entry(unit).state for unit in (UNIT, STORES[1], PAIR)} == {State.EMPTY}
    assert ledger.waiting_for_a_person() == {}
    assert not enqueue(ledger, UNIT)


def test_no_more_units_of_a_stage_are_taken_than_may_be_in_flight(redis: Redis) -> None:
    ledger = Ledger(redis, Limits(max_in_flight=3))
    units = [Unit(Stage.DOWNLOAD, cell, (2023,)) for cell in range(5)]
    assert ledger.make_ready(units, "run") == 5
    assert ledger.take(Stage.DOWNLOAD, "run", 10) == units[:3]
    assert (ledger.room(Stage.DOWNLOAD), ledger.room(Stage.BTC)) == (0, 3)
    ledger.finish(ledger.begin(units[0], "me", "w"), is_skipped=False)
    assert ledger.take(Stage.DOWNLOAD, "run", 10) == units[3:4]


def test_ready_unit_is_not_made_ready_twice(ledger: Ledger) -> None:
    assert (ledger.make_ready([UNIT], "run"), ledger.make_ready([UNIT], "other")) == (1, 0)
    assert ledger.counts(Stage.DOWNLOAD, "2023") == {State.PENDING: 1}


def test_withdrawn_unit_does_not_begin_and_can_be_made_ready_again(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    assert ledger.withdraw([UNIT], is_canceled=False) == 1
    assert ledger.begin(UNIT, "late message", "w") is None
    assert ledger.counts(Stage.DOWNLOAD, "2023") == {}
    assert enqueue(ledger, UNIT)


def test_canceled_unit_is_taken_from_its_worker(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    lease = ledger.begin(UNIT, "me", "w")
    assert ledger.withdraw([UNIT], is_canceled=True) == 1
    assert ledger.finish(lease, is_skipped=False) is None
    assert ledger.entry(UNIT).state is State.CANCELED
    assert enqueue(ledger, UNIT)


def test_what_is_found_in_the_store_is_done_even_if_it_had_failed(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    ledger.fail(ledger.begin(UNIT, "me", "w"), "SourceError: no")
    assert ledger.adopt([UNIT, *STORES], State.SKIPPED) == 3
    assert ledger.adopt([UNIT, *STORES], State.SKIPPED) == 0
    assert ledger.error_groups() == []
    assert ledger.counts(Stage.DOWNLOAD, "2023") == {State.SKIPPED: 1}


def test_failures_are_grouped_by_what_they_have_in_common(ledger: Ledger) -> None:
    units = [Unit(Stage.DOWNLOAD, cell, (2023,)) for cell in range(4)]
    for unit, error in zip(units, ["job j-7 failed", "job j-81 failed", "job j-9 failed", "no such band"], strict=True):
        enqueue(ledger, unit)
        ledger.fail(ledger.begin(unit, "me", "w"), f"SourceError: {unit}: {error}")
    first, second = ledger.error_groups()
    assert (first.error_class, first.template, first.number) == ("SourceError", "job j-# failed", 3)
    assert second.example == "SourceError: Cell 3, 2023: no such band"
    assert ledger.stuck_units([first.fingerprint]) == units[:3]


def test_retried_begin_of_the_same_delivery_holds_its_lease(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    assert ledger.begin(UNIT, "me", "w") == ledger.begin(UNIT, "me", "w")
    assert ledger.entry(UNIT).attempts == 1


def test_active_units_come_when_someone_should_look_at_them(ledger: Ledger, clock: Clock) -> None:
    enqueue(ledger, UNIT)
    grace_s = ledger.limits.grace_s
    assert ledger.active(Stage.DOWNLOAD, until=clock.now + grace_s - 1) == []
    assert ledger.active(Stage.DOWNLOAD, until=clock.now + grace_s) == [UNIT]
    ledger.look_again([UNIT], clock.now + 100)
    assert ledger.active(Stage.DOWNLOAD, until=clock.now + 99) == []


def test_changed_periods_are_told_once(ledger: Ledger) -> None:
    enqueue(ledger, UNIT)
    assert ledger.changed_periods() == [(Stage.DOWNLOAD, "2023")]
    assert ledger.changed_periods() == []
