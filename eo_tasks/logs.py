"""Logs as files of JSON lines, one for each program and host, written by all of its processes.

Each line is appended by one system call, so that lines of several processes never mix. A file that has grown is renamed
by whoever sees it first, under a lock; the others notice that the name leads to another file and open that.
"""

import fcntl
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from pydantic import SecretStr

from eo_tasks.errors import PermanentError
from eo_tasks.settings import Settings
from eo_tasks.units import Unit
from eo_tasks.urls import MASK, redacted

P = ParamSpec("P")
R = TypeVar("R")

FOLDER, SUFFIX = "logs", ".jsonl"
PARTS = 5  # files of one program: the one that is written and four before it
MB = 1_000_000
KEPT_DAYS = 30  # a program of this kind on a host that writes no more, such as a container of long ago
AGAIN_S = 10.0  # a folder that could not be written is tried again after this
SHORTEST_SECRET = 6  # characters; what is shorter may be a part of any word
MOST_EVENT, MOST_EXCEPTION, MOST_FIELD = 8_000, 32_000, 2_000  # characters

_URL = re.compile(r"[A-Za-z][\w+.-]*://[^\s'\"<>]+")
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
_OF_CELERY = {"data"}  # what it says of a task is in its message


@dataclass(frozen=True, slots=True)
class Bound:
    """What the lines of a block of code are about."""

    unit: Unit | None = None
    task_id: str | None = None


_UNBOUND = Bound()
_bound: ContextVar[Bound] = ContextVar("bound", default=_UNBOUND)


@contextmanager
def about(unit: Unit | None, task_id: str | None = None) -> Iterator[None]:
    """Have every line that is logged in the block, by whatever library, carry a unit and the task that runs it."""
    token = _bound.set(Bound(unit, task_id or _bound.get().task_id))
    try:
        yield
    finally:
        _bound.reset(token)


def carried(work: Callable[P, R]) -> Callable[P, R]:
    """Have a function that other threads run log as the block does in which this is called."""
    bound = _bound.get()

    def run(*args: P.args, **options: P.kwargs) -> R:
        token = _bound.set(bound)
        try:
            return work(*args, **options)
        finally:
            _bound.reset(token)

    return run


def folder_of(data_dir: Path) -> Path:
    """Where the files are."""
    return data_dir / FOLDER


def write_to_files(settings: Settings, program: str) -> None:
    """Have this process write what it logs to the program's file, beside what it shows.

    Args:
        settings: Where to, and how much is kept.
        program: Such as ``cpu@host``; the host is added if it is missing.
    """
    name = program if "@" in program else f"{program}@{socket.gethostname()}"
    root = logging.getLogger()
    if not root.handlers and logging.lastResort is not None:
        root.addHandler(logging.lastResort)  # warnings are shown as before
        root.setLevel(settings.log_level)
    if any(isinstance(handler, JsonLines) for handler in root.handlers):
        return
    secrets = (getattr(settings, field) for field in type(settings).model_fields)
    hidden = [secret.get_secret_value() for secret in secrets if isinstance(secret, SecretStr)]
    root.addHandler(JsonLines(folder_of(settings.folder), name, int(settings.log_keep_mb * MB), hidden))


