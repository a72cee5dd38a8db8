"""A worker tidies its machine where ``DATA_DIR`` is a bucket: beat sees only the scratch of its own."""

import logging
from typing import Any

from celery import Celery, bootsteps
from redis.exceptions import RedisError

from eo_tasks.setting_types import S3Url
from eo_tasks.settings import current_settings
from eo_tasks.steps.scratch import clear_scratch

log = logging.getLogger(__name__)

INTERVAL_S = 3600.0


class Tidy(bootsteps.StartStopStep):  # type: ignore[misc]
    """Removes what killed processes left in ``WORK_DIR``, at the start and every hour."""

    requires = ("celery.worker.components:Timer",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self.entry: Any = None

    def start(self, worker: Any) -> None:
        """Tidy now and from then on."""
        if isinstance(current_settings().data_dir, S3Url):
            self.entry = worker.timer.call_repeatedly(INTERVAL_S, tidy)
            tidy()

    def stop(self, worker: Any) -> None:
        """Tidy no more."""
        if self.entry is not None:
            self.entry.cancel()


def tidy() -> None:
    """Remove what is left; what cannot be removed now is next time."""
    from eo_tasks.tasks.ordering.fetch import clear_files

    try:
        clear_scratch(current_settings().folder)
        clear_files()
    except (OSError, RedisError) as error:
        log.warning("scratch not tidied: %s", error)


def keep_tidy(app: Celery) -> None:
    """Have the app's workers tidy."""
    app.steps["worker"].add(Tidy)
