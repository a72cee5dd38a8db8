"""Plan and send, against a real Redis: what is in flight, lost, stuck or done."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic, time

import pytest
from redis import Redis

from eo_tasks.grid import GridYear, YearPair
from eo_tasks.sample import Sample
from eo_tasks.settings import current_settings
from eo_tasks.state.entry import State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.queues import queued_ids
from eo_tasks.state.runs import RunState
from eo_tasks.tasks import context
from eo_tasks.tasks.context import runs
from eo_tasks.units import Stage, Unit
from tests.system import this_process

pytestmark = pytest.mark.integration

DOWNLOAD = GridYear(463, 2021).download


@pytest.fixture
def ledger(sample_environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """The ledger of this process, which is pointed at the test's Redis and DATA_DIR."""
    with this_process(sample_environment, monkeypatch) as made:
        yield made


def queued(broker: Redis) -> set[str]:
    return queued_ids(broker, ["downloads", "stores", "btc"])


def enqueue(years: list[int], grid_ids: list[int]) -> dict[str, object]:
    from eo_tasks.tasks.enqueue import enqueue_years

    return dict(enqueue_years(years, grid_ids))


def sweep() -> int:
    """What the ticks do, at once: look at every cell and every unit in flight; gives how many units were sent."""
    from eo_tasks.tasks.feed import feed
    from eo_tasks.tasks.sweep import sweep

    for run in runs().active():
        runs().rewind(run)
    resent = sweep(monotonic() + 30)["sent"]
    return resent + sum(feed(monotonic() + 30).values())


def fail(ledger: Ledger, unit: Unit) -> None:
    """What a worker does with a unit that cannot be done."""
    ledger.fail(ledger.begin(unit, "me", "w"), f"SourceError: {unit}: no")


