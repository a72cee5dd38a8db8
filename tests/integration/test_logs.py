"""Logs of real workers, in files: what each line carries, how the command filters them, and that none is lost."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from threading import Thread
from time import monotonic

import pytest
from redis import Redis

from eo_tasks.logbook import Filter, Line, Tail, read_lines
from eo_tasks.logs import JsonLines
from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.units import Stage
from tests.openeo_backend.faulty import FaultyBackend
from tests.ordering import ordering
from tests.ordering import request as ordered
from tests.painted import paint
from tests.system import BEAT, CONTROL, CPU, GPU, System, celery, system, wait_for

pytestmark = pytest.mark.integration

DEADLINE_S = 120
WRITERS, LINES = 4, 3000


def ask(environment: dict[str, str], *arguments: str) -> list[dict[str, object]]:
    """What ``eo-tasks logs`` says of it."""
    done = subprocess.run(
        [sys.executable, "-m", "eo_tasks.cli", "logs", "--json", *arguments],
        env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def told(lines: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(line["unit"], line["event"]) for line in lines if line["logger"] == "eo_tasks.tasks.shell"]


def stop(running: System, *names: str) -> None:
    """Stop processes in order, so that all that they say is written."""
    for name in names:
        process = running.processes[name]
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0


def test_every_line_of_a_unit_says_which_it_is(
    sample_environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    """Of two processes of a pool; one unit fails for a reason that nobody expected."""
    country = sample_environment | {"DASHBOARD_PASSWORD": "of this test", "MAX_WORKERS": "2"}
    host, folder = os.uname().nodename, Path(country["DATA_DIR"]) / "logs"
    (Path(country["DATA_DIR"]) / "images" / "2022" / "sentinel2_grid_463_2022_08.tiff" / "in the way").mkdir(
        parents=True
    )
    ledger = Ledger(redis, Limits())
    with system(country, tmp_path / "output") as running:
        running.start("control", CONTROL)
        running.start("cpu", CPU)
        running.start("beat", BEAT)
        request = json.dumps({"years": [2021, 2022], "grid_ids": [463, 464]})
        celery(country, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)

        def are_stored() -> bool:
            stored = [ledger.counts(Stage.STORE, year) for year in ("2021", "2022")]
            return stored == [{State.COMPLETED: 2}, {State.COMPLETED: 1, State.FAILED: 1}]

        wait_for(redis, are_stored, DEADLINE_S, running.logs)
        stop(running, *running.processes)
    assert {path.name for path in folder.glob("*.jsonl")} == {
        f"{program}@{host}.jsonl" for program in ("beat", "control", "cpu")
    }
    shown = ask(country, "--stage", "store", "--cell", "464", "--year", "2022", "-n", "500")
    assert told(shown) == [("store_464_2022", "unit begins"), ("store_464_2022", "unit ended")]
    assert {(line["stage"], line["grid_id"], line["year"]) for line in shown} == {("store", 464, 2022)}
    (ended,) = (line for line in shown if line["event"] == "unit ended")
    assert ended["fields"]["state"] == "completed"  # type: ignore[index]
    assert ended["worker"] == f"cpu@{host}"
    assert any(str(line["event"]).startswith("Task eo_tasks.store[store_464_2022] succeeded") for line in shown)
    assert {line["unit"] for line in ask(country, "--text", "unit ENDED", "-n", "500")} == {
        f"{stage}_{cell}_{year}" for stage in ("download", "store") for cell in (463, 464) for year in (2021, 2022)
    }
    assert ask(country, "--level", "critical") == []

    graver = ask(country, "--level", "error", "--unit", "store_463_2022")
    assert told(graver) == [("store_463_2022", "unit ended")]
    assert graver[0]["fields"]["error"].startswith("IsADirectoryError: ")  # type: ignore[index]
    (unexpected,) = (line for line in graver if line["exception"])
    assert str(unexpected["event"]).startswith(
        "Task eo_tasks.store[store_463_2022] raised unexpected: IsADirectoryError"
    )
    assert "Traceback (most recent call last)" in str(unexpected["exception"])
    assert "put_image" in str(unexpected["exception"])

    lines = [json.loads(line) for line in (folder / f"cpu@{host}.jsonl").read_text().splitlines()]
    of_downloads = [line for line in lines if line["event"] == "unit ended" and line["stage"] == "download"]
    assert len({line["pid"] for line in of_downloads}) == 2
    assert all(line["task_id"] == line["unit"] for line in of_downloads)
    output = (tmp_path / "output" / "cpu.log").read_text()  # what it shows stays as it was
    assert re.search(r"^\[.+: INFO/ForkPoolWorker-\d\] unit ended$", output, re.MULTILINE)


def test_the_pairs_of_a_batch_are_told_apart(environment: dict[str, str], redis: Redis, tmp_path: Path) -> None:
    """Its process is no fork of the worker's; it writes to the same file."""
    country = paint(environment, tmp_path / "grid.gpkg", 2, (2021, 2022))
    ledger = Ledger(redis, Limits())
    with system(country, tmp_path / "output") as running:
        running.start("control", CONTROL)
        running.start("gpu", GPU)
        request = json.dumps({"years": [2021, 2022]})
        celery(country, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)
        wait_for(
            redis, lambda: ledger.counts(Stage.BTC, "2021_2022").get(State.COMPLETED) == 2, DEADLINE_S, running.logs
        )
    lines = read_lines(Path(country["DATA_DIR"]) / "logs", Filter(), 1000).lines
    assert any(line.event.startswith("BTC network loaded: ") and line.worker.startswith("gpu@") for line in lines)
    for cell in (0, 1):
        of_unit = [line.event for line in lines if line.unit == f"btc_{cell}_2021_2022"]
        assert [event for event in of_unit if event.startswith("unit ")] == ["unit ended", "unit begins"]


