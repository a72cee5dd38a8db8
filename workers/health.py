"""A heartbeat file: a worker that turns its event loop touches it, and a probe looks at its age.

It does not depend on Redis: restarting workers because their broker is down helps nobody.
"""

from pathlib import Path
from typing import Any

from celery import Celery, bootsteps

from eo_tasks.settings import current_settings
from workers.presence import Presence

INTERVAL_S = 10.0


class HeartbeatFile(bootsteps.StartStopStep):  # type: ignore[misc]
    """Touches ``HEARTBEAT_FILE`` while the worker's loop turns."""

    requires = ("celery.worker.components:Timer",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.path = current_settings().heartbeat_file
        self.entry: Any = None

    def start(self, worker: Any) -> None:
        """Touch the file now and from then on."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.entry = worker.timer.call_repeatedly(INTERVAL_S, _touch, (self.path,))
        _touch(self.path)

    def stop(self, worker: Any) -> None:
        """Remove the file: a stopped worker is not healthy."""
        if self.entry is not None:
            self.entry.cancel()
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def watch(app: Celery) -> None:
    """Give the app's workers a heartbeat file for probes, and a report for people."""
    app.steps["worker"].update((HeartbeatFile, Presence))


def _touch(path: Path) -> None:
    path.touch()
