"""Reading a report; each part when it is first asked for, so that a table costs no pictures."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from time import time

import rasterio

from eo_tasks import __version__
from eo_tasks.overview.failures import MOST_CELLS as MOST_FAILED_CELLS
from eo_tasks.overview.failures import MOST_UNITS, FailureGroup, read_failures
from eo_tasks.overview.known import Known
from eo_tasks.overview.summary import PeriodNumbers, RunNumbers, Summary, read_summary
from eo_tasks.report.pictures import Picture, draw
from eo_tasks.report.rows import Row, read_rows
from eo_tasks.report.scope import Scope, scope_of
from eo_tasks.report.tally import SHOWN_CELLS, PairChanges, Tally, YearImages, tally_of
from eo_tasks.state.keys import years_of
from eo_tasks.state.runs import Run
from eo_tasks.state.workers import WorkerReport
from eo_tasks.steps import Pipeline
from eo_tasks.units import Stage

MOST_CELLS = 20_000  # whose records are read for sums, unless more are asked for
PACKAGES = ("celery", "redis", "numpy", "rasterio", "openeo", "odc-stac", "torch", "transformers")


@dataclass(frozen=True)
class Report:
    """A system or a run at one time.

    Attributes:
        run: ``None`` for everything.
        made_at: Seconds since 1970.
        most_cells: Sums are of so many cells at most.
    """

    known: Known
    pipeline: Pipeline
    scope: Scope
    run: Run | None
    made_at: float
    most_cells: int

    def rows(self) -> Iterator[Row]:
        """Every cell and year, read as they are asked for."""
        return read_rows(self.known, self.pipeline.store, self.scope, range(self.cells))

    @property
    def cells(self) -> int:
        """How many there are."""
        return len(self.scope.grid_ids)

    @property
    def cells_counted(self) -> int:
        """How many of them sums are of."""
        return min(self.cells, self.most_cells)

    @cached_property
    def tally(self) -> Tally:
        """Sums of the rows."""
        counted = range(self.cells_counted)
        return tally_of(read_rows(self.known, self.pipeline.store, self.scope, counted))

    @cached_property
    def summary(self) -> Summary:
        """Where the whole system stands."""
        return read_summary(self.known, self.made_at)

    @property
    def progress(self) -> Mapping[Stage, Sequence[PeriodNumbers]]:
        """Units by stage, year or pair of years, and state."""
        if self.run is None and self.cells_counted < self.cells:
            return {stage.stage: stage.periods for stage in self.summary.stages}
        found: dict[Stage, list[PeriodNumbers]] = {stage: [] for stage in Stage}
        for (stage, period), states in sorted(self.tally.states.items(), key=lambda one: one[0][1]):
            found[stage].append(PeriodNumbers(period, years_of(period), states.total(), dict(states)))
        return found

    @property
    def images(self) -> Sequence[YearImages]:
        """Stored composites by year."""
        return self.tally.images

    @property
    def changes(self) -> Sequence[PairChanges]:
        """Stored masks by pair of years."""
        return self.tally.pairs

    @property
    def runs(self) -> Sequence[RunNumbers]:
        """The run, or all of them."""
        return [run for run in self.summary.runs if self.run is None or run.id == self.run.id]

    @cached_property
    def failures(self) -> Sequence[FailureGroup]:
        """What units wait for a person for, most frequent first."""
        groups = read_failures(self.known)
        if self.run is not None:
            groups = [self._of_run(group, self.run) for group in groups]
        return sorted((group for group in groups if group.number), key=lambda group: -group.number)

    @cached_property
    def workers(self) -> Sequence[WorkerReport]:
        """Who works, and how their machines are."""
        return self.known.workers.all()

    @cached_property
    def pictures(self) -> Sequence[Picture]:
        """The cells in which most changed between the last two years."""
        drawn = [rows for _, rows in sorted(self.tally.most_changed.items()) if rows]
        stretch = self.pipeline.settings.btc_stretch
        return list(draw(self.pipeline.store, drawn[-1][:SHOWN_CELLS], stretch)) if drawn else []

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings in force, secrets masked."""
        return {variable: value for variable, value, _ in self.pipeline.settings.table() if value}

    @property
    def versions(self) -> Mapping[str, str]:
        """What made the report."""
        own = {"eo-tasks": __version__, "python": platform.python_version(), "gdal": rasterio.__gdal_version__}
        return own | {name: found for name in PACKAGES if (found := _version(name)) is not None}

    def _of_run(self, group: FailureGroup, run: Run) -> FailureGroup:
        units = [unit for unit in self.known.ledger.stuck_units([group.id]) if run.wants(unit)]
        cells = sorted({unit.grid_id for unit in units})[:MOST_FAILED_CELLS]
        shown = [unit.id for unit in units[:MOST_UNITS]]
        return replace(group, number=len(units), units=shown, cells=cells)


def make_report(
    known: Known, pipeline: Pipeline, run: Run | None = None, most_cells: int | None = MOST_CELLS
) -> Report:
    """Begin a report; its parts are read when they are asked for.

    Args:
        known: Where the units stand.
        pipeline: What is stored, and the grid.
        run: What it is of; everything if not given.
        most_cells: Sums are of so many cells at most, the first ones; ``None`` for all.
    """
    scope = scope_of(known, pipeline, run)
    return Report(known, pipeline, scope, run, time(), len(scope.grid_ids) if most_cells is None else most_cells)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
