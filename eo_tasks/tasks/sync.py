"""Bringing files and database together while the system runs, a little at a time (``PIPELINE_MODE=hybrid``)."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from time import monotonic

from eo_tasks.errors import StorageFullError, StoreUnavailableError
from eo_tasks.settings import current_settings
from eo_tasks.steps.sync import Copy, copy_all, differences, newest_first
from eo_tasks.storage.hybrid import HybridStore
from eo_tasks.tasks.context import pipeline, state_redis

CURSOR_KEY = "eo-tasks:sync"
PART = 500  # cells that are compared at once
MOST = 200  # copies a tick

log = logging.getLogger(__name__)


def synchronise(until: float) -> dict[str, int]:
    """Go on comparing and copying where the last time ended, until that time (of the monotonic clock).

    A call ends with the round at the latest; the next one begins another.

    Returns:
        How many were copied, by kind and direction, and how many could not be.
    """
    store = pipeline().store
    if not isinstance(store, HybridStore):
        return {}
    done: Counter[str] = Counter()
    failures: list[str] = []
    try:
        _go_on(store, until, done, failures)
    except (StoreUnavailableError, StorageFullError) as error:
        log.warning("files and database are not compared for now: %s", error)
    if failures:
        log.warning("not synchronised: %s", failures[0], extra={"failures": len(failures)})
    return dict(done + Counter(failed=len(failures)))


def _go_on(store: HybridStore, until: float, done: Counter[str], failures: list[str]) -> None:
    for year, part in _parts(store):
        left = MOST - done.total()
        if left <= 0 or monotonic() >= until:
            return
        copies = iter(list(differences(store.files, store.database, year, part)))
        chosen = islice(_in_time(copies, until), left)
        made = copy_all(chosen, store.files, store.database, current_settings().data_dir)
        done.update(made.copied)
        failures.extend(made.failures)
        is_stuck = bool(made.failures) and not any(made.copied.values())  # then the cells after have their turn
        if next(copies, None) is not None and not is_stuck:
            return
        state_redis().set(CURSOR_KEY, json.dumps([year, part[-1]]))
    state_redis().delete(CURSOR_KEY)


def _parts(store: HybridStore) -> Iterator[tuple[int, list[int]]]:
    """Cells of each year that are not compared yet in this round."""
    text = state_redis().get(CURSOR_KEY)
    at_year, after = (None, 0) if text is None else json.loads(str(text))
    grid_ids = sorted(cell.grid_id for cell in pipeline().grid.cells)
    for year in newest_first(store.files, store.database):
        if at_year is not None and year > at_year:
            continue
        ids = [grid_id for grid_id in grid_ids if grid_id > after] if year == at_year else grid_ids
        for first in range(0, len(ids), PART):
            yield year, ids[first : first + PART]


def _in_time(copies: Iterator[Copy], until: float) -> Iterator[Copy]:
    while monotonic() < until and (one := next(copies, None)) is not None:
        yield one
