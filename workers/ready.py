"""A worker is ready when its pool's process is: the network is loaded in the child, and the parent waits for it.

The two speak through a named pipe whose place both know: the child of a fresh interpreter inherits nothing else.
"""

import os
import select
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from celery import Celery, bootsteps

LOOK_S = 1.0
READY = "ready"


class WaitForProcess(bootsteps.StartStopStep):  # type: ignore[misc]
    """Holds the worker back, after its pool and before its consumer, until ``announce`` is called in the child."""

    requires = ("celery.worker.components:Pool", "workers.presence:Presence")  # that it loads is seen, too

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._folder = _folder(os.getpid())
        shutil.rmtree(self._folder, ignore_errors=True)  # of a dead process that had this number
        self._folder.mkdir(mode=0o700)
        pipe = self._folder / "ready"
        os.mkfifo(pipe, 0o600)
        self._pipe = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)

    def start(self, worker: Any) -> None:
        """Wait for the child's word.

        Raises:
            SystemExit: It cannot work, or died.
        """
        word = b""
        while not word.endswith(b"\n"):
            if select.select([self._pipe], [], [], LOOK_S)[0]:
                word += os.read(self._pipe, 65536)
            elif not any(process.is_alive() for process in worker.pool._pool._pool):
                word = b"the worker's process died while it loaded the network; is memory short?\n"
        self._leave()
        if (told := word.decode().strip()) != READY:
            print(f"eo-tasks: {told}", file=sys.__stderr__)  # Celery's own stderr is a log by now
            raise SystemExit(1)

    def terminate(self, worker: Any) -> None:
        """Leave nothing behind when the worker ends before its process is ready."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _leave(self) -> None:
        os.close(self._pipe)
        shutil.rmtree(self._folder, ignore_errors=True)


def wait_for_process(app: Celery) -> None:
    """Make the app's workers wait for their process."""
    app.steps["worker"].add(WaitForProcess)


def announce(word: str = READY) -> None:
    """Tell the parent that this process is ready, or in one line why it cannot be; later ones are not waited for."""
    with suppress(OSError):
        pipe = os.open(_folder(os.getppid()) / "ready", os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(pipe, (" ".join(word.split()) + "\n").encode())
        finally:
            os.close(pipe)


def _folder(worker_pid: int) -> Path:
    return Path(gettempdir()) / f"eo-tasks-{os.getuid()}-{worker_pid}"
