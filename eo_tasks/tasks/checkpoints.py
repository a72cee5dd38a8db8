"""The ledger's exports to ``DATA_DIR/checkpoints``, and its way back from them."""

import json
from collections.abc import Iterator
from itertools import chain
from time import monotonic, time

from eo_tasks.plan import Wanted
from eo_tasks.state.checkpoints import checkpoint_file, read_checkpoint, write_checkpoint
from eo_tasks.state.runs import RunState
from eo_tasks.steps.scratch import FETCH_PREFIX
from eo_tasks.tasks.context import ledger, pipeline, runs, state_redis
from eo_tasks.units import Stage

EXPORTED_KEY = "eo-tasks:exported"
REST = 20  # a file is not written again before so many times as long as it took


def export_changed(until: float, *, is_last: bool = False) -> int:
    """Write the files of what changed, until that time (of the monotonic clock).

    Args:
        until: What is not written by then is written the next time.
        is_last: Write all of them: there is no next time.

    Returns:
        How many files were written.
    """
    left = sorted({(stage, period.partition("_")[0]) for stage, period in ledger().changed_periods()})
    number = 0
    try:
        for place in tuple(left):
            if is_last or (monotonic() < until and _is_rested(*place)):
                begun = monotonic()
                export(*place)
                state_redis().hset(EXPORTED_KEY, ":".join(place), json.dumps([time(), monotonic() - begun]))
                left.remove(place)
                number += 1
    finally:  # also what a full disk kept from being written
        ledger().mark_changed((stage, period) for stage, year in left for period in _periods(stage, year))
    return number


def export(stage: Stage, year: str) -> None:
    """Write the file of a stage and year."""
    periods = _periods(stage, year)
    entries = chain.from_iterable(ledger().all_entries(stage, period) for period in periods)
    file = checkpoint_file(stage, year)
    with pipeline().scratch(FETCH_PREFIX) as scratch:
        path = scratch / file.name
        write_checkpoint(path, stage, int(year), sum(_wanted(stage, period) for period in periods), entries)
        pipeline().place.put(path, file)


def restore_missing(wanted: Wanted) -> int:
    """Take over from the files what the ledger knows nothing of: Redis was wiped, or is another one.

    Returns:
        How many units were restored.
    """
    known, number = set(ledger().periods()), 0
    with pipeline().scratch(FETCH_PREFIX) as scratch:
        for stage, period in places_of(wanted):
            if (stage, period) not in known:
                path = pipeline().place.local(checkpoint_file(stage, period), scratch)
                entries = {} if path is None else read_checkpoint(path).get(period, {})
                number += ledger().restore(stage, period, entries)
    return number


def _is_rested(stage: Stage, year: str) -> bool:
    text = state_redis().hget(EXPORTED_KEY, f"{stage}:{year}")
    if text is None:
        return True
    exported_at, took_s = json.loads(text)
    return bool(time() - exported_at >= REST * took_s)


def _periods(stage: Stage, year: str) -> list[str]:
    """The periods that share a file."""
    return [period for known, period in ledger().periods() if known is stage and period.partition("_")[0] == year]


def _wanted(stage: Stage, period: str) -> int:
    """How many cells are wanted by any run."""
    years = tuple(map(int, period.split("_")))
    cells: set[int] = set()
    for run in runs().all():
        has_years = years in run.wanted.year_pairs if stage is Stage.BTC else years[0] in run.wanted.years
        if has_years and run.state is not RunState.CANCELED:
            cells.update(run.wanted.grid_ids)
    return len(cells)


def places_of(wanted: Wanted) -> Iterator[tuple[Stage, str]]:
    """Every stage and period that cells × years take."""
    for year in map(str, wanted.years):
        yield Stage.DOWNLOAD, year
        yield Stage.STORE, year
    for before, after in wanted.year_pairs:
        yield Stage.BTC, f"{before}_{after}"
