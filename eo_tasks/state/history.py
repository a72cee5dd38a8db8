"""How many units had ended at past times: from it come rates, and the time that is left."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from redis import Redis

from eo_tasks.units import Stage

KEY = "eo-tasks:history"
KEPT = 24 * 240  # a day of one sample each 15 s
WINDOW_S = 15 * 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Units that had ended at a time, by stage.

    Attributes:
        at: Seconds since 1970.
        done: Completed; found ones are not among them.
        failed: Waiting for a person.
    """

    at: float
    done: Mapping[Stage, int]
    failed: Mapping[Stage, int]


class History:
    """The samples, in Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def add(self, sample: Sample) -> None:
        """Keep a sample; the oldest is forgotten."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.rpush(KEY, json.dumps([sample.at, sample.done, sample.failed]))
        pipe.ltrim(KEY, -KEPT, -1)
        pipe.execute()

    def since(self, at: float) -> list[Sample]:
        """Samples from then on, oldest first."""
        found: list[Sample] = []
        position = 0
        while chunk := self._redis.lrange(KEY, position - 100, position - 1 if position else -1):
            samples = [_read(str(text)) for text in chunk]
            found = samples + found
            position -= 100
            if samples[0].at < at or len(chunk) < 100:
                break
        return [sample for sample in found if sample.at >= at]


def rate_per_s(samples: Sequence[Sample], stage: Stage) -> float | None:
    """Units of a stage that were completed in a second, between the first sample and the last.

    A number that fell, as after units were retried or made anew, starts the count afresh.

    Returns:
        ``None`` where that cannot be said yet.
    """
    if len(samples) < 2 or samples[-1].at <= samples[0].at:
        return None
    counts = [sample.done.get(stage, 0) for sample in samples]
    done = sum(max(after - before, 0) for before, after in pairwise(counts))
    return done / (samples[-1].at - samples[0].at)


def _read(text: str) -> Sample:
    at, done, failed = json.loads(text)
    return Sample(at, *({Stage(stage): number for stage, number in counts.items()} for counts in (done, failed)))
