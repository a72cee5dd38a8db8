"""The ledger: where every unit stands, in Redis, moved by atomic steps that keep counts and indexes too.

A hash per stage and period maps a cell to its entry. A unit that waits for room in its queue is on the list of ready
units of the run that wants it; one in flight is in an index by the time at which someone should look at it; one that
runs is leased: a key with a short time to live, renewed while the work goes on.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from time import time
from typing import Any, TypeVar

from redis import Redis

from eo_tasks.fingerprint import Fingerprint, fingerprint
from eo_tasks.state.entry import Entry, Followers, Lease, Limits, State
from eo_tasks.state.scripts import ADOPT, BEGIN, CLOSE, FORGET, READY, RENEW, RESEND, RESTORE, TAKE, WITHDRAW
from eo_tasks.units import Stage, Unit

T = TypeVar("T")

CHUNK = 1000
LONGEST_ERROR = 500

WORKER_DEATH = Fingerprint("WorkerDeath", "ended its worker # times")


@dataclass(frozen=True, slots=True)
class Closed:
    """How a unit ended.

    Attributes:
        state: Where it stands now.
        enqueued: Year pairs that this completed and for which there is room; the caller sends them.
    """

    state: State
    enqueued: tuple[Unit, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Units that wait for a person for the same reason."""

    fingerprint: str
    error_class: str
    template: str
    example: str
    number: int


