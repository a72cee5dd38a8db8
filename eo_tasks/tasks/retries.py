"""When a unit is tried again: by the class of what went wrong."""

import random
from dataclasses import dataclass

from celery.exceptions import SoftTimeLimitExceeded

from eo_tasks.errors import (
    DeviceError,
    SourceUnavailableError,
    StorageFullError,
    StoreUnavailableError,
    TransientError,
)


@dataclass(frozen=True)
class Policy:
    """How often and how soon a unit is tried again.

    Attributes:
        first_s: Seconds until the second try; doubled for every further one.
        longest_s: Never wait longer than this.
        max_attempts: Tries in all; ``None`` for ``MAX_ATTEMPTS``.
    """

    first_s: float
    longest_s: float
    max_attempts: int | None = None

    def delay_s(self, attempts: int) -> float:
        """Seconds until the next try, with jitter so that units do not return in step."""
        doubled = self.first_s * 2.0 ** min(max(attempts, 1) - 1, 30)
        return min(doubled, self.longest_s) * random.uniform(0.5, 1.0)  # noqa: S311


# The first class that fits decides. What fits none is permanent.
POLICIES: tuple[tuple[type[BaseException], Policy], ...] = (
    (SoftTimeLimitExceeded, Policy(60, 600, max_attempts=2)),  # it cost the whole time limit, and will again
    (MemoryError, Policy(30, 300, max_attempts=3)),
    (StorageFullError, Policy(10, 300, max_attempts=1000)),  # until someone makes room
    (StoreUnavailableError, Policy(2, 60, max_attempts=2000)),  # what is made waits a day for the database
    (DeviceError, Policy(5, 60)),
    (SourceUnavailableError, Policy(5, 900)),  # 10 attempts ride out an outage of about half an hour
    (TransientError, Policy(5, 600)),
)


def policy_of(error: BaseException) -> Policy | None:
    """How a failure is tried again; ``None`` for one that will not go away by itself."""
    return next((policy for kind, policy in POLICIES if isinstance(error, kind)), None)
