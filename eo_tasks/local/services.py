"""Child processes that are kept alive while one command runs, and all stopped with it."""

import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

import psutil

from eo_tasks.errors import PermanentError
from eo_tasks.files import read_json, write_json

log = logging.getLogger(__name__)

STOP_S = 15.0
QUICK_DEATH_S = 30.0
QUICK_DEATHS = 3
LOG_TAIL_LINES = 5


@dataclass
class Service:
    """One child process.

    Attributes:
        log: Where its output goes.
        variables: That it gets beside this process's own.
        is_needed: Whether the work cannot go on without it.
        quick_deaths: How often it died soon after its start.
    """

    name: str
    argv: Sequence[str]
    log: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    is_needed: bool = True
    process: subprocess.Popen[bytes] | None = None
    started: float = 0
    quick_deaths: int = field(default=0)


class Services:
    """Starts children in their own process groups, restarts those that die, stops all at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._services: list[Service] = []
        self._pids = folder / "processes.json"

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._stop_leftovers()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(
        self, name: str, argv: Sequence[str], variables: Mapping[str, str] | None = None, *, is_needed: bool = True
    ) -> None:
        """Start a child; its output goes to ``{name}.log``.

        Args:
            name: For people.
            argv: Its command; everyone on the machine can read that.
            variables: That it gets beside this process's own: secrets among them.
            is_needed: Whether its dying again and again ends the command.
        """
        service = Service(name, argv, self._folder / f"{name}.log", variables or {}, is_needed)
        self._services.append(service)
        self._launch(service)

    def start_celery(self, name: str, *argv: str) -> None:
        """Start ``celery …``."""
        self.start(name, celery(*argv))

    def check(self) -> None:
        """Restart children that died.

        Raises:
            PermanentError: One that is needed keeps dying; the message ends with what it said last.
        """
        for service in self._services:
            if service.process is None or service.process.poll() is None:
                continue
            is_quick = monotonic() - service.started < QUICK_DEATH_S
            service.quick_deaths = service.quick_deaths + 1 if is_quick else 1
            last_words = _last_words(service.log)
            if service.quick_deaths < QUICK_DEATHS and "eo-tasks: " not in last_words:
                self._launch(service)
                continue
            told = (
                f"{service.name} ended with exit code {service.process.returncode}: "
                f"{last_words} (all of it: {service.log})"
            )
            if service.is_needed:
                raise PermanentError(told)
            log.warning("part given up", extra={"told": told})
            service.process = None

    def stop(self) -> None:
        """Ask the children to stop, the first started last, for the others need it; kill what is left after a while."""
        first, *others = (s.process for s in self._services if s.process is not None) if self._services else (None,)
        for together in (others, [first]):
            alive = [child for child in together if child is not None and child.poll() is None]
            _stop([psutil.Process(child.pid) for child in alive])
            for child in alive:
                child.wait()
        self._services.clear()
        self._pids.unlink(missing_ok=True)

    def _launch(self, service: Service) -> None:
        with service.log.open("ab") as output:
            service.process = subprocess.Popen(
                service.argv,
                env=_environment(service.variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        service.started = monotonic()
        running = [s.process.pid for s in self._services if s.process is not None]
        write_json(
            self._pids, {str(pid): psutil.Process(pid).create_time() for pid in running if psutil.pid_exists(pid)}
        )

    def _stop_leftovers(self) -> None:
        """Stop the children of a command that was killed before it could."""
        leftovers: Mapping[str, float] = read_json(self._pids) or {}
        alive = []
        for pid, created in leftovers.items():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(pid))
                alive += [process] if process.create_time() == created else []
        _stop(alive)
        self._pids.unlink(missing_ok=True)


def celery(*argv: str) -> tuple[str, ...]:
    """The command ``celery …``."""
    return (sys.executable, "-m", "celery", *argv)


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with these variables; whatever else gives one of them a value is left out."""
    kept = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in variables}
    return kept | dict(variables)


def _stop(processes: Sequence[psutil.Process]) -> None:
    """Ask processes to finish what they do, give them time, then kill them and whatever they started."""
    families = list(processes)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            families += process.children(recursive=True)
            process.terminate()
    _, alive = psutil.wait_procs(families, timeout=STOP_S)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_S)


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines[-50:] if line.startswith("eo-tasks: ")]
    return said[-1] if said else " / ".join(lines[-LOG_TAIL_LINES:])
