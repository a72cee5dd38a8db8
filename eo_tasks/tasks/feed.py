"""The feeder: looks at the cells of every run, part after part, and keeps the queues filled, never more.

A run may want a million units; only its cursor is kept, and a short list of downloads that are ready to be sent. A pass
over the cells that finds nothing left to do ends the run.
"""

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from time import monotonic, time

from eo_tasks.grid import GridYear, YearPair
from eo_tasks.settings import current_settings
from eo_tasks.state.entry import State
from eo_tasks.state.runs import Position, Run, RunState
from eo_tasks.tasks.checkpoints import places_of, restore_missing
from eo_tasks.tasks.context import ledger, runs
from eo_tasks.tasks.send import dispatch
from eo_tasks.tasks.survey import Survey, survey
from eo_tasks.units import Stage, Unit

log = logging.getLogger(__name__)

PART_UNITS = 2000  # units looked at in one step, a second's work at most
REST = 10  # a pass that found work still going on is not repeated before so many times as long as it took


def feed(until: float) -> dict[Stage, int]:
    """Bring every active run on, until that time (of the monotonic clock), and send what there is room for.

    Returns:
        How many units were sent, by stage.
    """
    active = runs().active()
    for run in active:
        if monotonic() < until:
            advance(run, until)
    return {stage: len(dispatch(stage, active)) for stage in reversed(Stage)}


def advance(run: Run, until: float) -> list[Survey]:
    """Look at a run's next cells, part after part, while it has few units ready to be sent.

    Returns:
        What was found, part by part.
    """
    position = runs().position(run)
    if position.cell == 0 and position.passes and not _is_pass_due(run, position):
        return []
    if position.cell == 0:
        position = replace(position, worked_s=0.0, tally={})
    found: list[Survey] = []
    number = max(PART_UNITS // (3 * len(run.wanted.years)), 1)
    while ledger().ready_length(run.id, Stage.DOWNLOAD) < ledger().limits.max_in_flight:
        if found and monotonic() >= until:
            break
        begun = monotonic()
        part = run.wanted.part(position.cell, number)
        found.append(_work_on(run, part.grid_ids))
        position = replace(
            position,
            cell=position.cell + len(part.grid_ids),
            worked_s=position.worked_s + monotonic() - begun,
            tally=dict(Counter(position.tally) + found[-1].tally()),
        )
        is_pass_over = position.cell >= len(run.wanted.grid_ids)
        if is_pass_over:
            position = _end_pass(run, position)
        runs().move(run, position)
        if is_pass_over:
            break
    return found


def _work_on(run: Run, grid_ids: Iterable[int]) -> Survey:
    """Look at some cells, write into the ledger what is there already, and make ready what is missing."""
    wanted = replace(run.wanted, grid_ids=tuple(grid_ids))
    restore_missing(wanted)
    found = survey(wanted, run.not_before)
    ledger().forget(found.outdated)
    if not run.not_before:
        ledger().adopt(_stored_units(wanted.grid_ids, run, found), State.SKIPPED)
    ledger().adopt((unit for unit in found.empty if unit.stage is not Stage.DOWNLOAD), State.EMPTY)
    for stage, units in groupby(found.sendable, key=lambda unit: unit.stage):
        is_again = not any(ledger().ready_length(other.id, stage) for other in runs().active())
        ledger().make_ready(units, run.id, is_again=is_again)
    return found


def _stored_units(grid_ids: Iterable[int], run: Run, found: Survey) -> Iterable[Unit]:
    """Units of these cells whose output is stored."""
    missing, staged = set(found.plan.downloads), set(found.plan.stores)
    unmasked = {*found.plan.pairs, *found.plan.waiting}
    for grid_id in grid_ids:
        for year in run.wanted.years:
            grid_year = GridYear(grid_id, year)
            if grid_year not in missing:
                yield grid_year.download
                if grid_year not in staged:
                    yield grid_year.store
        for years in run.wanted.year_pairs:
            pair = YearPair(grid_id, *years)
            if pair not in unmasked:
                yield pair.btc


def _end_pass(run: Run, position: Position) -> Position:
    """Begin the next pass, or end the run if nothing more comes by itself."""
    tally = position.tally
    is_open = any(number for what, number in tally.items() if what.endswith(".open"))
    if not is_open and not _has_work(run):
        is_complete = not any(tally.get(f"{stage}.{what}") for stage in Stage for what in ("stuck", "blocked"))
        state = RunState.COMPLETE if is_complete else RunState.INCOMPLETE
        if runs().change(run, state):
            log.info("run ended", extra={"run": run.id, "state": str(state)})
            ledger().mark_changed(places_of(run.wanted))  # so that its checkpoint files are whole
    return Position(0, position.passes + 1, position.worked_s, time(), {}, dict(tally))


def _has_work(run: Run) -> bool:
    """Whether something is going on in cells that were looked at before it began: a unit was retried since."""
    return any(ledger().ready_length(run.id, stage) or any(map(run.wants, ledger().active(stage))) for stage in Stage)


def _is_pass_due(run: Run, position: Position) -> bool:
    """Whether to look at a run's cells again: at once when nothing is going on, else after a rest."""
    rested_s = time() - position.ended_at
    rest_s = current_settings().sweep_s
    if rested_s >= max(rest_s, REST * position.worked_s):
        return True
    is_busy = any(ledger().ready_length(run.id, stage) or ledger().active(stage, most=1) for stage in Stage)
    return not is_busy and rested_s >= rest_s / 3
