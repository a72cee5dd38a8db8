"""How long units took and how many pixels were made, counted as they end: three small hashes in Redis."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate

from redis import Redis
from redis.exceptions import RedisError

from eo_tasks.units import Stage

BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_REST = "rest"  # longer than the last bucket


@dataclass(frozen=True, slots=True)
class StageDurations:
    """What a stage's completed units took.

    Attributes:
        up_to: How many took no longer than each of ``BUCKETS_S``.
        count: All of them.
        seconds: Of all of them together.
        pixels: That they made.
    """

    up_to: Mapping[float, int]
    count: int
    seconds: float
    pixels: int


class Durations:
    """The counts, in Redis; they only ever grow."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def add(self, stage: Stage, seconds: float, pixels: int) -> None:
        """Count a unit that was completed. One that is not counted, as Redis is away, is no failure."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hincrby(_key(stage), str(next((bucket for bucket in BUCKETS_S if seconds <= bucket), _REST)), 1)
        pipe.hincrbyfloat(_key(stage), "seconds", round(max(seconds, 0), 3))
        pipe.hincrby(_key(stage), "pixels", pixels)
        with suppress(RedisError):
            pipe.execute()

    def all(self) -> dict[Stage, StageDurations]:
        """Every stage's."""
        pipe = self._redis.pipeline(transaction=False)
        for stage in Stage:
            pipe.hgetall(_key(stage))
        return dict(zip(Stage, map(_read, pipe.execute()), strict=True))


def _read(fields: Mapping[str, str]) -> StageDurations:
    numbers = accumulate(int(fields.get(str(bucket), 0)) for bucket in BUCKETS_S)
    up_to = dict(zip(BUCKETS_S, numbers, strict=True))
    count = up_to[BUCKETS_S[-1]] + int(fields.get(_REST, 0))
    return StageDurations(up_to, count, float(fields.get("seconds", 0)), int(fields.get("pixels", 0)))


def _key(stage: Stage) -> str:
    return f"eo-tasks:durations:{stage}"
