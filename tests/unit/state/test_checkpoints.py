"""Checkpoint files: what people and other programs read, and what a lost Redis is filled from."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from eo_tasks.fingerprint import fingerprint
from eo_tasks.state.checkpoints import checkpoint_file, read_checkpoint, write_checkpoint
from eo_tasks.state.entry import Entry, State
from eo_tasks.units import Stage, Unit

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC).timestamp()
STARTED, ENDED = NOON, NOON + 900
WHY = "SourceError: Cell 5, 2023: job j-77 failed: credits exhausted"
DEATH = "WorkerDeath: ended its worker 3 times, last on cpu@host"


def download(grid_id: int, year: int = 2023) -> Unit:
    return Unit(Stage.DOWNLOAD, grid_id, (year,))


def pair(grid_id: int, before: int, after: int) -> Unit:
    return Unit(Stage.BTC, grid_id, (before, after))


def ended(state: State, error: str = "", **more: object) -> Entry:
    kind = fingerprint(error).id if state.needs_a_person else ""
    facts = {"attempts": 1, "since": ENDED, "started_at": STARTED, "worker": "cpu@host"} | more
    return Entry(state, error=error, fingerprint=kind, **facts)


ENDED_UNITS = {
    download(1): ended(State.COMPLETED),
    download(2): ended(State.SKIPPED, attempts=0, started_at=0, worker=""),
    download(3): ended(State.EMPTY, "EmptyCompositeError: Cell 3, 2023: no clear observation"),
    download(4): ended(State.CANCELED, attempts=2),
    download(5): ended(State.FAILED, WHY, attempts=10),
    download(6): ended(State.QUARANTINED, DEATH, deaths=3),
}
IN_FLIGHT = {
    download(7): Entry(State.ENQUEUED, since=ENDED),
    download(8): Entry(State.STARTED, attempts=1, since=STARTED, started_at=STARTED, worker="cpu@host"),
    download(9): Entry(State.RETRYING, attempts=1, since=ENDED, started_at=STARTED, due=ENDED + 60, error=WHY),
    download(10): Entry(State.PENDING, since=ENDED),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is not there yet, in a folder that is not there yet."""
    return tmp_path / checkpoint_file(Stage.DOWNLOAD, "2023")


def written(path: Path, entries: dict[Unit, Entry], wanted: int = 0) -> dict[str, object]:
    write_checkpoint(path, Stage.DOWNLOAD, 2023, wanted, entries.items())
    return dict(json.loads(path.read_text()))


def test_files_are_named_after_stage_and_year_and_those_of_pairs_after_the_earlier_year(tmp_path):
    assert checkpoint_file(Stage.DOWNLOAD, "2023") == Path("checkpoints/download_2023.json")
    assert checkpoint_file(Stage.STORE, "2023") == Path("checkpoints/store_2023.json")
    assert checkpoint_file(Stage.BTC, "2022_2024") == Path("checkpoints/btc_2022.json")


def test_a_file_has_the_keys_that_other_programs_read(path):
    made = written(path, {download(463): ended(State.COMPLETED)}, wanted=6)
    datetime.fromisoformat(made.pop("exported_at"))
    assert made == {
        "stage_name": "download",
        "year": 2023,
        "total_tasks": 6,
        "completed_tasks": 1,
        "failed_tasks": 0,
        "skipped_tasks": 0,
        "tasks": {
            "download_463_2023": {
                "status": "completed",
                "started_at": "2024-01-01T12:00:00",
                "completed_at": "2024-01-01T12:15:00",
                "attempts": 1,
                "worker": "cpu@host",
            }
        },
    }


def test_the_keys_are_those_of_the_shared_example_and_in_its_order(path, shared):
    example = json.loads((shared / "checkpoint-format.json").read_text())
    made = written(path, {download(463): ended(State.COMPLETED)})
    assert [key for key in made if key in example] == list(example)
    (task,), (asked,) = made["tasks"].values(), example["tasks"].values()
    assert [key for key in task if key in asked] == list(asked)
    assert all(isinstance(made[key], type(example[key])) for key in example)


def test_the_lines_of_counts_add_up_over_the_states(path):
    made = written(path, ENDED_UNITS | IN_FLIGHT, wanted=25)
    counts = {key: made[key] for key in ("total_tasks", "completed_tasks", "failed_tasks", "skipped_tasks")}
    assert counts == {
        "total_tasks": 25,
        "completed_tasks": 1,
        "failed_tasks": 2,  # one of them in quarantine
        "skipped_tasks": 2,  # one of them empty
    }
    assert len(made["tasks"]) == 10


def test_a_total_is_never_less_than_the_units_that_are_listed(path):
    assert written(path, ENDED_UNITS, wanted=2)["total_tasks"] == len(ENDED_UNITS)