def reopened(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Ledger:
    """Change settings of this process; gives its ledger with its new limits."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    current_settings.cache_clear()
    context.reopen()
    return context.ledger()


def state(result: dict[str, object]) -> RunState:
    """Where the run of an answer stands now."""
    run = runs().get(str(result["run"]))
    assert run is not None
    return run.state


def test_every_grid_year_is_one_message_under_the_units_name(ledger: Ledger, broker: Redis) -> None:
    result = enqueue([2021, 2022], [463, 464])
    assert (result["planned"], result["skipped"], result["enqueued"]) == (10, 0, 4)
    assert queued(broker) == {f"download_{cell}_{year}" for cell in (463, 464) for year in (2021, 2022)}


def test_enqueueing_twice_sends_nothing_twice(ledger: Ledger, broker: Redis) -> None:
    enqueue([2021, 2022], [463])
    assert enqueue([2022, 2021], [463])["enqueued"] == 0
    assert broker.llen("downloads") == 2


def test_no_more_than_max_in_flight_are_queued_and_the_feeder_sends_the_rest(
    ledger: Ledger, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = reopened(monkeypatch, MAX_IN_FLIGHT="2")
    assert enqueue([2021, 2022], [463, 464])["enqueued"] == 2
    assert sweep() == 0
    fail(ledger, DOWNLOAD)
    assert sweep() == 1
    assert broker.llen("downloads") == 3


def test_message_that_vanished_is_sent_again_once_it_is_overdue(ledger: Ledger, broker: Redis) -> None:
    enqueue([2021], [463])
    broker.delete("downloads")
    assert sweep() == 0
    ledger.look_again([DOWNLOAD], 0)
    assert sweep() == 1
    assert sweep() == 0
    assert queued(broker) == {DOWNLOAD.id}


def test_message_that_waits_is_not_sent_again_however_long_it_waits(ledger: Ledger, broker: Redis) -> None:
    enqueue([2021], [463])
    ledger.look_again([DOWNLOAD], 0)
    assert sweep() == 0
    assert broker.llen("downloads") == 1
    assert ledger.active(DOWNLOAD.stage, until=time()) == []  # not to be looked at again at once


def test_lost_messages_are_sent_again_although_max_in_flight_is_reached(
    ledger: Ledger, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = reopened(monkeypatch, MAX_IN_FLIGHT="2")
    enqueue([2021, 2022], [463, 464])
    before = queued(broker)
    broker.delete("downloads")
    ledger.look_again([Unit.parse(unit_id) for unit_id in before], 0)
    assert sweep() == 2
    assert queued(broker) == before


def test_unit_whose_worker_died_is_sent_again(ledger: Ledger, broker: Redis) -> None:
    enqueue([2021], [463])
    ledger.begin(DOWNLOAD, "me", "w")
    ledger.look_again([DOWNLOAD], 0)
    assert sweep() == 0  # it lives
    ledger.redis.delete(f"eo-tasks:lease:{DOWNLOAD.id}")
    assert sweep() == 0  # its lease would have lasted until then
    ledger.look_again([DOWNLOAD], 0)
    assert sweep() == 1
    assert ledger.entry(DOWNLOAD).deaths == 1


def test_unit_that_ended_one_worker_too_many_is_not_sent_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = reopened(monkeypatch, MAX_DEATHS="2")
    result = enqueue([2021], [463])
    for sent in (1, 0):
        ledger.begin(DOWNLOAD, f"worker before {sent}", "cpu@host")
        ledger.redis.delete(f"eo-tasks:lease:{DOWNLOAD.id}")
        ledger.look_again([DOWNLOAD], 0)
        assert sweep() == sent
    assert ledger.entry(DOWNLOAD).state is State.QUARANTINED
    assert state(result) is RunState.INCOMPLETE


def test_failed_unit_waits_for_a_person_and_is_reported(ledger: Ledger) -> None:
    result = enqueue([2021], [463])
    fail(ledger, DOWNLOAD)
    assert sweep() == 0
    assert state(result) is RunState.INCOMPLETE
    again = enqueue([2021], [463])
    assert (again["waiting_for_a_person"], again["enqueued"]) == (1, 0)
    assert ledger.entry(DOWNLOAD).state is State.FAILED
    ledger.forget([DOWNLOAD])
    assert enqueue([2021], [463])["enqueued"] == 1


def test_real_steps_run_once_and_the_second_image_sends_the_pair(ledger: Ledger, broker: Redis, sample: Sample) -> None:
    from eo_tasks.tasks import btc, download, store

    result = enqueue([2021, 2022], [463])
    pair = YearPair(463, 2021, 2022)
    for year in (2021, 2022):
        assert download.apply(args=(463, year), throw=True).result["state"] == "completed"
        assert ledger.entry(GridYear(463, year).store).state is State.ENQUEUED
        assert pair.btc.id not in queued(broker)
        assert store.apply(args=(463, year), throw=True).result["state"] == "completed"
    assert [unit_id for unit_id in queued(broker) if unit_id.startswith("btc")] == [pair.btc.id]
    assert ledger.ready_length(str(result["run"]), Stage.BTC) == 0
    assert btc.apply(args=(463, 2021, 2022), throw=True).result["state"] == "completed"
    assert sweep() == 0
    assert state(result) is RunState.COMPLETE
    again = enqueue([2021, 2022], [463])
    assert (again["planned"], again["skipped"], again["enqueued"], again["state"]) == (0, 5, 0, "complete")


def test_second_delivery_of_a_units_message_is_dropped(ledger: Ledger) -> None:
    from eo_tasks.tasks import download

    enqueue([2021], [463])
    assert download.apply(args=(463, 2021)).state == "SUCCESS"
    assert download.apply(args=(463, 2021)).state == "IGNORED"
    assert ledger.entry(DOWNLOAD).attempts == 1


def test_source_that_does_not_answer_is_tried_again_later_and_fails_in_the_end(
    ledger: Ledger, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eo_tasks.tasks import download, retries

    at_once = tuple((kind, replace(policy, first_s=0, longest_s=0)) for kind, policy in retries.POLICIES)
    monkeypatch.setattr(retries, "POLICIES", at_once)
    ledger = reopened(monkeypatch, STAC_URL="http://127.0.0.1:9/", MAX_ATTEMPTS="2")
    result = enqueue([2021], [463])
    assert download.apply(args=(463, 2021)).state == "RETRY"
    entry = ledger.entry(DOWNLOAD)
    assert (entry.state, entry.attempts) == (State.RETRYING, 1)
    assert entry.error.startswith("SourceUnavailableError: Cell 463, 2021: ")
    assert sweep() == 1
    assert download.apply(args=(463, 2021)).state == "FAILURE"
    assert ledger.entry(DOWNLOAD).state is State.FAILED
    assert sweep() == 0
    assert state(result) is RunState.INCOMPLETE


def test_unit_that_is_to_be_tried_later_is_not_sent_before(ledger: Ledger, broker: Redis) -> None:
    enqueue([2021], [463])
    lease = ledger.begin(DOWNLOAD, "me", "w")
    ledger.retry(lease, "SourceUnavailableError: busy", delay_s=60)
    broker.delete("downloads")
    assert sweep() == 0
    ledger.look_again([DOWNLOAD], 0)
    assert sweep() == 0
    assert ledger.entry(DOWNLOAD).state is State.RETRYING


def test_bug_in_a_step_is_recorded_as_a_failure(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    from eo_tasks import steps
    from eo_tasks.tasks import download

    def broken(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(steps, "download", broken)
    enqueue([2021], [463])
    assert download.apply(args=(463, 2021)).state == "FAILURE"
    assert ledger.entry(DOWNLOAD).error == "ZeroDivisionError: division by zero"


def test_stopped_worker_gives_its_unit_back_unblamed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    from eo_tasks import steps
    from eo_tasks.tasks import download

    def stopped(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(steps, "download", stopped)
    enqueue([2021], [463])
    with pytest.raises(SystemExit):
        download.apply(args=(463, 2021), throw=True)
    entry = ledger.entry(DOWNLOAD)
    assert (entry.state, entry.deaths) == (State.RETRYING, 0)
    assert sweep() == 1


def test_changed_threshold_makes_only_masks_stale(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    from eo_tasks.tasks import btc, download, store

    enqueue([2021, 2022], [463])
    for year in (2021, 2022):
        download.apply(args=(463, year), throw=True)
        store.apply(args=(463, year), throw=True)
    btc.apply(args=(463, 2021, 2022), throw=True)
    assert sweep() == 0
    reopened(monkeypatch, BTC_THRESHOLD="0.5")
    result = enqueue([2021, 2022], [463])
    stages = result["stages"]
    assert stages["download"]["planned"] == stages["store"]["planned"] == 0
    assert (stages["btc"]["planned"], stages["btc"]["enqueued"]) == (1, 1)


def test_data_dir_of_another_grid_is_refused(
    ledger: Ledger, sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eo_tasks.errors import StorageError
    from eo_tasks.grid_file import make_grid
    from eo_tasks.tasks import download, store

    enqueue([2021], [463])
    download.apply(args=(463, 2021), throw=True)
    store.apply(args=(463, 2021), throw=True)
    make_grid(sample.grid_file, 500, tmp_path / "other.gpkg")
    reopened(monkeypatch, GRID_FILE=os.fspath(tmp_path / "other.gpkg"))
    with pytest.raises(StorageError, match=r"^Cell 463, 2021: .* of another grid"):
        enqueue([2021], [463])
