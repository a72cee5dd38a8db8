"""Workers and the clock write their logs to files, beside what they show."""

from typing import Any

from celery.signals import after_setup_logger, beat_init, celeryd_init, worker_process_init

from eo_tasks import logs
from eo_tasks.settings import current_settings


def keep_logs() -> None:
    """Have it begin when Celery has set up what it shows, in whatever process that is."""
    celeryd_init.connect(_of_worker)
    worker_process_init.connect(_of_process)
    beat_init.connect(_of_clock)


def _of_worker(sender: str, **_: Any) -> None:
    """A worker; the processes that it forks go on with what it has."""

    def begin(**_: Any) -> None:
        logs.write_to_files(current_settings(), sender)

    after_setup_logger.connect(begin, weak=False)


def _of_process(sender: str, **_: Any) -> None:
    """A process of a pool that is an interpreter of its own."""
    logs.write_to_files(current_settings(), sender)


def _of_clock(**_: Any) -> None:
    logs.write_to_files(current_settings(), "beat")
