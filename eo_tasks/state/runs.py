"""Runs: what people asked for, how far the work on it was looked at, and whether it may go on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from time import monotonic, time

from redis import Redis

from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges, read_ranges, write_ranges
from eo_tasks.state.scripts import EXCHANGE
from eo_tasks.units import Stage, Unit

WANTED_KEY = "eo-tasks:runs"
STATES_KEY = "eo-tasks:run-states"
POSITIONS_KEY = "eo-tasks:run-positions"
RECENT_S = 1.0
KEPT_S = 90 * 24 * 3600  # runs that ended are forgotten after this


class RunState(StrEnum):
    """Whether a run's units are sent."""

    ACTIVE = "active"
    PAUSED = "paused"
    STOPPED = "stopped"
    CANCELED = "canceled"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"  # nothing more comes without a person

    @property
    def has_ended(self) -> bool:
        """Nothing of the run is sent any more unless someone asks for it."""
        return self not in (RunState.ACTIVE, RunState.PAUSED)


@dataclass(frozen=True)
class Run:
    """One request; asking for the same cells and years again is the same run.

    Attributes:
        created_at: When it was asked for, seconds since 1970.
        not_before: Outputs older than this count as missing: a fresh start; 0 for a run that resumes.
        since: When it came into its state.
        note: Why, where nobody asked for it.
    """

    wanted: Wanted
    created_at: float
    not_before: float = 0
    state: RunState = RunState.ACTIVE
    since: float = 0
    note: str = ""

    @property
    def id(self) -> str:
        """Short fingerprint of the cells and years."""
        text = f"{write_ranges(self.wanted.grid_ids)};{write_ranges(self.wanted.years)}"
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def wants(self, unit: Unit) -> bool:
        """Whether a unit belongs to the run."""
        wanted = self.wanted
        if unit.grid_id not in wanted.grid_ids:
            return False
        return unit.years in wanted.year_pairs if unit.stage is Stage.BTC else unit.years[0] in wanted.years


@dataclass(frozen=True)
class Position:
    """How far the cells of a run were looked at.

    Attributes:
        cell: Number of cells looked at in this pass.
        passes: Passes that ended.
        worked_s: Time that this pass took so far, without waiting.
        ended_at: When the last pass ended, seconds since 1970.
        tally: Units found in this pass, by ``stage.what``.
        last: The tally of the last pass that ended.
    """

    cell: int = 0
    passes: int = 0
    worked_s: float = 0
    ended_at: float = 0
    tally: Mapping[str, int] = field(default_factory=dict)
    last: Mapping[str, int] = field(default_factory=dict)


class Runs:
    """The runs, in Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._wanted: dict[str, Wanted] = {}  # never changes: an id is the fingerprint of its request
        self._recent: tuple[float, list[Run]] | None = None
        self._exchange = redis.register_script(EXCHANGE)

    def add(self, run: Run) -> Run:
        """Keep a run and have it go on; one that goes on already, or is paused, stays as it is.

        Returns:
            The run as it is kept.
        """
        self._recent = None
        known = self.get(run.id)
        is_fresh = run.not_before > 0
        if known is not None and not known.state.has_ended and not is_fresh:
            return known
        if known is not None and known.state is RunState.PAUSED:
            run = replace(run, state=RunState.PAUSED)
        record = {"grid_ids": write_ranges(run.wanted.grid_ids), "years": list(run.wanted.years)}
        pipe = self._redis.pipeline(transaction=True)
        pipe.hset(WANTED_KEY, run.id, json.dumps(record))
        pipe.hset(STATES_KEY, run.id, _state_record(run))
        pipe.hdel(POSITIONS_KEY, run.id)
        pipe.execute()
        return run

    def get(self, run_id: str) -> Run | None:
        """A run by its id."""
        text = self._redis.hget(STATES_KEY, run_id)
        return None if text is None else self._run(run_id, str(text))

    def all(self) -> list[Run]:
        """Every run that is kept, oldest first."""
        found = (self._run(str(run_id), str(text)) for run_id, text in self._redis.hgetall(STATES_KEY).items())
        return sorted((run for run in found if run is not None), key=lambda run: (run.created_at, run.id))

    def active(self) -> list[Run]:
        """Runs that go on, oldest first."""
        return [run for run in self.all() if run.state is RunState.ACTIVE]

    def recently_active(self) -> list[Run]:
        """``active``, as it was a second ago at most: for every step of every unit."""
        if self._recent is None or monotonic() - self._recent[0] > RECENT_S:
            self._recent = monotonic(), self.active()
        return self._recent[1]

    def change(self, run: Run, state: RunState, note: str = "") -> bool:
        """Bring a run into another state; ``False`` if someone else changed it in between."""
        self._recent = None
        changed = replace(run, state=state, since=time(), note=note)
        return bool(self._exchange(keys=[STATES_KEY], args=[run.id, _state_record(run), _state_record(changed)]))

    def position(self, run: Run) -> Position:
        """How far a run was looked at."""
        text = self._redis.hget(POSITIONS_KEY, run.id)
        if text is None:
            return Position()
        generation, *values = json.loads(text)
        return Position(*values) if generation == run.created_at else Position()

    def move(self, run: Run, position: Position) -> None:
        """Write down how far a run was looked at."""
        values = (position.cell, position.passes, position.worked_s, position.ended_at)
        record = [run.created_at, *values, dict(position.tally), dict(position.last)]
        self._redis.hset(POSITIONS_KEY, run.id, json.dumps(record))

    def rewind(self, run: Run) -> None:
        """Have a run looked at from its first cell again."""
        self._redis.hdel(POSITIONS_KEY, run.id)

    def forget_old(self, now: float) -> int:
        """Forget runs that ended long ago."""
        old = [run.id for run in self.all() if run.state.has_ended and now - run.since > KEPT_S]
        if old:
            for key in (WANTED_KEY, STATES_KEY, POSITIONS_KEY):
                self._redis.hdel(key, *old)
        return len(old)

    def _run(self, run_id: str, state_record: str) -> Run | None:
        wanted = self._wanted.get(run_id)
        if wanted is None:
            text = self._redis.hget(WANTED_KEY, run_id)
            if text is None:
                return None
            record = json.loads(text)
            wanted = Wanted(Ranges.of(read_ranges(record["grid_ids"])), tuple(record["years"]))
            self._wanted[run_id] = wanted
        created_at, not_before, state, since, *note = json.loads(state_record)
        return Run(wanted, created_at, not_before, RunState(state), since, *note)


def _state_record(run: Run) -> str:
    return json.dumps([run.created_at, run.not_before, run.state, run.since, *([run.note] if run.note else [])])
