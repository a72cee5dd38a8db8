"""Runs: what people asked for, kept until it is all there."""

import hashlib
import json
from dataclasses import dataclass

from redis import Redis

from eo_tasks.plan import Wanted
from eo_tasks.ranges import read_ranges, write_ranges

RUNS_KEY = "eo-tasks:runs"


@dataclass(frozen=True)
class Run:
    """One request; asking for the same cells and years again is the same run.

    Attributes:
        created_at: Seconds since 1970.
    """

    wanted: Wanted
    created_at: float

    @property
    def id(self) -> str:
        """Short fingerprint of the cells and years."""
        text = f"{write_ranges(self.wanted.grid_ids)};{write_ranges(self.wanted.years)}"
        return hashlib.sha256(text.encode()).hexdigest()[:10]


class Runs:
    """The active runs, in Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def add(self, run: Run) -> None:
        """Keep a run until it is removed; adding it again changes nothing."""
        record = {
            "grid_ids": write_ranges(run.wanted.grid_ids),
            "years": list(run.wanted.years),
            "created_at": run.created_at,
        }
        self._redis.hsetnx(RUNS_KEY, run.id, json.dumps(record))

    def active(self) -> list[Run]:
        """Runs with work left, oldest first."""
        records = (json.loads(text) for text in self._redis.hvals(RUNS_KEY))
        runs = (
            Run(Wanted(read_ranges(record["grid_ids"]), tuple(record["years"])), record["created_at"])
            for record in records
        )
        return sorted(runs, key=lambda run: (run.created_at, run.id))

    def remove(self, run: Run) -> None:
        """Forget a run that has nothing left to do."""
        self._redis.hdel(RUNS_KEY, run.id)
