"""The ledger: where every unit stands, in Redis, moved by atomic steps that keep the counts too.

A hash per stage and period maps a cell to its entry; a second hash counts the states. A unit that runs is leased:
a key with a short time to live, renewed while the work goes on.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from time import time

from redis import Redis

from eo_tasks.state.scripts import BEGIN, CLOSE, ENQUEUE, RENEW, RESET
from eo_tasks.units import Stage, Unit

CHUNK = 1000


class State(StrEnum):
    """Where a unit stands; ``pending`` is a unit without an entry."""

    PENDING = "pending"
    ENQUEUED = "enqueued"
    STARTED = "started"
    RETRYING = "retrying"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    CANCELED = "canceled"

    @property
    def is_in_flight(self) -> bool:
        """A message or a worker has the unit."""
        return self in (State.ENQUEUED, State.STARTED)

    @property
    def needs_a_person(self) -> bool:
        """The unit stays where it is until someone retries it."""
        return self in (State.FAILED, State.QUARANTINED, State.CANCELED)

    @property
    def is_done(self) -> bool:
        """The unit's output is stored."""
        return self in (State.COMPLETED, State.SKIPPED)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger knows of one unit; times are seconds since 1970.

    Attributes:
        attempts: Times it was started.
        deaths: Workers that it took down with it.
        since: When it came into this state.
        started_at: When it was started last; 0 if never.
        due: When it may be tried again.
        worker: Who has it, or had it last.
        error: Class and message of the last failure.
    """

    state: State = State.PENDING
    attempts: int = 0
    deaths: int = 0
    since: float = 0
    started_at: float = 0
    due: float = 0
    worker: str = ""
    error: str = ""

    @classmethod
    def parse(cls, text: str | bytes | None) -> "Entry":
        """Read an entry as the scripts write it."""
        if text is None:
            return cls()
        state, *rest = json.loads(text)
        return cls(State(state), *rest)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a unit, held by ``owner`` while it is renewed."""

    unit: Unit
    owner: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how often.

    Attributes:
        lease_s: A lease that is not renewed ends after this.
        max_attempts: Tries of a unit that fails for passing reasons.
        max_deaths: Workers a unit may take down before it is quarantined.
    """

    lease_s: float = 30
    max_attempts: int = 5
    max_deaths: int = 3


class Ledger:
    """Unit states in one Redis database; safe for any number of processes."""

    def __init__(self, redis: Redis, limits: Limits, clock: Callable[[], float] = time) -> None:
        self.redis = redis
        self.limits = limits
        self._clock = clock
        self._enqueue = redis.register_script(ENQUEUE)
        self._begin = redis.register_script(BEGIN)
        self._renew = redis.register_script(RENEW)
        self._close = redis.register_script(CLOSE)
        self._reset = redis.register_script(RESET)

    def enqueue(self, unit: Unit, *, is_lost: bool = False) -> bool:
        """Mark a unit as enqueued; ``False`` if it is in flight already or waits for a person or a later time.

        Args:
            unit: The unit about to be sent.
            is_lost: Its message or its worker is known to be gone: send it again although it counts as in flight.
        """
        return bool(self._enqueue(keys=_keys(unit), args=[unit.grid_id, self._clock(), int(is_lost)]))

    def begin(self, unit: Unit, owner: str, worker: str) -> Lease | None:
        """Lease a unit and mark it as started.

        Returns:
            ``None`` if another worker holds it, it is done since it was sent, or it waits for a person: a second
            delivery, to be dropped quietly.
        """
        return self._lease(unit, owner, worker, only_fresh=False)

    def claim(self, unit: Unit, owner: str, worker: str) -> Lease | None:
        """Lease a unit whose message still waits, to work on it beside another one.

        Returns:
            ``None`` if it is not waiting any more, or ever took a worker down: such a unit is run alone.
        """
        return self._lease(unit, owner, worker, only_fresh=True)

    def renew(self, lease: Lease) -> bool:
        """Prolong a lease; ``False`` if it was lost."""
        return bool(self._renew(keys=_keys(lease.unit), args=[lease.owner, round(self.limits.lease_s * 1000)]))

    def finish(self, lease: Lease, *, is_skipped: bool) -> bool:
        """Mark a unit as done; ``False`` if the lease was lost and another worker answers for it."""
        return self._end(lease, State.SKIPPED if is_skipped else State.COMPLETED)

    def fail(self, lease: Lease, error: str) -> bool:
        """Mark a unit as failed for good."""
        return self._end(lease, State.FAILED, error=error)

    def retry(self, lease: Lease, error: str, delay_s: float) -> bool:
        """Put a unit back until ``delay_s`` from now; ``False`` if its tries are used up and it has failed."""
        if self.entry(lease.unit).attempts >= self.limits.max_attempts:
            self._end(lease, State.FAILED, error=error)
            return False
        self._end(lease, State.RETRYING, error=error, due=self._clock() + delay_s)
        return True

    def release(self, lease: Lease) -> bool:
        """Give a unit back unfinished and unblamed, as a worker does that is told to stop."""
        return self._end(lease, State.RETRYING, due=self._clock())

    def reset(self, unit: Unit) -> bool:
        """Forget a unit that waits for a person, so that it is planned again; ``False`` if it does not wait."""
        return bool(self._reset(keys=_keys(unit), args=[unit.grid_id]))

    def release_all(self) -> int:
        """Give back every started unit, unblamed; only for someone who knows that no worker lives."""
        started = [unit for unit, entry in self._all() if entry.state is State.STARTED]
        for unit in started:
            self.redis.set(_lease_key(unit), "released")
        return sum(self.release(Lease(unit, "released")) for unit in started)

    def entry(self, unit: Unit) -> Entry:
        """What is known of one unit."""
        return Entry.parse(self.redis.hget(_units_key(unit.stage, unit.period), str(unit.grid_id)))

    def entries(self, units: Iterable[Unit]) -> dict[Unit, Entry]:
        """What is known of many units, in few round trips."""
        found: dict[Unit, Entry] = {}
        ordered = sorted(units)
        for (stage, period), group in groupby(sorted(ordered, key=_place), key=_place):
            members = list(group)
            for start in range(0, len(members), CHUNK):
                chunk = members[start : start + CHUNK]
                values = self.redis.hmget(_units_key(Stage(stage), period), [str(unit.grid_id) for unit in chunk])
                found.update(zip(chunk, map(Entry.parse, values), strict=True))
        return found

    def counts(self, stage: Stage, period: str) -> dict[State, int]:
        """How many units of a stage and period are in each state."""
        counted = self.redis.hgetall(_counts_key(stage, period))
        return {State(str(state)): int(number) for state, number in counted.items() if int(number)}

    def periods(self) -> list[tuple[Stage, str]]:
        """Every stage and period with an entry."""
        prefix = _units_key(Stage.DOWNLOAD, "").rsplit(":", 2)[0]
        found = (key.rsplit(":", 2)[1:] for key in self.redis.scan_iter(f"{prefix}:*", count=CHUNK))
        return sorted((Stage(stage), period) for stage, period in found)

    def waiting_for_a_person(self) -> dict[Unit, Entry]:
        """Units that failed, were quarantined or canceled."""
        return dict(sorted((unit, entry) for unit, entry in self._all() if entry.state.needs_a_person))

    def leased(self, units: Collection[Unit]) -> set[Unit]:
        """Those of the units that a living worker holds."""
        ordered = list(units)
        held: set[Unit] = set()
        for start in range(0, len(ordered), CHUNK):
            chunk = ordered[start : start + CHUNK]
            owners = self.redis.mget([_lease_key(unit) for unit in chunk])
            held.update(unit for unit, owner in zip(chunk, owners, strict=True) if owner is not None)
        return held

    def _all(self) -> Iterator[tuple[Unit, Entry]]:
        for stage, period in self.periods():
            years = tuple(map(int, period.split("_")))
            for grid_id, text in self.redis.hscan_iter(_units_key(stage, period), count=CHUNK):
                yield Unit(stage, int(grid_id), years), Entry.parse(text)

    def _lease(self, unit: Unit, owner: str, worker: str, *, only_fresh: bool) -> Lease | None:
        limits = self.limits
        args: list[str | int | float] = [unit.grid_id, self._clock(), owner, worker]
        args += [round(limits.lease_s * 1000), limits.max_deaths, int(only_fresh)]
        return Lease(unit, owner) if self._begin(keys=_keys(unit), args=args) else None

    def _end(self, lease: Lease, state: State, *, error: str = "", due: float = 0) -> bool:
        args: list[str | int | float] = [lease.unit.grid_id, self._clock(), lease.owner, state, error, due]
        return bool(self._close(keys=_keys(lease.unit), args=args))


def _place(unit: Unit) -> tuple[str, str]:
    return unit.stage, unit.period


def _units_key(stage: Stage, period: str) -> str:
    return f"eo-tasks:units:{stage}:{period}"


def _counts_key(stage: Stage, period: str) -> str:
    return f"eo-tasks:counts:{stage}:{period}"


def _lease_key(unit: Unit) -> str:
    return f"eo-tasks:lease:{unit.id}"


def _keys(unit: Unit) -> list[str]:
    return [_units_key(unit.stage, unit.period), _counts_key(unit.stage, unit.period), _lease_key(unit)]
