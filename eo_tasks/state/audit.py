"""Who did what to the system, and when."""

import json
from dataclasses import asdict, dataclass

from redis import Redis

KEY = "eo-tasks:audit"
KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that a person had done.

    Attributes:
        at: Seconds since 1970.
        who: Name, and where it came from, such as ``operator (dashboard)``.
        action: Such as ``pause`` or ``retry``.
        target: What it was done to, such as a run's id.
        outcome: What came of it, in a few words.
    """

    at: float
    who: str
    action: str
    target: str
    outcome: str


class Audit:
    """The deeds, in Redis, the latest ten thousand."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def add(self, deed: Deed) -> None:
        """Write one down."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.lpush(KEY, json.dumps(asdict(deed)))
        pipe.ltrim(KEY, 0, KEPT - 1)
        pipe.execute()

    def latest(self, most: int = 100) -> list[Deed]:
        """The latest ones, newest first."""
        return [Deed(**json.loads(text)) for text in self._redis.lrange(KEY, 0, most - 1)]