class Ledger:
    """Unit states in one Redis database; safe for any number of processes."""

    def __init__(self, redis: Redis, limits: Limits, clock: Callable[[], float] = time) -> None:
        self.redis = redis
        self.limits = limits
        self._clock = clock
        self._ready, self._take, self._resend = map(redis.register_script, (READY, TAKE, RESEND))
        self._begin, self._renew, self._close = map(redis.register_script, (BEGIN, RENEW, CLOSE))
        self._withdraw, self._forget = map(redis.register_script, (WITHDRAW, FORGET))
        self._adopt, self._restore = map(redis.register_script, (ADOPT, RESTORE))

    # Before a unit is sent

    def make_ready(self, units: Iterable[Unit], run_id: str, *, is_again: bool = False, is_forced: bool = False) -> int:
        """Put units on a run's list of those to be sent when there is room.

        A unit in flight, or on such a list, is left alone; so is one that waits for a person.

        Args:
            units: What is missing.
            run_id: The run that wants it.
            is_again: Also those that are on a list already: the lists are known to be empty.
            is_forced: Also those that wait for a person, or have no imagery.

        Returns:
            How many are ready now.
        """
        flags: tuple[str | int, ...] = (run_id, int(is_again), int(is_forced))
        return sum(int(self._call(self._ready, stage, *flags, *fields)) for stage, fields in _batches(units))

    def take(self, stage: Stage, run_id: str, most: int) -> list[Unit]:
        """Mark a run's next ready units as enqueued, as far as there is room; the caller sends them."""
        limits = self.limits
        return _units(stage, self._call(self._take, stage, run_id, most, limits.max_in_flight, limits.grace_s))

    def resend(self, units: Iterable[Unit]) -> list[Unit]:
        """Mark units as enqueued whose message or worker is gone, or whose time has come; the caller sends them.

        A unit that took its worker down is counted, and set aside at the last time.
        """
        limits, sent = self.limits, list[Unit]()
        for stage, fields in _batches(units):
            found = self._call(self._resend, stage, limits.grace_s, limits.max_deaths, *_DEATH, *fields)
            sent += _units(stage, found)
        return sent

    def withdraw(self, units: Iterable[Unit], *, is_canceled: bool) -> int:
        """Take back units that wait; canceled ones are taken from their workers too.

        Returns:
            How many will not run now.
        """
        state = State.CANCELED if is_canceled else State.PENDING
        return sum(int(self._call(self._withdraw, stage, state, *fields)) for stage, fields in _batches(units))

    def forget(self, units: Iterable[Unit]) -> int:
        """Drop the entries of units that are not in flight, so that they are planned again."""
        return sum(int(self._call(self._forget, stage, *fields)) for stage, fields in _batches(units))

    def ready_units(self, run_id: str, stage: Stage) -> list[Unit]:
        """A run's units that wait for room."""
        return _units(stage, self.redis.lrange(_ready_key(run_id, stage), 0, -1))

    def ready_length(self, run_id: str, stage: Stage) -> int:
        """How many units of a run wait for room."""
        return int(self.redis.llen(_ready_key(run_id, stage)))

    def forget_ready(self, run_id: str) -> None:
        """Drop a run's lists of ready units."""
        self.redis.delete(*(_ready_key(run_id, stage) for stage in Stage))

    # While a worker has it

    def begin(self, unit: Unit, owner: str, worker: str) -> Lease | None:
        """Lease a unit and mark it as started.

        Returns:
            ``None`` if another worker holds it, it is done since it was sent, was withdrawn, or waits for a person or
            for a later time: a delivery to be dropped quietly.
        """
        return self._lease(unit, owner, worker, only_fresh=False)

    def claim(self, unit: Unit, owner: str, worker: str) -> Lease | None:
        """Lease a unit whose message still waits, to work on it beside another one.

        Returns:
            ``None`` if it is not waiting any more, or ever took a worker down: such a unit is run alone.
        """
        return self._lease(unit, owner, worker, only_fresh=True)

    def renew(self, lease: Lease) -> bool:
        """Prolong a lease, or take it again that ended while Redis was away; ``False`` if another has the unit."""
        unit = lease.unit
        given = (unit.stage, unit.period, unit.grid_id, lease.owner, lease.began)
        return bool(self._call(self._renew, *given, self.limits.lease_s))

    def finish(self, lease: Lease, *, is_skipped: bool, followers: Followers | None = None) -> Closed | None:
        """Mark a unit as done; ``None`` if the lease was lost and another worker answers for it."""
        return self._end(lease, State.SKIPPED if is_skipped else State.COMPLETED, followers=followers)

    def find_empty(self, lease: Lease, reason: str, followers: Followers | None = None) -> Closed | None:
        """Mark a unit as one for which there is no imagery."""
        return self._end(lease, State.EMPTY, error=reason, followers=followers)

    def fail(self, lease: Lease, error: str) -> Closed | None:
        """Mark a unit as failed for good."""
        return self._end(lease, State.FAILED, error=error)

    def retry(self, lease: Lease, error: str, delay_s: float, max_attempts: int | None = None) -> Closed | None:
        """Put a unit back until ``delay_s`` from now; it has failed if its tries are used up."""
        due = self._clock() + delay_s
        return self._end(lease, State.RETRYING, error=error, due=due, max_attempts=max_attempts)

    def release(self, lease: Lease) -> Closed | None:
        """Give a unit back unfinished and unblamed, as a worker does that is told to stop."""
        return self._end(lease, State.RETRYING, due=self._clock(), max_attempts=1_000_000)

    def release_all(self) -> int:
        """Give back every started unit, unblamed; only for someone who knows that no worker lives."""
        active = [unit for stage in Stage for unit in self.active(stage)]
        started = [unit for unit, entry in self.entries(active).items() if entry.state is State.STARTED]
        for unit in started:
            self.redis.set(_lease_key(unit), "released")
        return sum(self.release(Lease(unit, "released")) is not None for unit in started)

    # What is found out otherwise

    def adopt(self, units: Iterable[Unit], state: State) -> int:
        """Write down what is found in the store (``skipped``), or has nothing to work on (``empty``).

        Returns:
            How many were not known to be so. What is in flight stays as it is.
        """
        number = 0
        for (stage, period), members in _places(units):
            for chunk in _chunks([unit.grid_id for unit in members]):
                number += int(self._call(self._adopt, stage, period, state, *chunk))
        return number

    def restore(self, stage: Stage, period: str, entries: Mapping[int, Entry]) -> int:
        """Take over entries of cells that the ledger knows nothing of."""
        number = 0
        for chunk in _chunks(list(entries.items())):
            fields: list[str | int] = []
            for grid_id, entry in chunk:
                fields += [grid_id, entry.write(), entry.fingerprint, _about(entry.error) if entry.fingerprint else ""]
            number += int(self._call(self._restore, stage, period, *fields))
        return number

    # What is known

    def entry(self, unit: Unit) -> Entry:
        """What is known of one unit."""
        return Entry.parse(self.redis.hget(_units_key(unit.stage, unit.period), str(unit.grid_id)))

    def entries(self, units: Iterable[Unit]) -> dict[Unit, Entry]:
        """What is known of many units, in few round trips."""
        asked: list[Unit] = []
        pipe = self.redis.pipeline(transaction=False)
        for (stage, period), members in _places(units):
            for chunk in _chunks(members):
                pipe.hmget(_units_key(stage, period), [str(unit.grid_id) for unit in chunk])
                asked += chunk
        values = (value for values in pipe.execute() for value in values)
        return dict(zip(asked, map(Entry.parse, values), strict=True))

    def all_entries(self, stage: Stage, period: str) -> Iterator[tuple[Unit, Entry]]:
        """Every entry of a stage and period, each once, in no order, read as they are asked for."""
        years, seen = tuple(map(int, period.split("_"))), set[int]()
        for field, text in self.redis.hscan_iter(_units_key(stage, period), count=CHUNK):
            if (grid_id := int(field)) not in seen:  # Redis may give some twice while others are added
                seen.add(grid_id)
                yield Unit(stage, grid_id, years), Entry.parse(text)

    def counts(self, stage: Stage, period: str) -> dict[State, int]:
        """How many units of a stage and period are in each state."""
        counted = self.redis.hgetall(_counts_key(stage, period))
        return {State(str(state)): int(number) for state, number in counted.items() if int(number)}

    def all_counts(self) -> dict[tuple[Stage, str], dict[State, int]]:
        """``counts`` of every stage and period, in two round trips."""
        places = self.periods()
        pipe = self.redis.pipeline(transaction=False)
        for place in places:
            pipe.hgetall(_counts_key(*place))
        return {
            place: {State(str(state)): int(number) for state, number in counted.items() if int(number)}
            for place, counted in zip(places, pipe.execute(), strict=True)
        }

    def periods(self) -> list[tuple[Stage, str]]:
        """Every stage and period with an entry, in order of work."""
        found = (str(place).split(":") for place in self.redis.smembers("eo-tasks:periods"))
        order = list(Stage)
        return sorted(
            ((Stage(stage), period) for stage, period in found), key=lambda place: (order.index(place[0]), place[1])
        )

    def changed_periods(self) -> list[tuple[Stage, str]]:
        """Every stage and period with an entry that changed since this was asked last."""
        pipe = self.redis.pipeline(transaction=True)
        pipe.smembers("eo-tasks:changed")
        pipe.delete("eo-tasks:changed")
        found, _ = pipe.execute()
        return sorted((Stage(stage), period) for stage, period in (str(place).split(":") for place in found))

    def mark_changed(self, places: Iterable[tuple[Stage, str]]) -> None:
        """Have ``changed_periods`` tell of these again."""
        if members := [f"{stage}:{period}" for stage, period in places]:
            self.redis.sadd("eo-tasks:changed", *members)

    def active(self, stage: Stage, until: float | None = None, most: int | None = None) -> list[Unit]:
        """Units in flight, those first that someone should look at first.

        Args:
            stage: Of which stage.
            until: Only those to be looked at by then, seconds since 1970.
            most: No more than so many.
        """
        latest = "+inf" if until is None else until
        return [
            Unit.parse(str(unit))
            for unit in self.redis.zrangebyscore(_active_key(stage), "-inf", latest, 0, -1 if most is None else most)
        ]

    def look_again(self, units: Collection[Unit], at: float) -> None:
        """Have ``active`` show units that are all right no sooner than then."""
        pipe = self.redis.pipeline(transaction=False)
        for unit in units:
            pipe.zadd(_active_key(unit.stage), {unit.id: at}, xx=True)
        pipe.execute()

    def room(self, stage: Stage) -> int:
        """How many more units of a stage may be in flight."""
        return max(self.limits.max_in_flight - int(self.redis.zcard(_active_key(stage))), 0)

    def leased(self, units: Collection[Unit]) -> set[Unit]:
        """Those of the units that a living worker holds."""
        held: set[Unit] = set()
        for chunk in _chunks(list(units)):
            owners = self.redis.mget([_lease_key(unit) for unit in chunk])
            held.update(unit for unit, owner in zip(chunk, owners, strict=True) if owner is not None)
        return held

    def error_groups(self) -> list[ErrorGroup]:
        """What units wait for a person for, most frequent first."""
        kinds = {str(print_id): json.loads(about) for print_id, about in self.redis.hgetall("eo-tasks:errors").items()}
        pipe = self.redis.pipeline(transaction=False)
        for print_id in kinds:
            pipe.scard(_stuck_key(print_id))
        groups = [
            ErrorGroup(print_id, error_class, template, example, int(number))
            for (print_id, (error_class, template, example)), number in zip(kinds.items(), pipe.execute(), strict=True)
        ]
        return sorted(groups, key=lambda group: (-group.number, group.fingerprint))

    def stuck_units(self, fingerprints: Collection[str] | None = None, most: int | None = None) -> list[Unit]:
        """Units that wait for a person, for these reasons or any.

        Args:
            fingerprints: Of which kinds.
            most: Stop after about so many of a kind.
        """
        kinds = [group.fingerprint for group in self.error_groups()] if fingerprints is None else fingerprints
        found: list[Unit] = []
        for print_id in kinds:
            members = self.redis.sscan_iter(_stuck_key(print_id), count=CHUNK)
            found += (Unit.parse(str(unit)) for _, unit in zip(range(most or 10**9), members, strict=False))
        return sorted(set(found))

    def waiting_for_a_person(self, most: int | None = None) -> dict[Unit, Entry]:
        """Units that failed or were quarantined, and why."""
        entries = self.entries(self.stuck_units(most=most))
        return dict(sorted((unit, entry) for unit, entry in entries.items() if entry.state.needs_a_person))

    def _lease(self, unit: Unit, owner: str, worker: str, *, only_fresh: bool) -> Lease | None:
        limits = self.limits
        given = (unit.stage, unit.period, unit.grid_id, owner, worker)
        begun = self._call(self._begin, *given, limits.lease_s, limits.max_deaths, *_DEATH, int(only_fresh))
        return None if begun is None else Lease(unit, owner, int(begun[0]), str(begun[1]))

    def _end(
        self,
        lease: Lease,
        state: State,
        *,
        error: str = "",
        due: float = 0,
        max_attempts: int | None = None,
        followers: Followers | None = None,
    ) -> Closed | None:
        unit, error = lease.unit, error[:LONGEST_ERROR]
        print_id, about = (fingerprint(error).id, _about(error)) if error else ("", "")
        follow = _follow(unit, followers, self.limits) if followers is not None else ""
        given = (unit.stage, unit.period, unit.grid_id, lease.owner, lease.began, state, error, print_id, about, due)
        tries = self.limits.max_attempts if max_attempts is None else max_attempts
        closed = self._call(self._close, *given, tries, follow)
        if closed is None:
            return None
        state_now, *periods = map(str, closed)
        pairs = (Unit(Stage.BTC, unit.grid_id, tuple(map(int, period.split("_")))) for period in periods)
        return Closed(State(state_now), tuple(pairs))

    def _call(self, script: Callable[..., Any], *args: str | int | float) -> Any:
        return script(args=[round(self._clock(), 3), *args])