def test_cells_that_are_cut_out_of_an_order_are_told_apart(
    environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    ledger = Ledger(redis, Limits())
    with FaultyBackend(tmp_path / "backend") as backend:
        country = ordering(environment, backend, tmp_path, 2, 1)
        with system(country, tmp_path / "output") as running:
            for name, arguments in (("control", CONTROL), ("beat", BEAT), ("cpu", CPU)):
                running.start(name, arguments)
            celery(country, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", ordered(2023))

            def are_cut() -> bool:
                return ledger.counts(Stage.DOWNLOAD, "2023").get(State.COMPLETED) == 2

            wait_for(redis, are_cut, DEADLINE_S, running.logs)
            stop(running, "cpu")
    lines = ask(country, "--stage", "download", "-n", "500")
    for cell in (0, 1):
        own = [line for line in told(lines) if line[0] == f"download_{cell}_2023"]
        assert own == [(f"download_{cell}_2023", "unit begins"), (f"download_{cell}_2023", "unit ended")]


def test_lines_are_shown_as_they_come(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    writer = JsonLines(folder, "cpu@here", 1_000_000)

    def write_line(text: str) -> None:
        writer.handle(logging.makeLogRecord({"msg": text, "levelname": "WARNING", "levelno": logging.WARNING}))

    write_line("before")
    with subprocess.Popen(
        [sys.executable, "-m", "eo_tasks.cli", "logs", "--follow", "--text", "of interest", "-n", "1"],
        env=os.environ | {"DATA_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, text=True,
    ) as command:  # fmt: skip
        assert command.stdout is not None
        seen = list[str]()
        reader = Thread(target=lambda: seen.append(command.stdout.readline()), daemon=True)  # type: ignore[union-attr]
        reader.start()
        end = monotonic() + DEADLINE_S
        while reader.is_alive():
            assert monotonic() < end
            write_line("something else")
            write_line("of interest")
            reader.join(0.2)
        command.send_signal(signal.SIGINT)
        command.stdout.read()
        assert command.wait(DEADLINE_S) == 0
    writer.close()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\S+Z  WARNING   cpu@here  of interest\n", seen[0])


WRITER = """
import logging, sys
from pathlib import Path
from eo_tasks.logs import JsonLines

logger = logging.getLogger("writer")
logger.setLevel(logging.INFO)
logger.addHandler(JsonLines(Path(sys.argv[1]), "cpu@here", int(sys.argv[3])))
for number in range(int(sys.argv[4])):
    logger.info("line", extra={"writer": sys.argv[2], "number": number})
"""


def write(folder: Path, keep_bytes: int) -> list[subprocess.Popen[bytes]]:
    return [
        subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(writer), str(keep_bytes), str(LINES)])
        for writer in range(WRITERS)
    ]


def numbers(lines: list[Line]) -> Counter[tuple[str, int]]:
    return Counter((line.fields["writer"], line.fields["number"]) for line in lines)


def test_no_line_is_lost_while_several_processes_write_and_rename_a_file(tmp_path: Path) -> None:
    tail, followed = Tail(tmp_path), list[Line]()
    writers = write(tmp_path, keep_bytes=WRITERS * LINES * 230)  # four files or so, of the five there may be
    while any(writer.poll() is None for writer in writers):
        followed += tail.new()
    followed += tail.new() + tail.new()
    assert [writer.returncode for writer in writers] == [0] * WRITERS
    every = Counter((str(writer), number) for writer in range(WRITERS) for number in range(LINES))
    assert len(list(tmp_path.glob("*.jsonl"))) in (3, 4, 5)
    assert numbers(followed) == every
    read, before = list[Line](), None
    while True:
        page = read_lines(tmp_path, Filter(), 997, before)
        read += page.lines
        before = page.before
        if before is None:
            break
    assert numbers(read) == every


def test_files_of_a_program_take_no_more_room_than_they_may(tmp_path: Path) -> None:
    for writer in write(tmp_path, keep_bytes=500_000):
        assert writer.wait(DEADLINE_S) == 0
    size = sum(path.stat().st_size for path in tmp_path.glob("*.jsonl"))
    assert 300_000 < size < 510_000
