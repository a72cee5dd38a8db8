"""What the ledger knows: entries, counts, and the indexes of units in flight, ready, and waiting for a person."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from redis import Redis

from eo_tasks.state.entry import Entry, Limits, State
from eo_tasks.state.keys import (
    CHANGED,
    CHUNK,
    ERRORS,
    PERIODS,
    active_key,
    by_place,
    chunks,
    counts_key,
    lease_key,
    named_units,
    ready_key,
    stuck_key,
    units_key,
    years_of,
)
from eo_tasks.units import Stage, Unit


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Units that wait for a person for the same reason."""

    fingerprint: str
    error_class: str
    template: str
    example: str
    number: int


class Lookups:
    """Reads the ledger in one Redis database."""

    def __init__(self, redis: Redis, limits: Limits) -> None:
        self.redis = redis
        self.limits = limits

    def entry(self, unit: Unit) -> Entry:
        """What is known of one unit."""
        return Entry.parse(self.redis.hget(units_key(unit.stage, unit.period), str(unit.grid_id)))

    def entries(self, units: Iterable[Unit]) -> dict[Unit, Entry]:
        """What is known of many units, in few round trips."""
        asked: list[Unit] = []
        pipe = self.redis.pipeline(transaction=False)
        for (stage, period), members in by_place(units):
            for chunk in chunks(members):
                pipe.hmget(units_key(stage, period), [str(unit.grid_id) for unit in chunk])
                asked += chunk
        values = (value for values in pipe.execute() for value in values)
        return dict(zip(asked, map(Entry.parse, values), strict=True))

    def all_entries(self, stage: Stage, period: str) -> Iterator[tuple[Unit, Entry]]:
        """Every entry of a stage and period, each once, in no order, read as they are asked for."""
        years, seen = years_of(period), set[int]()
        for field, text in self.redis.hscan_iter(units_key(stage, period), count=CHUNK):
            if (grid_id := int(field)) not in seen:  # Redis may give some twice while others are added
                seen.add(grid_id)
                yield Unit(stage, grid_id, years), Entry.parse(text)

    def counts(self, stage: Stage, period: str) -> dict[State, int]:
        """How many units of a stage and period are in each state."""
        return _numbers(self.redis.hgetall(counts_key(stage, period)))

    def all_counts(self) -> dict[tuple[Stage, str], dict[State, int]]:
        """``counts`` of every stage and period, in two round trips."""
        places = self.periods()
        pipe = self.redis.pipeline(transaction=False)
        for place in places:
            pipe.hgetall(counts_key(*place))
        return dict(zip(places, map(_numbers, pipe.execute()), strict=True))

    def periods(self) -> list[tuple[Stage, str]]:
        """Every stage and period with an entry, in order of work."""
        found = (str(place).split(":") for place in self.redis.smembers(PERIODS))
        order = list(Stage)
        return sorted(
            ((Stage(stage), period) for stage, period in found), key=lambda place: (order.index(place[0]), place[1])
        )

    def changed_periods(self) -> list[tuple[Stage, str]]:
        """Every stage and period with an entry that changed since this was asked last."""
        pipe = self.redis.pipeline(transaction=True)
        pipe.smembers(CHANGED)
        pipe.delete(CHANGED)
        found, _ = pipe.execute()
        return sorted((Stage(stage), period) for stage, period in (str(place).split(":") for place in found))

    def mark_changed(self, places: Iterable[tuple[Stage, str]]) -> None:
        """Have ``changed_periods`` tell of these again."""
        if members := [f"{stage}:{period}" for stage, period in places]:
            self.redis.sadd(CHANGED, *members)

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
            for unit in self.redis.zrangebyscore(active_key(stage), "-inf", latest, 0, -1 if most is None else most)
        ]

    def look_again(self, units: Collection[Unit], at: float) -> None:
        """Have ``active`` show units that are all right no sooner than then."""
        pipe = self.redis.pipeline(transaction=False)
        for unit in units:
            pipe.zadd(active_key(unit.stage), {unit.id: at}, xx=True)
        pipe.execute()

    def room(self, stage: Stage) -> int:
        """How many more units of a stage may be in flight; downloads need room among the stores, too."""
        stages = (Stage.DOWNLOAD, Stage.STORE) if stage is Stage.DOWNLOAD else (stage,)
        return max(self.limits.max_in_flight - max(int(self.redis.zcard(active_key(each))) for each in stages), 0)

    def leased(self, units: Collection[Unit]) -> set[Unit]:
        """Those of the units that a living worker holds."""
        held: set[Unit] = set()
        for chunk in chunks(list(units)):
            owners = self.redis.mget([lease_key(unit) for unit in chunk])
            held.update(unit for unit, owner in zip(chunk, owners, strict=True) if owner is not None)
        return held

    def error_groups(self) -> list[ErrorGroup]:
        """What units wait for a person for, most frequent first."""
        kinds = {str(print_id): json.loads(about) for print_id, about in self.redis.hgetall(ERRORS).items()}
        pipe = self.redis.pipeline(transaction=False)
        for print_id in kinds:
            pipe.scard(stuck_key(print_id))
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
            members = self.redis.sscan_iter(stuck_key(print_id), count=min(CHUNK, most or CHUNK))
            found += (Unit.parse(str(unit)) for _, unit in zip(range(most or 10**9), members, strict=False))
        return sorted(set(found))

    def empty_units(self) -> list[Unit]:
        """Units for which there is no imagery."""
        places = [place for place, counts in self.all_counts().items() if counts.get(State.EMPTY)]
        entries = chain.from_iterable(self.all_entries(*place) for place in places)
        return sorted(unit for unit, entry in entries if entry.state is State.EMPTY)

    def waiting_for_a_person(self, most: int | None = None) -> dict[Unit, Entry]:
        """Units that failed or were quarantined, and why."""
        entries = self.entries(self.stuck_units(most=most))
        return dict(sorted((unit, entry) for unit, entry in entries.items() if entry.state.needs_a_person))

    def ready_units(self, run_id: str, stage: Stage) -> list[Unit]:
        """A run's units that wait for room."""
        return named_units(stage, self.redis.lrange(ready_key(run_id, stage), 0, -1))

    def ready_length(self, run_id: str, stage: Stage) -> int:
        """How many units of a run wait for room."""
        return int(self.redis.llen(ready_key(run_id, stage)))


def _numbers(counted: Mapping[str | bytes, str | bytes]) -> dict[State, int]:
    """States that any unit is in."""
    return {State(str(state)): int(number) for state, number in counted.items() if int(number)}