def _follow(unit: Unit, followers: Followers, limits: Limits) -> str:
    """Followers as the script reads them: all are of the unit's own cell."""

    def other_year(pair: Unit) -> str:
        return next(str(year) for year in pair.years if year not in unit.years)

    return json.dumps(
        {
            "then": [] if followers.then is None else [[followers.then.stage, followers.then.period]],
            "pairs": [[run_id, pair.period, other_year(pair)] for run_id, pair in followers.pairs],
            "empty": [[empty.stage, empty.period] for empty in followers.empty],
            "grace": limits.grace_s,
            "room": limits.max_in_flight,
        }
    )


def _about(error: str) -> str:
    kind = fingerprint(error)
    return json.dumps([kind.error_class, kind.template, error])


_DEATH = (
    WORKER_DEATH.id,
    json.dumps([WORKER_DEATH.error_class, WORKER_DEATH.template, "WorkerDeath: " + WORKER_DEATH.template]),
)


def _places(units: Iterable[Unit]) -> Iterator[tuple[tuple[Stage, str], list[Unit]]]:
    """Units by stage and period, in their order otherwise."""
    ordered = sorted(units, key=_place)
    return ((place, list(members)) for place, members in groupby(ordered, key=_place))


def _batches(units: Iterable[Unit]) -> Iterator[tuple[Stage, list[str | int]]]:
    """Units by stage, in their order otherwise, as the arguments of a script, not too many at once."""
    by_stage: dict[Stage, list[Unit]] = {}
    for unit in units:
        by_stage.setdefault(unit.stage, []).append(unit)
    for stage, members in by_stage.items():
        for chunk in _chunks(members):
            yield stage, [field for unit in chunk for field in (unit.period, unit.grid_id)]


def _chunks(members: Sequence[T]) -> Iterator[Sequence[T]]:
    return (members[start : start + CHUNK] for start in range(0, len(members), CHUNK))


def _units(stage: Stage, items: Iterable[str | bytes]) -> list[Unit]:
    """Units as a script names them: ``cell:period``."""
    parts = (str(item).split(":") for item in items)
    return [Unit(stage, int(grid_id), tuple(map(int, period.split("_")))) for grid_id, period in parts]


def _place(unit: Unit) -> tuple[Stage, str]:
    return unit.stage, unit.period


def _units_key(stage: Stage, period: str) -> str:
    return f"eo-tasks:units:{stage}:{period}"


def _counts_key(stage: Stage, period: str) -> str:
    return f"eo-tasks:counts:{stage}:{period}"


def _active_key(stage: Stage) -> str:
    return f"eo-tasks:active:{stage}"


def _ready_key(run_id: str, stage: Stage) -> str:
    return f"eo-tasks:ready:{run_id}:{stage}"


def _stuck_key(print_id: str) -> str:
    return f"eo-tasks:stuck:{print_id}"


def _lease_key(unit: Unit) -> str:
    return f"eo-tasks:lease:{unit.stage}_{unit.grid_id}_{unit.period}"
