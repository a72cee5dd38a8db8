"""The stub steps, and what they note of each execution.

A unit's output is ``DATA_DIR/stub/<stage>/<unit id>``. Every process notes the executions that it began and ended in a
file of its own, ``<pid>-<random>`` under ``STUB_LOG``, one line each, written at once and kept when it is killed::

    begin|end|dies <unit> <pid> <monotonic ns> <token> [stored|failed]

An output that is there already is skipped, and noted nowhere. What the steps read from the environment:

    STUB_SECONDS        how long each takes
    STUB_SLOW           units, by comma, that take STUB_SLOW_SECONDS
    STUB_KILLER         units, by comma, that kill the process they run in, every time
    STUB_FREEZE         units that stop the process they run in, the first time, between making and publishing
    STUB_FAIL           unit:ErrorClass, by comma: units that fail, every time
    STUB_PAYLOAD_BYTES  size of an output, beside its record
    STUB_LOG            folder of the notes; DATA_DIR/stub/log if not given
"""

import json
import os
import secrets
import signal
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from threading import Event
from time import monotonic_ns

from eo_tasks import errors, steps
from eo_tasks.files import written_aside
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.plan import Inventory, Wanted
from eo_tasks.steps import Outcome, Pipeline
from eo_tasks.units import Stage, Unit


def install() -> None:
    """Put the stubs in the place of the real steps, for this process."""
    steps.download, steps.store, steps.infer_all = download, store, infer_all  # type: ignore[assignment]
    steps.take_inventory = take_inventory


def download(pipeline: Pipeline, grid_year: GridYear) -> Outcome:
    return execute(pipeline, grid_year.download, ())


def store(pipeline: Pipeline, grid_year: GridYear) -> Outcome:
    return execute(pipeline, grid_year.store, (grid_year.download,))


def infer_all(
    pipeline: Pipeline, groups: Iterable[Sequence[YearPair]]
) -> Generator[tuple[YearPair, Outcome | Exception], None, None]:
    for group in groups:
        for pair in group:
            try:
                outcome: Outcome | Exception = execute(pipeline, pair.btc, [image.store for image in pair.grid_years])
            except Exception as error:
                outcome = error
            yield pair, outcome


def take_inventory(pipeline: Pipeline, wanted: Wanted, not_before: float = 0) -> Inventory:
    found = {stage: outputs(pipeline.settings.data_dir, stage, not_before) for stage in Stage}

    def cells(stage: Stage, *years: int) -> frozenset[int]:
        there = found[stage]
        return frozenset(cell for cell in wanted.grid_ids if Unit(stage, cell, years).id in there)

    return Inventory(
        images={year: cells(Stage.STORE, year) for year in wanted.years},
        staged={year: cells(Stage.DOWNLOAD, year) for year in wanted.years},
        masks={pair: cells(Stage.BTC, *pair) for pair in wanted.year_pairs},
    )


def execute(pipeline: Pipeline, unit: Unit, needed: Sequence[Unit]) -> Outcome:
    """Make a unit's output, unless it is there.

    Raises:
        StorageError: One that it is made from is missing.
    """
    data_dir = pipeline.settings.data_dir
    output = output_of(data_dir, unit)
    if is_made(output, pipeline.not_before(unit)):
        return Outcome(True, {})
    with noted(data_dir, unit) as note:
        if missing := [other.id for other in needed if not output_of(data_dir, other).exists()]:
            raise errors.StorageError(f"{unit}: {', '.join(missing)} is not there.")
        with written_aside(output) as aside:
            record = {"unit": unit.id, "pid": os.getpid(), "token": note.token}
            payload = "x" * int(os.environ.get("STUB_PAYLOAD_BYTES", "0"))
            aside.write_text(json.dumps(record | {"payload": payload}), encoding="utf-8")
            Event().wait(seconds_of(unit))
            misbehave(data_dir, unit, note)
            sync(aside)  # what takes time comes before the last look at the lease
            pipeline.confirm(unit)
    return Outcome(False, {"size_bytes": output.stat().st_size})


def sync(file: Path) -> None:
    """Bring a file to the disk."""
    with file.open("rb") as written:
        os.fsync(written.fileno())


def seconds_of(unit: Unit) -> float:
    """How long a unit takes."""
    variable = "STUB_SLOW_SECONDS" if unit.id in named("STUB_SLOW") else "STUB_SECONDS"
    return float(os.environ.get(variable, "0.02"))


def misbehave(data_dir: Path, unit: Unit, note: "Note") -> None:
    """Do what the environment says of this unit."""
    if unit.id in named("STUB_KILLER"):
        note.write("dies")
        os.kill(os.getpid(), signal.SIGKILL)
    if unit.id in named("STUB_FREEZE") and is_first(data_dir / "stub" / "frozen" / unit.id):
        os.kill(os.getpid(), signal.SIGSTOP)
    for failing in named("STUB_FAIL"):
        unit_id, _, kind = failing.partition(":")
        if unit_id == unit.id:
            raise getattr(errors, kind)(f"{unit}: told to fail.")


def named(variable: str) -> list[str]:
    return [name for name in os.environ.get(variable, "").split(",") if name]


def is_first(mark: Path) -> bool:
    """Whether nobody left this mark before; leaves it."""
    mark.parent.mkdir(parents=True, exist_ok=True)
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def output_of(data_dir: Path, unit: Unit) -> Path:
    return data_dir / "stub" / unit.stage / unit.id


def is_made(output: Path, not_before: float) -> bool:
    """Whether an output is there, and no older than that."""
    try:
        return output.stat().st_mtime >= not_before
    except FileNotFoundError:
        return False


def outputs(data_dir: Path, stage: Stage, not_before: float) -> frozenset[str]:
    """Ids of the units of a stage whose output is there."""
    try:
        with os.scandir(data_dir / "stub" / stage) as found:
            names = (entry for entry in found if not entry.name.startswith("."))
            return frozenset(entry.name for entry in names if not not_before or entry.stat().st_mtime >= not_before)
    except FileNotFoundError:
        return frozenset()


class Note:
    """What is written down of one execution."""

    def __init__(self, data_dir: Path, unit: Unit) -> None:
        self._file, self._unit = notes_of(os.getpid(), data_dir), unit
        self.token = secrets.token_hex(8)

    def write(self, word: str, end: str = "") -> None:
        line = f"{word} {self._unit.id} {os.getpid()} {monotonic_ns()} {self.token} {end}".rstrip() + "\n"
        os.write(self._file, line.encode())  # one call of O_APPEND: whole, and in the page cache whoever dies


@contextmanager
def noted(data_dir: Path, unit: Unit) -> Iterator[Note]:
    """Note the begin and the end of an execution."""
    note = Note(data_dir, unit)
    note.write("begin")
    try:
        yield note
    except BaseException:
        note.write("end", "failed")
        raise
    note.write("end", "stored")


@lru_cache(maxsize=1)  # a forked process has another pid, and opens its own
def notes_of(pid: int, data_dir: Path) -> int:
    """This process's file of notes."""
    folder = log_folder(data_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / f"{pid}-{secrets.token_hex(4)}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def log_folder(data_dir: Path) -> Path:
    return Path(os.environ.get("STUB_LOG") or data_dir / "stub" / "log")
