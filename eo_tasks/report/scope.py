"""What a report is of: which cells, years and pairs of years."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise

from eo_tasks.errors import GridError
from eo_tasks.overview.known import Known
from eo_tasks.ranges import Ranges
from eo_tasks.state.keys import years_of
from eo_tasks.state.runs import Run, RunState
from eo_tasks.steps import Pipeline
from eo_tasks.units import Stage

Pair = tuple[int, int]


@dataclass(frozen=True)
class Scope:
    """Cells, years and pairs of years, and who wants them.

    Attributes:
        labels: Of cells that have one.
        runs: Whose units they are.
    """

    grid_ids: Sequence[int]
    years: Sequence[int]
    pairs: Sequence[Pair]
    labels: Mapping[int, str] = field(repr=False)
    runs: Sequence[Run] = field(repr=False)

    def pairs_from(self, year: int) -> list[Pair]:
        """Pairs that begin with a year: their masks are named after it."""
        return [pair for pair in self.pairs if pair[0] == year]


def scope_of(known: Known, pipeline: Pipeline, run: Run | None = None) -> Scope:
    """What a run wants; or, without one, all that was ever asked for or is stored."""
    labels = _labels(pipeline)
    if run is not None:
        return Scope(run.wanted.grid_ids, run.wanted.years, run.wanted.year_pairs, labels, (run,))
    runs = [one for one in known.runs.all() if one.state is not RunState.CANCELED]
    periods = known.ledger.periods()
    asked_years = chain.from_iterable(one.wanted.years for one in runs)
    known_years = (years_of(period)[0] for stage, period in periods if stage is not Stage.BTC)
    stored_years = pipeline.store.years()
    pairs = {pair for one in runs for pair in one.wanted.year_pairs}
    pairs |= {_pair(period) for stage, period in periods if stage is Stage.BTC}
    return Scope(
        grid_ids=_grid_ids(labels, runs),
        years=sorted({*asked_years, *known_years, *stored_years, *chain.from_iterable(pairs)}),
        pairs=sorted(pairs or pairwise(stored_years)),
        labels={grid_id: label for grid_id, label in labels.items() if label},
        runs=runs,
    )


def _labels(pipeline: Pipeline) -> dict[int, str]:
    """Every cell of the grid and its label; nothing where there is no grid here."""
    try:
        return {cell.grid_id: cell.label or "" for cell in pipeline.grid.cells}
    except GridError:
        return {}


def _grid_ids(of_grid: Collection[int], runs: Sequence[Run]) -> Ranges:
    return Ranges.union([Ranges.of(of_grid), *(Ranges.of(run.wanted.grid_ids) for run in runs)])


def _pair(period: str) -> Pair:
    before, after = years_of(period)
    return before, after
