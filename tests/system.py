"""Real workers as processes, and waiting for what they do."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import pytest
from redis import Redis

from eo_tasks.settings import current_settings, override_environment
from eo_tasks.state.ledger import Ledger

CONTROL = ("-A", "beat", "worker", "-n", "control@%h")
CPU = ("-A", "workers.cpu", "worker", "-n", "cpu@%h")
GPU = ("-A", "workers.gpu", "worker", "-n", "gpu@%h")
BEAT = ("-A", "beat", "beat", "--pidfile=")


@dataclass
class System:
    """Celery processes of one test, each in its own process group, each with its log."""

    environment: Mapping[str, str]
    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, arguments: Sequence[str], **variables: str) -> None:
        """Start ``celery …`` under a name of the test's choice, with more variables of its own."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "celery", *arguments, "-l", "INFO"],
                env={**self.environment, **variables},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """SIGKILL a process and its children at once."""
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def logs(self) -> str:
        """What all processes said, for a failing test."""
        return "\n".join(f"== {log.name}\n{log.read_text()[-3000:]}" for log in sorted(self.folder.glob("*.log")))


@contextmanager
def system(environment: Mapping[str, str], folder: Path) -> Iterator[System]:
    """Processes that are all gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    running = System(environment, folder)
    try:
        yield running
    finally:
        for name in list(running.processes):
            running.kill(name)


def celery(environment: Mapping[str, str], cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``celery …`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "celery", *arguments],
        env=dict(environment), cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def wait_for(redis: Redis, condition: Callable[[], bool], deadline_s: float, explain: Callable[[], str]) -> None:
    """Look at a condition whenever something in Redis changes, until it holds.

    Raises:
        AssertionError: It does not hold in time.
    """
    redis.config_set("notify-keyspace-events", "KEA")
    end = monotonic() + deadline_s
    with redis.pubsub(ignore_subscribe_messages=True) as changes:
        changes.psubscribe("__keyspace@1__:eo-tasks:counts:*", "__keyspace@1__:celery-task-meta-*")
        while not condition():
            remaining = end - monotonic()
            assert remaining > 0, f"not within {deadline_s:g} s\n{explain()}"
            changes.get_message(timeout=min(remaining, 5))


@contextmanager
def this_process(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """Point the test's own process at an environment, as a worker is; gives its ledger."""
    for name in environment:
        monkeypatch.setenv(name, environment[name])
    override_environment({})
    from eo_tasks import celery as eo_celery
    from eo_tasks.tasks import context

    eo_celery.configure(eo_celery.app, current_settings())
    context.reopen()
    yield context.ledger()
    context.reopen()
    eo_celery.app.close()
    current_settings.cache_clear()
