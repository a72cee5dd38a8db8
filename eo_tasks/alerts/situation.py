"""What the rules look at, read once for all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eo_tasks.overview.known import QUEUES, Known
from eo_tasks.settings import Settings
from eo_tasks.state.accounts import Standing
from eo_tasks.state.alerts import Alerts
from eo_tasks.state.entry import State
from eo_tasks.state.history import Sample
from eo_tasks.state.order import Order
from eo_tasks.state.queues import queue_lengths
from eo_tasks.state.runs import Run, RunState
from eo_tasks.state.workers import WorkerReport
from eo_tasks.units import Stage

HOUR_S = 3600.0

Counts = Mapping[State, int]


@dataclass(frozen=True)
class Situation:
    """How the system is.

    Attributes:
        now: Seconds since 1970.
        runs: Those that go on, or are paused.
        counts: Units of each run's stages and years, by state; of other runs that want the same, too.
        moved_at: When a unit of a run was last seen to end.
        orders: Of each run, at remote sources.
        spent: Credits, by run.
        samples: Of the last hour.
    """

    now: float
    runs: Sequence[Run]
    counts: Mapping[str, Counts]
    moved_at: Mapping[str, float]
    orders: Mapping[str, Sequence[Order]]
    spent: Mapping[str, float]
    samples: Sequence[Sample]
    workers: Sequence[WorkerReport]
    queues: Mapping[str, int]
    accounts: Mapping[str, Standing]


def read_situation(known: Known, alerts: Alerts, now: float) -> Situation:
    """Read it: a few round trips, whatever the number of units."""
    runs = [run for run in known.runs.all() if not run.state.has_ended]
    all_counts = known.ledger.all_counts()
    counts = {run.id: _counts(run, all_counts) for run in runs}
    going_on = [run for run in runs if run.state is RunState.ACTIVE]
    orders = known.orders.all()
    return Situation(
        now=now,
        runs=runs,
        counts=counts,
        moved_at=alerts.moves({run.id: _ended(counts[run.id]) for run in going_on}, now),
        orders={run.id: [order for order in orders if order.run == run.id] for run in runs},
        spent={run.id: known.accounts.spent(run.id) for run in runs},
        samples=known.history.since(now - HOUR_S),
        workers=known.workers.all(),
        queues=queue_lengths(known.broker, QUEUES),
        accounts=known.accounts.all(),
    )


def _counts(run: Run, counts: Mapping[tuple[Stage, str], Counts]) -> Counts:
    found: dict[State, int] = {}
    for place in run.wanted.places:
        for state, number in counts.get(place, {}).items():
            found[state] = found.get(state, 0) + number
    return found


def _ended(counts: Counts) -> int:
    return sum(number for state, number in counts.items() if state.is_settled)


@dataclass(frozen=True)
class Limits:
    """From when on something is worth an alert; see the settings of the same names."""

    stall_s: float
    failure_share: float
    free_gb: float
    credits: float
    max_credits: float | None

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        """Those of the settings."""
        return cls(
            settings.alert_stall_s, settings.alert_failure_share, settings.alert_free_gb, settings.alert_credits,
            settings.openeo_max_credits,
        )  # fmt: skip