def test_a_file_without_units_is_read_as_one(path):
    assert written(path, {}, wanted=3)["tasks"] == {}
    assert read_checkpoint(path) == {}


def test_only_a_unit_that_ended_has_a_time_of_its_end(path):
    tasks = written(path, ENDED_UNITS | IN_FLIGHT)["tasks"]
    assert {unit_id for unit_id, task in tasks.items() if "completed_at" in task} == {unit.id for unit in ENDED_UNITS}
    assert "started_at" not in tasks["download_2_2023"]


def test_units_that_had_ended_come_back_as_they_were_and_those_in_flight_not_at_all(path):
    written(path, ENDED_UNITS | IN_FLIGHT)
    assert read_checkpoint(path) == {"2023": {unit.grid_id: entry for unit, entry in ENDED_UNITS.items()}}


def test_a_restored_failure_is_of_the_kind_that_it_was(path):
    written(path, {download(5): ENDED_UNITS[download(5)]})
    entry = read_checkpoint(path)["2023"][5]
    assert (entry.error, entry.fingerprint) == (WHY, fingerprint(WHY).id)


def test_text_that_is_not_ascii_is_written_and_read_as_it_is(path):
    error = 'SourceError: Cell 1, 2023: „Žužemberk" \\ \u2028 – ne'
    written(path, {download(1): ended(State.FAILED, error)})
    assert "Žužemberk" in path.read_text(encoding="utf-8")
    assert read_checkpoint(path)["2023"][1].error == error


def test_the_file_of_a_year_holds_all_pairs_that_begin_with_it(tmp_path):
    path = tmp_path / checkpoint_file(Stage.BTC, "2022_2023")
    entries = {pair(1, 2022, 2023): ended(State.COMPLETED), pair(1, 2022, 2024): ended(State.SKIPPED)}
    write_checkpoint(path, Stage.BTC, 2022, 2, entries.items())
    assert read_checkpoint(path) == {
        "2022_2023": {1: ended(State.COMPLETED)},
        "2022_2024": {1: ended(State.SKIPPED)},
    }


def test_units_that_cannot_be_read_to_their_end_leave_the_old_file_and_nothing_beside_it(path):
    written(path, {download(1): ended(State.COMPLETED)})
    before = path.read_bytes()

    def broken() -> Iterator[tuple[Unit, Entry]]:
        yield download(2), ended(State.COMPLETED)
        raise ConnectionError("Redis is gone")

    with pytest.raises(ConnectionError):
        write_checkpoint(path, Stage.DOWNLOAD, 2023, 2, broken())
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_units_are_written_as_they_come_and_not_gathered_before(path):
    taken = []

    def counted() -> Iterator[tuple[Unit, Entry]]:
        for grid_id in range(20_000):
            taken.append(sum(file.stat().st_size for file in path.parent.iterdir()))
            yield download(grid_id), ended(State.COMPLETED)

    write_checkpoint(path, Stage.DOWNLOAD, 2023, 20_000, counted())
    assert 0 < taken[10_000] < taken[-1]
    assert len(read_checkpoint(path)["2023"]) == 20_000
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_not_there_is_nothing_and_no_cause_for_a_warning(path, caplog):
    assert read_checkpoint(path) == {}
    assert caplog.records == []


@pytest.mark.parametrize(
    "content",
    ['{"stage_name": "download", "tasks": {"download_1_2023"', "[1, 2]", '{"tasks": [1]}', "{}", "\x00", "null"],
)
def test_a_file_that_is_not_ours_is_ignored_with_a_warning(path, caplog, content):
    path.parent.mkdir()
    path.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert read_checkpoint(path) == {}
    (record,) = caplog.records
    assert record.getMessage() == "checkpoint file ignored: not in the format of one"
    assert record.path == str(path)


def test_units_that_make_no_sense_are_left_out_and_the_others_read(path):
    good = {"status": "completed", "completed_at": "2024-01-01T12:15:00"}
    odd = {
        "download_2_2023": {"status": "splendid"},
        "download_3_2023": "completed",
        "download_4_2023": {},
        "download_5_2023": {"status": "completed", "completed_at": "yesterday"},
        "download_6_2023": {"status": "completed", "attempts": [1]},
        "upload_7_2023": good,
        "btc_8_2023": good,
        "nonsense": good,
    }
    path.parent.mkdir()
    path.write_text(json.dumps({"tasks": {"download_1_2023": good, **odd}}))
    assert read_checkpoint(path) == {"2023": {1: Entry(State.COMPLETED, since=ENDED)}}


def test_a_file_of_another_program_with_the_least_it_may_hold_is_taken_over(path):
    path.parent.mkdir()
    path.write_text(json.dumps({"tasks": {"download_1_2023": {"status": "failed"}}}))
    entry = read_checkpoint(path)["2023"][1]
    assert (entry.state, entry.attempts, entry.since, entry.error) == (State.FAILED, 0, 0, "")
