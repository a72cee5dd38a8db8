"""Where one unit stands, and the right to run it."""

import json
from dataclasses import dataclass, field
from enum import StrEnum

from eo_tasks.units import Unit


class State(StrEnum):
    """Where a unit stands; a unit without an entry is ``pending`` too."""

    PENDING = "pending"
    ENQUEUED = "enqueued"
    ORDERED = "ordered"
    STARTED = "started"
    RETRYING = "retrying"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    EMPTY = "empty"
    FAILED = "failed"
    QUARANTINED = "quarantined"
    CANCELED = "canceled"

    @property
    def is_in_flight(self) -> bool:
        """A message, an order, a worker or a later time has the unit; these count against ``MAX_IN_FLIGHT``."""
        return self in (State.ENQUEUED, State.ORDERED, State.STARTED, State.RETRYING)

    @property
    def needs_a_person(self) -> bool:
        """The unit stays where it is until someone retries it."""
        return self in (State.FAILED, State.QUARANTINED)

    @property
    def is_done(self) -> bool:
        """The unit's output is stored."""
        return self in (State.COMPLETED, State.SKIPPED)

    @property
    def is_settled(self) -> bool:
        """Nothing more happens to the unit by itself."""
        return self.is_done or self.needs_a_person or self is State.EMPTY


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
        fingerprint: Kind of the failure that it waits for a person with.
    """

    state: State = State.PENDING
    attempts: int = 0
    deaths: int = 0
    since: float = 0
    started_at: float = 0
    due: float = 0
    worker: str = ""
    error: str = ""
    fingerprint: str = ""

    @classmethod
    def parse(cls, text: str | bytes | None) -> "Entry":
        """Read an entry as the scripts write it."""
        if text is None:
            return cls()
        state, *rest = json.loads(text)
        return cls(State(state), *rest)

    def write(self) -> str:
        """The entry as the scripts read it."""
        values = [self.state, self.attempts, self.deaths, self.since, self.started_at, self.due, self.worker]
        return json.dumps([*values, self.error, *([self.fingerprint] if self.fingerprint else [])])


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a unit, held by ``owner`` while it is renewed.

    Attributes:
        deaths: Workers that the unit took down before.
        began: When it was begun, as the ledger has it: tells this delivery's work from a later one's.
    """

    unit: Unit
    owner: str
    deaths: int = field(default=0, compare=False)
    began: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long, how often and how many.

    Attributes:
        lease_s: A lease that is not renewed ends after this.
        max_attempts: Tries of a unit that fails for passing reasons.
        max_deaths: Workers a unit may take down before it is quarantined.
        max_in_flight: Units of one stage that are enqueued, ordered, started or to be retried at once.
        grace_s: A message on its way is for a moment neither in a queue nor with a worker.
    """

    lease_s: float = 30
    max_attempts: int = 10
    max_deaths: int = 3
    max_in_flight: int = 1000
    grace_s: float = 15


@dataclass(frozen=True, slots=True)
class Followers:
    """What the end of a unit sets in motion, in the same atomic step.

    Attributes:
        then: A unit whose message is sent next: it is enqueued.
        pairs: Pairs of years that this image may complete, each with the run that wants it: if the other image is
            stored, a pair is enqueued, or on the run's list where there is no room.
        empty: Units that have nothing to work on.
    """

    then: Unit | None = None
    pairs: tuple[tuple[str, Unit], ...] = ()
    empty: tuple[Unit, ...] = ()
