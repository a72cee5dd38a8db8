"""Reading the logs that programs keep in ``DATA_DIR/logs``: the newest lines first, and those that come.

A file is read from its end, a block at a time. Where a reader stopped is told by the time and the place of the last
line; a file keeps its inode when it is renamed, so that nothing is given twice.
"""

import base64
import heapq
import json
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from eo_tasks.errors import PermanentError
from eo_tasks.logs import SUFFIX
from eo_tasks.units import Stage

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
BLOCK_BYTES = 1 << 16
MOST_LOOKED = 200_000  # lines that one call looks at; a rare text may take several
TAIL_BYTES = 1 << 20  # of one file that one look at what is new reads at most

_HEAD = b'{"at":"'
_AT = slice(len(_HEAD), len(_HEAD) + len("2026-01-01T00:00:00.000Z"))
_KINDS = {"unit": str, "stage": str, "grid_id": int, "year": int, "worker": str, "exception": str, "fields": dict}
_SLACK = 5_000  # ms by which lines of several processes may be out of order


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log.

    Attributes:
        at: UTC, ISO 8601.
        year: The unit's first.
        worker: The program that wrote it, such as ``cpu@host``.
        exception: The traceback, if there was one.
        fields: What it carries beside its event.
    """

    at: str
    level: str
    logger: str
    event: str
    unit: str | None = None
    stage: str | None = None
    grid_id: int | None = None
    year: int | None = None
    worker: str | None = None
    exception: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which lines; what is not given takes any.

    Attributes:
        year: Also the later one of a year pair.
        level: The lowest.
        text: Somewhere in the event, the fields or the exception; upper and lower case are the same.
    """

    stage: Stage | None = None
    grid_id: int | None = None
    year: int | None = None
    level: str | None = None
    text: str | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Lines, the newest first.

    Attributes:
        before: Where to go on; ``None`` if there is nothing older. A page may be short, or empty, and go on.
    """

    lines: tuple[Line, ...]
    before: str | None


class _Place(NamedTuple):
    """A line's place among all lines; later lines have larger ones."""

    at: bytes
    inode: int
    offset: int


class _Known(NamedTuple):
    """A file, whatever its name is by now: another one may get the inode of one that was deleted."""

    inode: int
    first: bytes


def read_lines(folder: Path, wanted: Filter, most: int, before: str | None = None) -> Page:
    """Read the newest lines that fit.

    Args:
        folder: Of the logs; nothing else is read.
        most: Lines.
        before: ``Page.before`` of the page of newer lines.

    Raises:
        PermanentError: ``before`` is of no page.
    """
    end = None if before is None else _read_cursor(before)
    found: list[Line] = []
    takes, place = _Taker(wanted), None
    with ExitStack() as open_files:
        files = [open_files.enter_context(file) for file in _opened(folder)]
        every = heapq.merge(*(_backwards(file, end) for file in files), reverse=True)
        for looked, (place, raw) in enumerate(every, start=1):
            if (line := takes(raw)) is not None:
                found.append(line)
            if len(found) >= most or looked >= MOST_LOOKED:
                return Page(tuple(found), _write_cursor(place))
    return Page(tuple(found), None)


class Tail:
    """What is added to the logs of a folder from now on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[_Known, int] = {}
        self._missed: set[_Known] = set()
        for file in _opened(folder):
            with file:
                self._read[_known(file)] = _whole_end(file)

    def new(self, wanted: Filter | None = None) -> list[Line]:
        """Lines that were added since this was asked last, the oldest first; very many are taken in several looks."""
        takes, found = _Taker(wanted or Filter()), list[tuple[bytes, Line]]()
        still: dict[_Known, int] = {}
        for file in _opened(self._folder):
            with file:
                known = _known(file)
                start = self._read.get(known, 0)
                file.seek(start)
                text = file.read(TAIL_BYTES)
            whole = text[: text.rfind(b"\n") + 1]
            still[known] = start + (len(whole) or (len(text) if len(text) == TAIL_BYTES else 0))
            found += [(raw[_AT], line) for raw in whole.splitlines() if (line := takes(raw)) is not None]
        missed = self._read.keys() - still.keys()  # being renamed just now, or gone: the next look tells
        self._read = still | {known: self._read[known] for known in missed - self._missed}
        self._missed = missed
        return [line for _, line in sorted(found, key=lambda one: one[0])]


def fits(line: Line, wanted: Filter) -> bool:
    """Whether a filter takes a line."""
    return (
        (wanted.stage is None or line.stage == wanted.stage)
        and (wanted.grid_id is None or line.grid_id == wanted.grid_id)
        and (wanted.year is None or wanted.year in _years(line.unit))
        and (wanted.unit is None or line.unit == wanted.unit)
        and (wanted.level is None or _rank(line.level) >= _rank(wanted.level))
        and (wanted.text is None or wanted.text.casefold() in _text(line))
    )


class _Taker:
    """Reads the lines that a filter takes; most others are known by a few of their bytes."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted
        given = {"stage": wanted.stage, "grid_id": wanted.grid_id, "unit": wanted.unit}
        self._needed = [
            json.dumps({name: value}, ensure_ascii=False, separators=(",", ":"))[1:-1].encode()
            for name, value in given.items()
            if value is not None
        ]

    def __call__(self, raw: bytes) -> Line | None:
        if not all(part in raw for part in self._needed):
            return None
        line = _parsed(raw)
        return line if line is not None and fits(line, self._wanted) else None


