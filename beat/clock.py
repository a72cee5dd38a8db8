"""The clock: RedBeat's, that ends with one line where Redis refuses it or is not there."""

import sys

from redbeat import RedBeatScheduler

from eo_tasks.errors import BrokerError, SettingsError
from workers.login import try_redis


class Clock(RedBeatScheduler):  # type: ignore[misc]
    """Only one ticks: it holds a lock in Redis, a second one stands by."""

    def setup_schedule(self) -> None:
        """Read the schedule.

        Raises:
            SystemExit: Redis cannot be used; its supervisor starts the clock again.
        """
        try:
            try_redis()
        except (SettingsError, BrokerError) as error:
            print(f"eo-tasks: {error}", file=sys.__stderr__)  # Celery's own stderr is a log by now
            raise SystemExit(1) from None
        super().setup_schedule()
