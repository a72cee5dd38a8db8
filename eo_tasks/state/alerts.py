"""Alerts: what someone should know, since when, and who was told of it when."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum

from redis import Redis

KEY, RECENT_KEY, MOVES_KEY = "eo-tasks:alerts", "eo-tasks:alerts-recent", "eo-tasks:alert-moves"
KEPT = 100


class Word(StrEnum):
    """What is told of an alert."""

    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that someone should know.

    Attributes:
        rule: Which rule found it.
        target: What it is about, such as a run's id or a worker's name.
        message: What happened and what to do, in one line.
        after_s: It counts when it has lasted for so long.
    """

    rule: str
    target: str
    message: str
    after_s: float = 0

    @property
    def key(self) -> str:
        """The same for the same thing, whatever is said of it."""
        return f"{self.rule}:{self.target}"


@dataclass(frozen=True, slots=True)
class AlertRecord:
    """An alert as it is kept; times are seconds since 1970.

    Attributes:
        alert: As it was found last.
        since: When it was found first.
        until: When it was found no more; 0 while it lasts.
        counts: Whether it has lasted for long enough.
        told: Channel → what it was told last, and when it was last told that the alert lasts.
    """

    alert: Alert
    since: float
    until: float = 0
    counts: bool = True
    told: Mapping[str, tuple[Word, float]] = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        """Whether it lasts, and has for long enough."""
        return self.counts and not self.until

    def due(self, channel: str, now: float, repeat_s: float) -> Word | None:
        """What the channel is to be told now; within ``repeat_s`` it is not told twice that the alert lasts."""
        word, at = self.told.get(channel, (None, 0.0))
        if self.until:
            return Word.RESOLVED if word is Word.FIRING else None
        return Word.FIRING if self.is_active and (word is None or now - at >= repeat_s) else None

    def having_told(self, channel: str, word: Word, now: float) -> "AlertRecord":
        """The same after the channel was told."""
        at = now if word is Word.FIRING else self.told[channel][1]
        return replace(self, told={**self.told, channel: (word, at)})

    def is_over(self, now: float, repeat_s: float) -> bool:
        """Whether it ended, and so long ago that it may be forgotten."""
        return bool(self.until) and all(now - at >= repeat_s for _, at in self.told.values())


class Alerts:
    """The alerts, in Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def all(self) -> list[AlertRecord]:
        """Those that last, and those that ended lately, oldest first."""
        return sorted(map(_read, self._redis.hvals(KEY)), key=lambda record: (record.since, record.alert.key))

    def put(self, record: AlertRecord) -> None:
        """Write down how an alert stands."""
        self._redis.hset(KEY, record.alert.key, json.dumps(asdict(record)))

    def drop(self, record: AlertRecord) -> None:
        """Forget one."""
        self._redis.hdel(KEY, record.alert.key)

    def end(self, record: AlertRecord) -> None:
        """Keep one that ended among the last hundred."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.lpush(RECENT_KEY, json.dumps(asdict(record)))
        pipe.ltrim(RECENT_KEY, 0, KEPT - 1)
        pipe.execute()

    def recent(self) -> list[AlertRecord]:
        """The last hundred that ended, the latest first."""
        return [_read(text) for text in self._redis.lrange(RECENT_KEY, 0, KEPT - 1)]

    def moves(self, ended: Mapping[str, int], now: float) -> dict[str, float]:
        """When the number of ended units of each run was last seen to change.

        Args:
            ended: Run → units that have ended; runs that are not among them are forgotten.
            now: Seconds since 1970.
        """
        before = {str(run_id): json.loads(text) for run_id, text in self._redis.hgetall(MOVES_KEY).items()}
        moved = {
            run_id: before[run_id] if run_id in before and before[run_id][0] == number else [number, now]
            for run_id, number in ended.items()
        }
        if moved != before:
            pipe = self._redis.pipeline(transaction=True)
            pipe.delete(MOVES_KEY)
            if moved:
                pipe.hset(MOVES_KEY, mapping={run_id: json.dumps(pair) for run_id, pair in moved.items()})
            pipe.execute()
        return {run_id: float(at) for run_id, (_, at) in moved.items()}


def _read(text: str | bytes) -> AlertRecord:
    record = json.loads(text)
    told = {channel: (Word(word), float(at)) for channel, (word, at) in record["told"].items()}
    return AlertRecord(Alert(**record["alert"]), record["since"], record["until"], record["counts"], told)