class JsonLines(logging.Handler):
    """Appends records to a file, and replaces it when it has grown.

    Args:
        folder: Where; made when it is not there.
        program: Names the file.
        keep_bytes: Of all files of the program together.
        secrets: What is never written, whoever logs it.
    """

    def __init__(self, folder: Path, program: str, keep_bytes: int, secrets: Collection[str] = ()) -> None:
        super().__init__()
        self._folder = folder
        self._program = program
        self._stem = re.sub(r"[^\w@.+-]|^\.", "_", program)
        self._path = folder / f"{self._stem}{SUFFIX}"
        self._part_bytes = keep_bytes // PARTS
        self._secrets = sorted((one for one in secrets if len(one) >= SHORTEST_SECRET), key=len, reverse=True)
        self._host = socket.gethostname()
        self._file: int | None = None
        self._is_torn = self._is_troubled = False
        self._not_before = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; where that is impossible say so once, and go on."""
        try:
            if time.monotonic() < self._not_before:
                return
            self._append(self._line(record))
        except OSError as error:
            self._not_before = time.monotonic() + AGAIN_S
            self._close()
            if not self._is_troubled:
                _say(f"eo-tasks: {self._path}: logs are not written ({error.strerror or error}); work goes on.")
            self._is_troubled = True
        except Exception:  # a record that cannot be written must not end a task
            self.handleError(record)
        else:
            self._is_troubled = False

    def close(self) -> None:
        """Close the file; a record that comes later opens it again."""
        with self._guarded():
            self._close()
        super().close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()

    def _line(self, record: logging.LogRecord) -> bytes:
        unit, task_id = _subject(record)
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "event": self._shown(record.getMessage(), MOST_EVENT),
        }
        if unit is not None:
            line |= {"unit": unit.id, "stage": str(unit.stage), "grid_id": unit.grid_id}
            line |= {"year": unit.years[0], "years": list(unit.years)}
        if task_id is not None:
            line["task_id"] = task_id
        line |= {"worker": self._program, "host": self._host, "pid": record.process}
        if fields := {name: self._field(value) for name, value in vars(record).items() if _is_field(name, value)}:
            line["fields"] = fields
        if record.exc_info and record.exc_info[0] is not None:
            text = logging.Formatter().formatException(record.exc_info)
            line["exception"] = self._shown(text, MOST_EXCEPTION, from_end=True)
        return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"

    def _field(self, value: Any) -> Any:
        """A value of ``extra`` as JSON has it."""
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return float(value) if abs(value) < float("inf") else str(value)
        if isinstance(value, dict):
            shown: Any = {self._shown(str(name), MOST_FIELD): self._field(one) for name, one in value.items()}
        elif isinstance(value, list | tuple | set | frozenset):
            shown = [self._field(one) for one in value]
        else:
            return self._shown(str(value), MOST_FIELD)
        text = json.dumps(shown, ensure_ascii=False)
        return shown if len(text) <= MOST_FIELD else self._shown(text, MOST_FIELD)

    def _shown(self, text: str, most: int, *, from_end: bool = False) -> str:
        """A text without passwords, in UTF-8, and not without end."""
        shown = _URL.sub(lambda url: redacted(url[0]), text)
        for secret in self._secrets:
            shown = shown.replace(secret, MASK)
        shown = shown.encode("utf-8", "backslashreplace").decode()  # a file's name may be no text
        if len(shown) <= most:
            return shown
        return f"… {shown[-most:]}" if from_end else f"{shown[:most]} …"

    def _append(self, line: bytes) -> None:
        file, size = self._opened()
        if size and size + len(line) > self._part_bytes:
            self._rotate(file)
            file, _ = self._opened()
        whole = b"\n" + line if self._is_torn else line
        self._is_torn = os.write(file, whole) < len(whole)  # a full disk takes a part

    def _opened(self) -> tuple[int, int]:
        """The file of that name as it is now, and its size."""
        if self._file is not None:
            own = os.fstat(self._file)
            with suppress(FileNotFoundError):
                named = self._path.stat()
                if (named.st_ino, named.st_dev) == (own.st_ino, own.st_dev):
                    return self._file, own.st_size
            self._close()
        elif not self._folder.is_dir():
            self._folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        return self._file, os.fstat(self._file).st_size

    def _rotate(self, file: int) -> None:
        """Rename the file, unless another process does or did."""
        with self._alone() as is_alone, suppress(FileNotFoundError):
            if is_alone and self._path.stat().st_ino == os.fstat(file).st_ino:
                self._path.rename(self._path.with_name(f"{self._stem}.{time.time_ns()}{SUFFIX}"))
                self._forget_old()

    @contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether no other process renames; nobody is waited for, since who is at it may be frozen."""
        lock = os.open(self._folder / f".{self._stem}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            yield _took(lock)
        finally:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_UN)  # also for a process that was forked in between, which has it too
            os.close(lock)

    def _forget_old(self) -> None:
        """Delete this program's oldest files, and those of its kind on hosts that are no more."""
        before = re.compile(rf"{re.escape(self._stem)}\.\d{{19}}{re.escape(SUFFIX)}")
        own = sorted(path for path in self._folder.iterdir() if before.fullmatch(path.name))
        for path in own[: max(len(own) - (PARTS - 1), 0)]:
            path.unlink(missing_ok=True)
        oldest = time.time() - KEPT_DAYS * 24 * 3600
        for path in self._folder.glob(f"{self._stem.partition('@')[0]}@*{SUFFIX}"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            os.close(file)


def _subject(record: logging.LogRecord) -> tuple[Unit | None, str | None]:
    """The unit and the task that a record is about: as it says itself, else as the block says that it is logged in."""
    bound, said = _bound.get(), getattr(record, "unit", None)
    of_celery = getattr(record, "data", None)
    task_id = bound.task_id
    if isinstance(of_celery, dict) and isinstance(of_celery.get("id"), str):
        task_id = of_celery["id"]
        said = said or task_id
    return _unit(said) or bound.unit, task_id


def _unit(said: object) -> Unit | None:
    if isinstance(said, Unit):
        return said
    if isinstance(said, str):
        with suppress(PermanentError):
            return Unit.parse(said)
    return None


def _is_field(name: str, value: Any) -> bool:
    return name not in _STANDARD and name not in _OF_CELERY and (name != "unit" or _unit(value) is None)


def _took(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: who renames a file that is new already makes a short one
        return True
    return True


def _say(text: str) -> None:
    if sys.__stderr__ is not None:  # Celery's own stderr is a log
        with suppress(OSError, ValueError):
            print(text, file=sys.__stderr__)
