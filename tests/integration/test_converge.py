"""Plan and send, against a real Redis: what is in flight, lost, stuck or done."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from eo_tasks.grid import GridYear, YearPair
from eo_tasks.sample import Sample
from eo_tasks.settings import current_settings
from eo_tasks.state.entry import State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.queues import queued_ids
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
    from beat.ticks import sweep

    return int(sweep()["sent"])


def test_every_grid_year_is_one_message_under_the_units_name(ledger: Ledger, broker: Redis) -> None:
    result = enqueue([2021, 2022], [463, 464])
    assert (result["planned"], result["skipped"], result["enqueued"]) == (10, 0, 4)
    assert queued(broker) == {f"download_{cell}_{year}" for cell in (463, 464) for year in (2021, 2022)}


def test_enqueueing_twice_sends_nothing_twice(ledger: Ledger, broker: Redis) -> None:
    enqueue([2021, 2022], [463])
    assert enqueue([2022, 2021], [463])["enqueued"] == 0
    assert broker.llen("downloads") == 2


def test_no_more_than_max_in_flight_are_queued_and_the_sweep_sends_the_rest(
    ledger: Ledger, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_IN_FLIGHT", "2")
    current_settings.cache_clear()
    assert enqueue([2021, 2022], [463, 464])["enqueued"] == 2
    assert sweep() == 0
    lease = ledger.begin(DOWNLOAD, "me", "w")
    ledger.fail(lease, "SourceError: no")
    assert sweep() == 1
    assert broker.llen("downloads") == 3


def test_message_that_vanished_is_sent_again_once_it_is_overdue(
    ledger: Ledger, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eo_tasks.tasks import converge

    enqueue([2021], [463])
    broker.delete("downloads")
    assert sweep() == 0
    monkeypatch.setattr(converge, "MESSAGE_GRACE_S", -1)
    assert sweep() == 1
    assert sweep() == 0
    assert queued(broker) == {DOWNLOAD.id}


def test_lost_messages_are_sent_again_although_max_in_flight_is_reached(
    ledger: Ledger, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eo_tasks.tasks import converge

    monkeypatch.setenv("MAX_IN_FLIGHT", "2")
    monkeypatch.setattr(converge, "MESSAGE_GRACE_S", -1)
    current_settings.cache_clear()
    enqueue([2021, 2022], [463, 464])
    before = queued(broker)
    broker.delete("downloads")
    assert sweep() == 2
    assert queued(broker) == before


def test_unit_whose_worker_died_is_sent_again(ledger: Ledger, broker: Redis) -> None:
    enqueue([2021], [463])
    ledger.begin(DOWNLOAD, "me", "w")
    assert sweep() == 0
    ledger.redis.delete(f"eo-tasks:lease:{DOWNLOAD.id}")
    assert sweep() == 1
    assert ledger.entry(DOWNLOAD).deaths == 1


def test_failed_unit_waits_for_a_person_and_is_reported(ledger: Ledger) -> None:
    enqueue([2021], [463])
    ledger.fail(ledger.begin(DOWNLOAD, "me", "w"), "SourceError: no")
    assert sweep() == 0
    assert enqueue([2021], [463])["waiting_for_a_person"] == 1
    assert ledger.entry(DOWNLOAD).state is State.FAILED
    ledger.reset(DOWNLOAD)
    assert sweep() == 1


def test_real_steps_run_once_and_the_second_image_sends_the_pair(ledger: Ledger, broker: Redis, sample: Sample) -> None:
    from eo_tasks.tasks import btc, download, store
    from eo_tasks.tasks.send import send_ready_pairs

    enqueue([2021, 2022], [463])
    pair = YearPair(463, 2021, 2022)
    for year in (2021, 2022):
        assert download.apply(args=(463, year), throw=True).result["state"] == "completed"
        assert ledger.entry(GridYear(463, year).store).state is State.ENQUEUED
        assert pair.btc.id not in queued(broker)
        assert store.apply(args=(463, year), throw=True).result["state"] == "completed"
    assert pair.btc.id in queued(broker)
    assert send_ready_pairs(GridYear(463, 2021)) == ()
    assert btc.apply(args=(463, 2021, 2022), throw=True).result["state"] == "completed"
    result = enqueue([2021, 2022], [463])
    assert (result["planned"], result["skipped"], result["enqueued"]) == (0, 5, 0)
    assert sweep() == 0
    assert ledger.redis.hlen("eo-tasks:runs") == 0


def test_source_that_does_not_answer_is_tried_again_later_and_fails_in_the_end(
    ledger: Ledger, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eo_tasks.tasks import context, download, shell

    monkeypatch.setenv("STAC_URL", "http://127.0.0.1:9/")
    monkeypatch.setenv("MAX_ATTEMPTS", "2")
    monkeypatch.setattr(shell, "FIRST_DELAY_S", 0.0)
    current_settings.cache_clear()
    context.pipeline.cache_clear()
    context.ledger.cache_clear()
    enqueue([2021], [463])
    assert download.apply(args=(463, 2021)).state == "RETRY"
    entry = ledger.entry(DOWNLOAD)
    assert (entry.state, entry.attempts) == (State.RETRYING, 1)
    assert entry.error.startswith("SourceUnavailableError: Cell 463, 2021: ")
    assert sweep() == 1
    assert download.apply(args=(463, 2021)).state == "FAILURE"
    assert ledger.entry(DOWNLOAD).state is State.FAILED
    assert sweep() == 0


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
    from eo_tasks.tasks import btc, context, download, store

    enqueue([2021, 2022], [463])
    for year in (2021, 2022):
        download.apply(args=(463, year), throw=True)
        store.apply(args=(463, year), throw=True)
    btc.apply(args=(463, 2021, 2022), throw=True)
    monkeypatch.setenv("BTC_THRESHOLD", "0.5")
    current_settings.cache_clear()
    context.pipeline.cache_clear()
    result = enqueue([2021, 2022], [463])
    stages = result["stages"]
    assert stages["download"]["planned"] == stages["store"]["planned"] == 0
    assert (stages["btc"]["planned"], stages["btc"]["enqueued"]) == (1, 1)


def test_data_dir_of_another_grid_is_refused(
    ledger: Ledger, sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eo_tasks.errors import StorageError
    from eo_tasks.grid_file import make_grid
    from eo_tasks.tasks import context, download, store

    enqueue([2021], [463])
    download.apply(args=(463, 2021), throw=True)
    store.apply(args=(463, 2021), throw=True)
    make_grid(sample.grid_file, 500, tmp_path / "other.gpkg")
    monkeypatch.setenv("GRID_FILE", os.fspath(tmp_path / "other.gpkg"))
    current_settings.cache_clear()
    context.pipeline.cache_clear()
    with pytest.raises(StorageError, match=r"^Cell 463, 2021: .* of another grid"):
        enqueue([2021], [463])