def _parsed(raw: bytes) -> Line | None:
    """A line, or ``None`` if it is broken."""
    try:
        record = json.loads(raw, parse_constant=str)
        if any(not isinstance(record.get(name), kind | None) for name, kind in _KINDS.items()):
            return None
        return Line(
            at=str(record["at"]),
            level=str(record["level"]),
            logger=str(record["logger"]),
            event=str(record["event"]),
            unit=record.get("unit"),
            stage=record.get("stage"),
            grid_id=record.get("grid_id"),
            year=record.get("year"),
            worker=record.get("worker"),
            exception=record.get("exception"),
            fields=record.get("fields") or {},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _years(unit: str | None) -> tuple[int, ...]:
    return () if unit is None else tuple(int(year) for year in unit.split("_")[2:] if year.isdecimal())


def _rank(level: str) -> int:
    known = logging.getLevelNamesMapping()
    return known.get(level.upper(), logging.INFO)


def _text(line: Line) -> str:
    fields = json.dumps(line.fields, ensure_ascii=False) if line.fields else ""
    return "\n".join((line.event, line.unit or "", line.logger, fields, line.exception or "")).casefold()


def _opened(folder: Path) -> Iterator[BinaryIO]:
    """The log files; no link is followed, and no other kind of file is waited for.

    There are two looks: what is renamed during the first has its new name at the second.
    """
    seen = set[int]()
    for _ in range(2):
        for entry in _entries(folder):
            if entry.inode() in seen:
                continue
            with suppress(OSError):  # it was deleted in the meantime, or is not for us
                number = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                facts = os.fstat(number)
                if stat.S_ISREG(facts.st_mode) and facts.st_ino not in seen:
                    seen.add(facts.st_ino)
                    yield os.fdopen(number, "rb", buffering=0)
                else:
                    os.close(number)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            logs = [entry for entry in entries if entry.name.endswith(SUFFIX) and not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(logs, key=lambda entry: entry.name)


def _backwards(file: BinaryIO, end: _Place | None) -> Iterator[tuple[_Place, bytes]]:
    """The lines of a file with their places, from the last one before ``end`` to the first."""
    inode, latest = _inode(file), b"\xff"
    stop = _size(file) if end is None else _end_of(file, _later(end.at))
    for offset, raw in _lines_before(file, stop):
        if not raw.startswith(_HEAD):
            continue
        latest = min(latest, raw[_AT])  # so that places only fall
        place = _Place(latest, inode, offset)
        if end is None or place < end:
            yield place, raw


def _lines_before(file: BinaryIO, stop: int) -> Iterator[tuple[int, bytes]]:
    """Whole lines and where they begin, from the last one that ends at or before ``stop``."""
    rest, is_first = b"", True
    while stop > 0:
        start = max(stop - BLOCK_BYTES, 0)
        file.seek(start)
        block = file.read(stop - start) + rest
        lines = block.split(b"\n")
        rest = lines[0] if start else b""
        offset = start + len(block)
        for index in range(len(lines) - 1, 0 if start else -1, -1):
            offset -= len(lines[index])
            if lines[index] and not (is_first and index == len(lines) - 1):  # the end may be in writing
                yield offset, lines[index]
            offset -= 1
        is_first = is_first and len(lines) == 1
        stop = start


def _end_of(file: BinaryIO, at: bytes) -> int:
    """A place in a file after which all lines are later than a time."""
    low, high = 0, _size(file)
    while high - low > BLOCK_BYTES:
        middle = (low + high) // 2
        file.seek(middle)
        block = file.read(BLOCK_BYTES // 2)
        first = block.find(b"\n" + _HEAD)
        if first < 0:
            return high
        if block[first + 1 :][_AT] <= at:
            low = middle
        else:
            high = middle + first + 1
    return high


def _later(at: bytes) -> bytes:
    """A few seconds later."""
    time = datetime.fromisoformat(at.decode()) + timedelta(milliseconds=_SLACK)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z").encode()


def _whole_end(file: BinaryIO) -> int:
    """Where the last whole line ends."""
    last = next(_lines_before(file, _size(file)), None)
    return 0 if last is None else last[0] + len(last[1]) + 1


def _known(file: BinaryIO) -> _Known:
    file.seek(0)
    return _Known(_inode(file), file.read(_AT.stop))


def _inode(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_ino


def _size(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _write_cursor(place: _Place) -> str:
    text = f"{place.at.decode()} {place.inode} {place.offset}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> _Place:
    with suppress(ValueError):
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
        if parts := re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (\d{1,20}) (\d{1,20})", text):
            _later(parts[1].encode())
            return _Place(parts[1].encode(), int(parts[2]), int(parts[3]))
    raise PermanentError(f"{cursor!r} is no place in the logs: begin with the newest lines.")
