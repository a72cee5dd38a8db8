"""Where everything stands, in numbers: a few round trips to Redis, whatever the number of units."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import time

from eo_tasks.overview.known import QUEUES, Known
from eo_tasks.overview.letters import WAITING
from eo_tasks.ranges import Ranges
from eo_tasks.state.entry import State
from eo_tasks.state.history import WINDOW_S, Sample, rate_per_s
from eo_tasks.state.keys import years_of
from eo_tasks.state.queues import queue_lengths
from eo_tasks.state.runs import Run, RunState
from eo_tasks.units import Stage


@dataclass(frozen=True)
class PeriodNumbers:
    """A stage of one year, or of one pair of years.

    Attributes:
        years: One or two.
        total: Units that are wanted; 0 if no run wants them any more.
        states: Units by state; ``waiting`` are those that nothing is known of yet.
    """

    period: str
    years: Sequence[int]
    total: int
    states: Mapping[str, int]


@dataclass(frozen=True)
class StageNumbers:
    """A stage, all years together.

    Attributes:
        ended: Units that are done or have no imagery.
        rate_per_hour: Units completed an hour lately; ``None`` if it cannot be said yet.
        left_s: Time left at that rate; ``None`` if it cannot be said.
    """

    stage: Stage
    total: int
    ended: int
    states: Mapping[str, int]
    rate_per_hour: float | None
    left_s: float | None
    periods: Sequence[PeriodNumbers]


@dataclass(frozen=True)
class RunNumbers:
    """A run, as far as it was looked at.

    Attributes:
        years: All of them.
        cells: How many.
        cells_looked_at: In the pass that goes on.
        passes: That ended.
        found: What the last pass found, by ``stage.what``.
        credits: Spent.
    """

    id: str
    state: RunState
    note: str
    created_at: float
    since: float
    years: Sequence[int]
    cells: int
    cells_looked_at: int
    passes: int
    found: Mapping[str, int]
    credits: float


@dataclass(frozen=True)
class Summary:
    """Everything in numbers.

    Attributes:
        at: Seconds since 1970.
        stuck: Units that wait for a person.
        left_s: Time that the slowest stage needs; ``None`` if it cannot be said.
        orders: At remote sources, by state.
        accounts: What is wrong with those, by account.
    """

    at: float
    total: int
    ended: int
    stuck: int
    left_s: float | None
    stages: Sequence[StageNumbers]
    queues: Mapping[str, int]
    runs: Sequence[RunNumbers]
    orders: Mapping[str, int]
    accounts: Mapping[str, str]


def read_summary(known: Known, now: float | None = None) -> Summary:
    """Read where everything stands."""
    now = time() if now is None else now
    runs, counts = known.runs.all(), known.ledger.all_counts()
    samples = known.history.since(now - WINDOW_S)
    wanted = _wanted(runs)
    stages = tuple(_stage(stage, counts, wanted, samples) for stage in Stage)
    lefts = [stage.left_s for stage in stages if stage.ended < stage.total]
    return Summary(
        at=now,
        total=sum(stage.total for stage in stages),
        ended=sum(stage.ended for stage in stages),
        stuck=sum(number for states in counts.values() for state, number in states.items() if state.needs_a_person),
        left_s=None if None in lefts else max((left for left in lefts if left is not None), default=None),
        stages=stages,
        queues=queue_lengths(known.broker, QUEUES),
        runs=tuple(read_run(known, run) for run in runs),
        orders=dict(Counter(str(order.state) for order in known.orders.all())),
        accounts={account: standing.reason for account, standing in known.accounts.all().items() if standing.reason},
    )


def _wanted(runs: Sequence[Run]) -> dict[tuple[Stage, str], int]:
    """Units that some run wants, by stage and period."""
    cells: dict[tuple[Stage, str], list[Ranges]] = {}
    for run in runs:
        if run.state is RunState.CANCELED:
            continue
        ids = Ranges(run.wanted.spans)
        for place in run.wanted.places:
            cells.setdefault(place, []).append(ids)
    return {place: len(Ranges.union(parts)) for place, parts in cells.items()}


def _stage(
    stage: Stage,
    counts: Mapping[tuple[Stage, str], Mapping[State, int]],
    wanted: Mapping[tuple[Stage, str], int],
    samples: Sequence[Sample],
) -> StageNumbers:
    places = sorted(period for of, period in {*counts, *wanted} if of is stage)
    periods = tuple(_period(stage, period, counts, wanted) for period in places)
    states: Counter[str] = Counter()
    for one in periods:
        states.update(one.states)
    total, ended = states.total(), sum(states[state] for state in (State.COMPLETED, State.SKIPPED, State.EMPTY))
    rate = rate_per_s(samples, stage)
    settled = sum(states[state] for state in (State.FAILED, State.QUARANTINED, State.CANCELED))
    left = max(total - ended - settled, 0)
    return StageNumbers(
        stage=stage,
        total=total,
        ended=ended,
        states=dict(states),
        rate_per_hour=None if rate is None else rate * 3600,
        left_s=0.0 if not left else left / rate if rate else None,
        periods=periods,
    )


def _period(
    stage: Stage,
    period: str,
    counts: Mapping[tuple[Stage, str], Mapping[State, int]],
    wanted: Mapping[tuple[Stage, str], int],
) -> PeriodNumbers:
    known = counts.get((stage, period), {})
    states = {str(state): number for state, number in known.items()}
    total = max(wanted.get((stage, period), 0), sum(states.values()))
    if unknown := total - sum(states.values()):
        states[WAITING] = unknown
    return PeriodNumbers(period, years_of(period), total, states)


def read_run(known: Known, run: Run) -> RunNumbers:
    """One run, in numbers."""
    position = known.runs.position(run)
    return RunNumbers(
        id=run.id,
        state=run.state,
        note=run.note,
        created_at=run.created_at,
        since=run.since,
        years=run.wanted.years,
        cells=len(run.wanted.grid_ids),
        cells_looked_at=position.cell,
        passes=position.passes,
        found=dict(position.last),
        credits=known.accounts.spent(run.id),
    )
