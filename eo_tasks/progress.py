"""How far a run is: per stage, from what is stored and what the ledger knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from eo_tasks.grid import GridYear, YearPair
from eo_tasks.plan import Plan, Wanted
from eo_tasks.state.entry import Entry, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.units import Stage, Unit


@dataclass(frozen=True)
class StageProgress:
    """One stage of a run; ``total`` = done + running + failed + blocked + empty + waiting.

    Attributes:
        was_done: Units whose output was there before.
        blocked: Units that wait for one that failed.
        empty: Units for which there is no imagery.
    """

    total: int
    was_done: int
    done: int
    running: int
    failed: int
    blocked: int
    empty: int = 0

    @property
    def is_settled(self) -> bool:
        """Nothing more will come without a person."""
        return self.done + self.failed + self.blocked + self.empty >= self.total


@dataclass(frozen=True)
class Progress:
    """All stages of a run, what failed, and which downloads found no imagery."""

    stages: Mapping[Stage, StageProgress]
    failures: Mapping[Unit, Entry]
    empty: Mapping[Unit, Entry] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """Nothing more will come without a person."""
        return all(stage.is_settled for stage in self.stages.values())


def read_progress(ledger: Ledger, wanted: Wanted, todo: Plan, started_at: float) -> Progress:
    """Where a run stands.

    Args:
        ledger: Where the units stand now.
        wanted: The run's cells and years.
        todo: What was missing when the run began; the rest counts as done before.
        started_at: When it began, seconds since 1970. A unit that the ledger calls done since before then has lost
            its output, or it would not be missing.
    """
    grid_years = {*todo.downloads, *todo.stores}
    units = {
        Stage.DOWNLOAD: [grid_year.download for grid_year in todo.downloads],
        Stage.STORE: [grid_year.store for grid_year in grid_years],
        Stage.BTC: [pair.btc for pair in (*todo.pairs, *todo.waiting)],
    }
    entries = ledger.entries(unit for members in units.values() for unit in members)
    failures = {unit: entry for unit, entry in entries.items() if entry.state.needs_a_person}
    all_grid_years, all_pairs = (
        len(wanted.grid_ids) * len(wanted.years),
        len(wanted.grid_ids) * len(wanted.year_pairs),
    )
    totals = {Stage.DOWNLOAD: all_grid_years, Stage.STORE: all_grid_years, Stage.BTC: all_pairs}
    return Progress(
        {stage: _stage(members, entries, failures, totals[stage], started_at) for stage, members in units.items()},
        failures,
        {unit: entry for unit, entry in entries.items() if unit.stage is Stage.DOWNLOAD and entry.state is State.EMPTY},
    )


def _stage(
    members: list[Unit], entries: Mapping[Unit, Entry], failures: Mapping[Unit, Entry], total: int, started_at: float
) -> StageProgress:
    was_done = total - len(members)
    return StageProgress(
        total=total,
        was_done=was_done,
        done=was_done + sum(entries[unit].state.is_done and entries[unit].since >= started_at for unit in members),
        running=sum(entries[unit].state is State.STARTED for unit in members),
        failed=sum(unit in failures for unit in members),
        blocked=sum(
            unit not in failures and entries[unit].state is not State.EMPTY and _is_blocked(unit, failures)
            for unit in members
        ),
        empty=sum(entries[unit].state is State.EMPTY for unit in members),
    )


def _is_blocked(unit: Unit, failures: Mapping[Unit, Entry]) -> bool:
    """Whether a step before this one failed."""
    if unit.stage is Stage.DOWNLOAD:
        return False
    if unit.stage is Stage.STORE:
        return GridYear(unit.grid_id, unit.years[0]).download in failures
    return any(
        before in failures
        for grid_year in YearPair(unit.grid_id, *unit.years).grid_years
        for before in (grid_year.download, grid_year.store)
    )
