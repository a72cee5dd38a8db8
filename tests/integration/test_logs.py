"""Logs of real workers, in files: what each line carries, how the command filters them, and that none is lost."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from redis import Redis

from eo_tasks.logbook import Filter, Line, Tail, read_lines
from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.units import Stage
from tests.painted import paint
from tests.system import BEAT, CONTROL, CPU, GPU, celery, system, wait_for

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


def test_every_line_of_a_unit_says_which_it_is(
    sample_environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    country = sample_environment | {"DASHBOARD_PASSWORD": "of this test"}
    ledger = Ledger(redis, Limits())
    with system(country, tmp_path / "output") as running:
        running.start("control", CONTROL)
        running.start("cpu", CPU)
        running.start("beat", BEAT)
        request = json.dumps({"years": [2021, 2022], "grid_ids": [463, 464]})
        celery(country, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)

        def are_stored() -> bool:
            return all(ledger.counts(Stage.STORE, year).get(State.COMPLETED) == 2 for year in ("2021", "2022"))

        wait_for(redis, are_stored, DEADLINE_S, running.logs)
        for name in list(running.processes):
            process = running.processes[name]
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 0
    host = os.uname().nodename
    folder = Path(country["DATA_DIR"]) / "logs"
    assert {path.name for path in folder.glob("*.jsonl")} == {
        f"{program}@{host}.jsonl" for program in ("beat", "control", "cpu")
    }
    shown = ask(country, "--stage", "store", "--cell", "463", "--year", "2022", "-n", "500")
    assert told(shown) == [("store_463_2022", "unit begins"), ("store_463_2022", "unit ended")]
    assert {(line["stage"], line["grid_id"], line["year"]) for line in shown} == {("store", 463, 2022)}
    (ended,) = (line for line in shown if line["event"] == "unit ended")
    assert ended["fields"]["state"] == "completed"  # type: ignore[index]
    assert ended["worker"] == f"cpu@{host}"
    assert any(str(line["event"]).startswith("Task eo_tasks.store[store_463_2022] succeeded") for line in shown)
    assert {line["unit"] for line in ask(country, "--text", "unit ENDED", "-n", "500")} == {
        f"{stage}_{cell}_{year}" for stage in ("download", "store") for cell in (463, 464) for year in (2021, 2022)
    }
    assert ask(country, "--level", "critical") == []


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
        of_unit = [line.event for line in lines if line.unit == f"btc_{cell}_2021_2022" and "unit" in line.event]
        assert of_unit == ["unit ended", "unit begins"]


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
