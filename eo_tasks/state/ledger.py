"""The ledger: where every unit stands, in Redis, moved by atomic steps that keep counts and indexes too.

A hash per stage and period maps a cell to its entry. A unit that waits for room in its queue is on the list of ready
units of the run that wants it; one in flight is in an index by the time at which someone should look at it; one that
runs is leased: a key with a short time to live, renewed while the work goes on.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from time import time
from typing import Any

from redis import Redis

from eo_tasks.fingerprint import Fingerprint, fingerprint
from eo_tasks.state.entry import Entry, Followers, Lease, Limits, State
from eo_tasks.state.keys import batches, by_place, chunks, lease_key, named_units, ready_key, years_of
from eo_tasks.state.lookups import Lookups
from eo_tasks.state.scripts import ADOPT, BEGIN, CLOSE, FORGET, READY, RENEW, RESEND, RESTORE, TAKE, WITHDRAW
from eo_tasks.units import Stage, Unit

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


class Ledger(Lookups):
    """Unit states in one Redis database; safe for any number of processes."""

    def __init__(self, redis: Redis, limits: Limits, clock: Callable[[], float] = time) -> None:
        super().__init__(redis, limits)
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
        return sum(int(self._call(self._ready, stage, *flags, *fields)) for stage, fields in batches(units))

    def take(self, stage: Stage, run_id: str, most: int) -> list[Unit]:
        """Mark a run's next ready units as enqueued, as far as there is room; the caller sends them."""
        limits = self.limits
        return named_units(stage, self._call(self._take, stage, run_id, most, limits.max_in_flight, limits.grace_s))

    def resend(self, units: Iterable[Unit]) -> list[Unit]:
        """Mark units as enqueued whose message or worker is gone, or whose time has come; the caller sends them.

        A unit that took its worker down is counted, and set aside at the last time.
        """
        limits, sent = self.limits, list[Unit]()
        for stage, fields in batches(units):
            found = self._call(self._resend, stage, limits.grace_s, limits.max_deaths, *_DEATH, *fields)
            sent += named_units(stage, found)
        return sent

    def withdraw(self, units: Iterable[Unit], *, is_canceled: bool, is_ordered: bool = False) -> int:
        """Take back units that wait; canceled ones are taken from their orders and workers too.

        Args:
            units: Which.
            is_canceled: Whether a person gave them up.
            is_ordered: Whether they are taken from their orders in any case.

        Returns:
            How many will not run now.
        """
        state, flag = State.CANCELED if is_canceled else State.PENDING, int(is_ordered)
        return sum(int(self._call(self._withdraw, stage, state, flag, *fields)) for stage, fields in batches(units))

    def forget(self, units: Iterable[Unit]) -> int:
        """Drop the entries of units that are not in flight, so that they are planned again."""
        return sum(int(self._call(self._forget, stage, *fields)) for stage, fields in batches(units))

    def forget_ready(self, run_id: str) -> None:
        """Drop a run's lists of ready units."""
        self.redis.delete(*(ready_key(run_id, stage) for stage in Stage))

    # While a worker has it

    def begin(self, unit: Unit, owner: str, worker: str, order_id: str = "") -> Lease | None:
        """Lease a unit and mark it as started.

        Args:
            unit: Which.
            owner: Of the lease.
            worker: Who has it, for people.
            order_id: The order that has the unit, and makes it now; without one, an ordered unit is left alone.

        Returns:
            ``None`` if another worker holds it, it is done since it was sent, was withdrawn, or waits for a person or
            for a later time: a delivery to be dropped quietly.
        """
        return self._lease(unit, owner, worker, order_id)

    def claim(self, unit: Unit, owner: str, worker: str) -> Lease | None:
        """Lease a unit whose message still waits, to work on it beside another one.

        Returns:
            ``None`` if it is not waiting any more, or ever took a worker down: such a unit is run alone.
        """
        return self._lease(unit, owner, worker, "fresh")

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
        return self.put_off(lease, "", 0)

    def put_off(self, lease: Lease, reason: str, delay_s: float) -> Closed | None:
        """Put a unit back until ``delay_s`` from now, unblamed: nothing was tried."""
        return self._end(lease, State.RETRYING, error=reason, due=self._clock() + delay_s, max_attempts=-1)

    def release_all(self) -> int:
        """Give back every started unit, unblamed; only for someone who knows that no worker lives."""
        active = [unit for stage in Stage for unit in self.active(stage)]
        started = [unit for unit, entry in self.entries(active).items() if entry.state is State.STARTED]
        for unit in started:
            self.redis.set(lease_key(unit), "released")
        return sum(self.release(Lease(unit, "released")) is not None for unit in started)

    # What is found out otherwise

    def adopt(self, units: Iterable[Unit], state: State) -> int:
        """Write down what is found in the store (``skipped``), or has nothing to work on (``empty``).

        Returns:
            How many were not known to be so. What is in flight stays as it is.
        """
        number = 0
        for (stage, period), members in by_place(units):
            for chunk in chunks([unit.grid_id for unit in members]):
                number += int(self._call(self._adopt, stage, period, state, *chunk))
        return number

    def restore(self, stage: Stage, period: str, entries: Mapping[int, Entry]) -> int:
        """Take over entries of cells that the ledger knows nothing of."""
        number = 0
        for chunk in chunks(list(entries.items())):
            fields: list[str | int] = []
            for grid_id, entry in chunk:
                fields += [grid_id, entry.write(), entry.fingerprint, _about(entry.error) if entry.fingerprint else ""]
            number += int(self._call(self._restore, stage, period, *fields))
        return number

    def _lease(self, unit: Unit, owner: str, worker: str, mode: str) -> Lease | None:
        limits = self.limits
        given = (unit.stage, unit.period, unit.grid_id, owner, worker)
        begun = self._call(self._begin, *given, limits.lease_s, limits.max_deaths, *_DEATH, mode)
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
        pairs = (Unit(Stage.BTC, unit.grid_id, years_of(period)) for period in periods)
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
