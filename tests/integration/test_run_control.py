"""Pausing, resuming, stopping and canceling runs; trying units again; against a real Redis."""

from collections.abc import Iterator
from time import monotonic

import pytest
from redis import Redis

from eo_tasks.errors import PermanentError
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.state.entry import State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.queues import queued_ids
from eo_tasks.state.runs import Run, RunState
from eo_tasks.tasks import control
from eo_tasks.tasks.context import runs
from eo_tasks.tasks.feed import feed
from eo_tasks.tasks.sweep import sweep
from eo_tasks.units import Unit
from tests.system import this_process

pytestmark = pytest.mark.integration

CELLS = (463, 464)
DOWNLOADS = [GridYear(cell, 2021).download for cell in CELLS]


@pytest.fixture
def ledger(sample_environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """The ledger of this process, which is pointed at the test's Redis and DATA_DIR."""
    with this_process(sample_environment, monkeypatch) as made:
        yield made


def enqueue(years: tuple[int, ...] = (2021,), cells: tuple[int, ...] = CELLS, **how: bool) -> Run:
    from eo_tasks.tasks.enqueue import enqueue_years

    run = runs().get(enqueue_years(list(years), list(cells), **how)["run"])
    assert run is not None
    return run


def go_on() -> None:
    """What the ticks do, at once."""
    for run in runs().active():
        runs().rewind(run)
    sweep(monotonic() + 30)
    feed(monotonic() + 30)


def state(run: Run) -> RunState:
    found = runs().get(run.id)
    assert found is not None
    return found.state


def states(ledger: Ledger, units: list[Unit] = DOWNLOADS) -> list[State]:
    return [entry.state for entry in (ledger.entry(unit) for unit in units)]


def test_paused_run_takes_its_messages_back_and_what_is_at_work_ends(ledger: Ledger, broker: Redis) -> None:
    run = enqueue()
    lease = ledger.begin(DOWNLOADS[0], "me", "w")
    assert control.pause(run) == 1
    assert state(run) is RunState.PAUSED
    assert states(ledger) == [State.STARTED, State.PENDING]
    assert ledger.begin(DOWNLOADS[1], "its message", "w") is None
    go_on()
    assert states(ledger) == [State.STARTED, State.PENDING]
    assert ledger.finish(lease, is_skipped=False) is not None


def test_resumed_run_goes_on_where_it_was(ledger: Ledger, broker: Redis) -> None:
    run = enqueue()
    control.pause(run)
    control.resume(control.find_run(run.id[:4]))
    broker.delete("downloads")
    go_on()
    assert states(ledger) == [State.ENQUEUED] * 2
    assert queued_ids(broker, ["downloads"]) == {unit.id for unit in DOWNLOADS}


def test_request_that_is_paused_stays_paused_when_it_is_made_again(ledger: Ledger) -> None:
    run = enqueue()
    control.pause(run)
    assert enqueue().state is RunState.PAUSED
    assert states(ledger) == [State.PENDING] * 2


def test_stopped_run_ends_with_what_is_at_work_and_can_be_asked_for_again(ledger: Ledger) -> None:
    run = enqueue()
    ledger.begin(DOWNLOADS[0], "me", "w")
    control.stop(run)
    go_on()
    assert states(ledger) == [State.STARTED, State.PENDING]
    assert state(run) is RunState.STOPPED
    assert enqueue().state is RunState.ACTIVE
    assert states(ledger) == [State.STARTED, State.ENQUEUED]


def test_composite_that_is_made_while_its_run_is_paused_is_stored_all_the_same(ledger: Ledger) -> None:
    from eo_tasks.state.entry import Followers

    store = GridYear(463, 2021).store
    run = enqueue()
    lease = ledger.begin(DOWNLOADS[0], "me", "w")
    control.pause(run)
    ledger.finish(lease, is_skipped=False, followers=Followers(then=store))
    ledger.look_again([store], 0)
    go_on()
    assert states(ledger, [store]) == [State.ENQUEUED]
    assert ledger.begin(store, "me", "w") is not None


def test_canceled_run_gives_up_what_is_at_work_and_its_result_is_not_published(ledger: Ledger) -> None:
    run = enqueue()
    lease = ledger.begin(DOWNLOADS[0], "me", "w")
    assert control.cancel(run) == 2
    assert states(ledger) == [State.CANCELED] * 2
    assert not ledger.renew(lease)
    assert ledger.finish(lease, is_skipped=False) is None
    go_on()
    assert states(ledger) == [State.CANCELED] * 2
    with pytest.raises(PermanentError, match="has ended"):
        control.cancel(control.find_run(run.id))
    assert enqueue().state is RunState.ACTIVE
    assert states(ledger) == [State.ENQUEUED] * 2


def test_units_that_another_run_wants_are_left_to_it(ledger: Ledger) -> None:
    both, one = enqueue(), enqueue(cells=(463,))
    control.cancel(both)
    assert states(ledger) == [State.ENQUEUED, State.CANCELED]
    assert state(one) is RunState.ACTIVE
    control.pause(one)
    assert states(ledger) == [State.PENDING, State.CANCELED]


def test_ready_units_of_a_canceled_run_go_to_another_run_that_wants_them(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eo_tasks.settings import current_settings
    from eo_tasks.tasks import context

    monkeypatch.setenv("MAX_IN_FLIGHT", "1")
    current_settings.cache_clear()
    context.reopen()
    first, _ = enqueue(), enqueue(years=(2021, 2022))
    assert states(context.ledger()) == [State.ENQUEUED, State.PENDING]
    control.cancel(first)
    go_on()
    begun = set()
    for _ in range(4):
        (unit,) = context.ledger().active(DOWNLOADS[0].stage)
        context.ledger().fail(context.ledger().begin(unit, "me", "w"), "SourceError: no")
        begun.add(unit)
        go_on()
    assert begun == {GridYear(cell, year).download for cell in CELLS for year in (2021, 2022)}


def test_retried_unit_is_sent_at_once_and_its_run_goes_on(ledger: Ledger, broker: Redis) -> None:
    run = enqueue()
    for unit in DOWNLOADS:
        ledger.fail(ledger.begin(unit, "me", "w"), f"SourceError: {unit}: no")
    go_on()
    assert state(run) is RunState.INCOMPLETE
    broker.delete("downloads")
    done = control.retry(ledger.stuck_units())
    assert (done.sent, done.ready, done.unwanted) == (2, 0, 0)
    assert queued_ids(broker, ["downloads"]) == {unit.id for unit in DOWNLOADS}
    assert state(run) is RunState.ACTIVE


def test_failed_unit_that_no_run_wants_is_forgotten(ledger: Ledger) -> None:
    stray = GridYear(465, 2019).download
    ledger.make_ready([stray], "gone")
    ledger.take(stray.stage, "gone", 1)
    ledger.fail(ledger.begin(stray, "me", "w"), "SourceError: no")
    assert control.retry([stray]).unwanted == 1
    assert ledger.entry(stray).state is State.PENDING


def test_run_is_found_by_the_beginning_of_its_id(ledger: Ledger) -> None:
    run = enqueue()
    assert control.find_run(run.id[:5]).id == control.find_run("latest").id == run.id
    with pytest.raises(PermanentError, match=f"no such run; there are: {run.id}"):
        control.find_run("zz")


def test_fresh_start_makes_anew_what_is_stored_and_keeps_it_until_then(ledger: Ledger, broker: Redis) -> None:
    from eo_tasks.tasks import download, store
    from eo_tasks.tasks.context import pipeline

    enqueue(cells=(463,))
    for task in (download, store):
        task.apply(args=(463, 2021), throw=True)
    first = pipeline().store.image_record(GridYear(463, 2021))
    run = enqueue(cells=(463,), resume=False)
    assert run.not_before > 0
    assert pipeline().store.image_record(GridYear(463, 2021)) == first
    for task in (download, store):
        assert task.apply(args=(463, 2021), throw=True).result["state"] == "completed"
    second = pipeline().store.image_record(GridYear(463, 2021))
    assert second is not None
    assert first is not None
    assert second["made_at"] > first["made_at"]
    go_on()
    assert state(run) is RunState.COMPLETE


def test_fresh_start_tries_again_what_failed_or_had_no_imagery(ledger: Ledger) -> None:
    enqueue()
    ledger.fail(ledger.begin(DOWNLOADS[0], "me", "w"), "SourceError: no")
    ledger.find_empty(ledger.begin(DOWNLOADS[1], "me", "w"), "EmptyCompositeError: no")
    enqueue()
    assert states(ledger) == [State.FAILED, State.EMPTY]
    enqueue(resume=False)
    assert states(ledger) == [State.ENQUEUED] * 2


def test_forecast_tells_what_would_be_done_and_why_the_rest_is_skipped(
    ledger: Ledger, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eo_tasks.settings import current_settings
    from eo_tasks.tasks import btc, context, download, store
    from eo_tasks.tasks.enqueue import make_run
    from eo_tasks.tasks.forecast import forecast
    from eo_tasks.units import Stage

    enqueue((2021, 2022), (463,))
    for year in (2021, 2022):
        download.apply(args=(463, year), throw=True)
        store.apply(args=(463, year), throw=True)
    btc.apply(args=(463, 2021, 2022), throw=True)
    queued, keys = broker.llen("downloads"), sorted(ledger.redis.keys())
    made = forecast(make_run((2021, 2022, 2023), (463, 464)))
    assert [made.number(stage, "todo") for stage in Stage] == [4, 4, 3]
    assert [made.number(stage, "done") for stage in Stage] == [2, 2, 1]
    assert made.credits == 0  # a STAC catalog costs none
    assert made.busy_s[Stage.DOWNLOAD] > 0
    assert (broker.llen("downloads"), sorted(ledger.redis.keys())) == (queued, keys)

    monkeypatch.setenv("BTC_THRESHOLD", "0.5")
    current_settings.cache_clear()
    context.reopen()
    made = forecast(make_run((2021, 2022), (463,)))
    assert (made.stale_masks, made.number(Stage.DOWNLOAD, "todo"), made.number(Stage.BTC, "todo")) == (1, 0, 1)


def test_pair_of_a_canceled_run_is_not_sent_when_its_image_is_stored(ledger: Ledger) -> None:
    from eo_tasks.tasks.send import pairs_completed_by

    run = enqueue((2021, 2022), (463,))
    assert pairs_completed_by(GridYear(463, 2021)) == ((run.id, YearPair(463, 2021, 2022).btc),)
    control.cancel(run)
    assert pairs_completed_by(GridYear(463, 2021)) == ()
