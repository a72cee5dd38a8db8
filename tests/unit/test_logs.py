"""Logs as JSON lines: what a line says, what it never says, and files that stay within their room."""

import errno
import fcntl
import json
import logging
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from eo_tasks import logs
from eo_tasks.logs import JsonLines, about, carried, folder_of, write_to_files
from eo_tasks.settings import load_settings
from eo_tasks.units import Stage, Unit

STORE = Unit(Stage.STORE, 463, (2023,))
PAIR = Unit(Stage.BTC, 463, (2022, 2023))


class Writer:
    """A logger that writes to a folder, and what it has written."""

    def __init__(self, folder: Path, keep_bytes: int = 50_000_000, secrets: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.handler = JsonLines(folder, "cpu@here", keep_bytes, secrets)
        self.log = logging.Logger("eo_tasks.of_this_test")  # noqa: LOG001  # no other test shall see it
        self.log.addHandler(self.handler)

    def lines(self) -> list[dict[str, Any]]:
        text = "".join(path.read_text() for path in sorted(self.folder.glob("*.jsonl")))
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    made = Writer(tmp_path / "data" / "logs")
    yield made
    made.handler.close()


def test_a_line_says_when_who_and_what(writer: Writer) -> None:
    writer.log.info("composite of %s stored", "Škofja Loka", extra={"size_bytes": 12, "share": 0.5, "bands": ("B02",)})
    (line,) = writer.lines()
    assert next(iter(line)) == "at"  # by which the files are searched
    assert datetime.fromisoformat(line.pop("at")).utcoffset() is not None
    assert line.pop("host")
    assert line == {
        "level": "INFO",
        "logger": "eo_tasks.of_this_test",
        "event": "composite of Škofja Loka stored",
        "worker": "cpu@here",
        "pid": os.getpid(),
        "fields": {"size_bytes": 12, "share": 0.5, "bands": ["B02"]},
    }


def test_every_line_in_a_block_says_what_it_is_about(writer: Writer) -> None:
    with about(STORE, "store_463_2023"):
        writer.log.info("inside")
        with about(PAIR):
            writer.log.info("further inside")
        writer.log.info("inside again")
    writer.log.info("outside")
    inside, further, again, outside = writer.lines()
    subject = {"unit": "store_463_2023", "stage": "store", "grid_id": 463, "year": 2023, "years": [2023]}
    assert inside.items() >= (subject | {"task_id": "store_463_2023"}).items()
    assert again.items() >= subject.items()
    assert (further["unit"], further["years"], further["task_id"]) == (
        "btc_463_2022_2023",
        [2022, 2023],
        "store_463_2023",
    )
    assert not {"unit", "stage", "grid_id", "year", "task_id"} & outside.keys()


def test_a_line_may_name_its_unit_itself(writer: Writer) -> None:
    with about(STORE):
        writer.log.warning("lease lost", extra={"unit": PAIR.id})
        writer.log.warning("lease lost", extra={"unit": "order 33TVM_2023"})  # what is no unit is a field like others
    of_unit, of_order = writer.lines()
    assert (of_unit["unit"], of_unit.get("fields")) == (PAIR.id, None)
    assert (of_order["unit"], of_order["fields"]) == (STORE.id, {"unit": "order 33TVM_2023"})


def test_what_celery_says_of_a_task_is_a_line_of_its_unit(writer: Writer) -> None:
    said = {"id": STORE.id, "name": "eo_tasks.store", "args": "(463, 2023)"}
    writer.log.info("Task %(name)s[%(id)s] received", said, extra={"data": said})
    (line,) = writer.lines()
    assert line["event"] == "Task eo_tasks.store[store_463_2023] received"
    assert (line["unit"], line["task_id"]) == (STORE.id, STORE.id)
    assert "fields" not in line


def test_a_block_is_carried_to_other_threads_that_work_for_it(writer: Writer) -> None:
    with ThreadPoolExecutor(2) as pool:
        with about(STORE):
            list(pool.map(carried(writer.log.info), ["carried"] * 4))
        pool.submit(writer.log.info, "of nobody").result()
    assert [(line["event"], line.get("unit")) for line in writer.lines()] == [("carried", STORE.id)] * 4 + [
        ("of nobody", None)
    ]


def test_an_exception_is_kept_as_text_with_its_end(writer: Writer) -> None:
    try:
        raise RuntimeError("the end " + "x" * 40_000 + " of redis://:hunter2@host/0")
    except RuntimeError:
        writer.log.exception("step failed")
    (line,) = writer.lines()
    assert line["level"] == "ERROR"
    assert line["exception"].endswith(" of redis://:********@host/0")
    assert len(line["exception"]) < 33_000


def test_passwords_of_urls_are_never_written(writer: Writer) -> None:
    url = "rediss://user:hunter2@host:6380/1"
    writer.log.warning("cannot reach %s", url, extra={"url": url, "all": [url], "of": {"x": {url: url}}})
    assert "hunter2" not in json.dumps(writer.lines())
    assert writer.lines()[0]["event"] == "cannot reach rediss://user:********@host:6380/1"


def test_secrets_of_the_settings_are_never_written(tmp_path: Path) -> None:
    writer = Writer(tmp_path, secrets=("hunter2-hunter2", "hunter2", "a"))
    try:
        raise ValueError("login with hunter2")
    except ValueError:
        writer.log.exception("password=hunter2-hunter2", extra={"said": {"hunter2": b"hunter2"}})
    writer.handler.close()
    assert "hunter2" not in json.dumps(writer.lines())
    assert writer.lines()[0]["event"] == "password=********"


def test_whatever_is_logged_can_be_read_again(writer: Writer) -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd\nand more"

    writer.log.info("name \udcff\n{", extra={"n": float("nan"), "i": float("-inf"), "o": Odd(), "d": {1: {Odd()}}})
    writer.log.info("long", extra={"text": "x" * 9000, "list": list(range(9000))})
    first, second = writer.lines()
    assert first["event"] == "name \\udcff\n{"
    assert first["fields"] == {"n": "nan", "i": "-inf", "o": "odd\nand more", "d": {"1": ["odd\nand more"]}}
    assert all(len(value) < 2100 for value in second["fields"].values())


def test_a_message_that_cannot_be_formatted_ends_nothing(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    writer.log.info("%d cells", "no number")
    writer.log.info("next")
    assert [line["event"] for line in writer.lines()] == ["next"]
    assert "Logging error" in capsys.readouterr().err


def test_a_file_that_has_grown_is_renamed_and_the_oldest_are_deleted(tmp_path: Path) -> None:
    other = tmp_path / "cpu@here.too.jsonl"
    other.write_text("of another program\n")
    writer = Writer(tmp_path, keep_bytes=10_000)
    for number in range(200):
        writer.log.info("line", extra={"number": number})
    writer.handler.close()
    assert other.read_text() == "of another program\n"
    other.unlink()
    files = list(tmp_path.glob("*.jsonl"))
    assert len(files) == 5
    assert sum(path.stat().st_size for path in files) <= 10_000
    numbers = [line["fields"]["number"] for line in writer.lines()]
    assert numbers == list(range(numbers[0], 200))  # the newest, without a gap
    assert len(numbers) > 30


def test_a_line_that_is_longer_than_a_file_is_written_nevertheless(tmp_path: Path) -> None:
    writer = Writer(tmp_path, keep_bytes=1000)
    for _ in range(3):
        writer.log.info("x" * 500)
    assert [len(line["event"]) for line in writer.lines()] == [500] * 3


def test_files_of_hosts_that_are_no_more_are_deleted_when_a_file_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cpu@gone", "cpu@lately", "gpu@gone"):
        (tmp_path / f"{name}.jsonl").touch()
    for name in ("cpu@gone", "gpu@gone"):
        os.utime(tmp_path / f"{name}.jsonl", (0, 0))
    writer = Writer(tmp_path, keep_bytes=1000)
    for _ in range(2):
        writer.log.info("line")
    kept = {path.name for path in tmp_path.glob("*.jsonl") if not path.name.startswith("cpu@here")}
    assert kept == {"cpu@lately.jsonl", "gpu@gone.jsonl"}


def test_a_file_that_someone_deleted_or_moved_is_begun_anew(writer: Writer) -> None:
    writer.log.info("before")
    (writer.folder / "cpu@here.jsonl").unlink()
    writer.log.info("deleted")
    (writer.folder / "cpu@here.jsonl").rename(writer.folder / "kept by someone")
    writer.log.info("moved")
    assert [line["event"] for line in writer.lines()] == ["moved"]


def test_a_folder_that_cannot_be_written_is_told_once_and_used_when_it_can_be(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "__stderr__", sys.stderr)
    monkeypatch.setattr(logs, "AGAIN_S", 0)
    (tmp_path / "logs").write_text("no folder")
    writer = Writer(tmp_path / "logs")
    for _ in range(3):
        writer.log.info("lost")
    told = capfd.readouterr().err
    assert told.splitlines() == [
        f"eo-tasks: {tmp_path}/logs/cpu@here.jsonl: logs are not written (File exists); work goes on."
    ]
    (tmp_path / "logs").unlink()
    writer.log.info("kept")
    writer.handler.close()
    assert [line["event"] for line in writer.lines()] == ["kept"]
    assert capfd.readouterr().err == ""


def test_a_line_after_one_that_was_cut_off_begins_anew(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, text: whole(file, text[:20]))
        writer.log.info("cut off")
    writer.log.info("whole")
    text = (writer.folder / "cpu@here.jsonl").read_text().splitlines()
    assert len(text[0]) == 20
    assert json.loads(text[1])["event"] == "whole"


def test_a_process_that_is_frozen_while_it_renames_is_not_waited_for(tmp_path: Path) -> None:
    writer = Writer(tmp_path, keep_bytes=1000)
    lock = os.open(tmp_path / ".cpu@here.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    for _ in range(3):
        writer.log.info("line")
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    os.close(lock)
    writer.log.info("line")
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert len(writer.lines()) == 4


def test_a_process_that_was_forked_in_between_does_not_keep_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, inherited = fcntl.flock, list[int]()

    def fork_with(lock: int, how: int) -> None:
        take(lock, how)
        if how & fcntl.LOCK_EX:
            inherited.append(os.dup(lock))

    monkeypatch.setattr(fcntl, "flock", fork_with)
    writer = Writer(tmp_path, keep_bytes=1000)
    for _ in range(3):
        writer.log.info("line")
    assert len(list(tmp_path.glob("*.jsonl"))) == 3
    for lock in inherited:
        os.close(lock)


def test_a_file_system_without_locks_keeps_logs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    writer = Writer(tmp_path, keep_bytes=1000)
    for _ in range(3):
        writer.log.info("line")
    assert len(list(tmp_path.glob("*.jsonl"))) == 3
    assert len(writer.lines()) == 3


@pytest.mark.parametrize("program", ["../../etc/cpu@here", ".cpu@here", "a/b@c", "cpu@here\n"])
def test_a_program_of_whatever_name_writes_into_its_folder(tmp_path: Path, program: str) -> None:
    handler = JsonLines(tmp_path / "logs", program, 1000)
    handler.emit(logging.makeLogRecord({"msg": "line"}))
    handler.close()
    (file,) = (tmp_path / "logs").iterdir()
    assert not file.name.startswith(".")
    assert list(tmp_path.iterdir()) == [tmp_path / "logs"]


def test_a_process_writes_each_line_once_beside_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "getLogger", lambda name=None: root)
    settings = load_settings(data_dir=tmp_path, redis_password="hunter2-hunter2")
    for _ in range(2):
        write_to_files(settings, "dashboard")
    root.info("with hunter2-hunter2")
    (file,) = folder_of(tmp_path).glob("dashboard@*.jsonl")
    (line,) = file.read_text().splitlines()
    assert json.loads(line)["event"] == "with ********"
    assert [type(handler) for handler in root.handlers] == [type(logging.lastResort), JsonLines]
    root.handlers[-1].close()
