"""Bringing files and database together while the system runs, a little at a time (``PIPELINE_MODE=hybrid``)."""

import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from time import monotonic, time

from eo_tasks.errors import StorageFullError, StoreUnavailableError
from eo_tasks.settings import current_settings
from eo_tasks.steps.sync import Copy, copy_all, differences, newest_first
from eo_tasks.storage.hybrid import HybridStore
from eo_tasks.tasks.context import pipeline, state_redis

ROUND_KEY = "eo-tasks:sync-round"
PART = 500  # cells that are compared at once
MOST = 200  # copies a tick
REST = 10  # a round that copied nothing is not repeated before so many times as long as it took

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Round:
    """How far all years and cells are compared.

    Attributes:
        year: Being compared; ``None`` before the first and after the last.
        cell: The last one of that year that is compared.
        worked_s: Time that it took so far.
        copied: Whether anything was to be copied in it.
        ended_at: Seconds since 1970; 0 while it goes on.
    """

    year: int | None = None
    cell: int = 0
    worked_s: float = 0.0
    copied: bool = False
    ended_at: float = 0.0

    def is_resting(self, now: float) -> bool:
        """Whether it ended, and it is too early for another one."""
        return not self.copied and now < self.ended_at + REST * self.worked_s


def synchronise(until: float) -> dict[str, int]:
    """Go on comparing and copying where the last time ended, until that time (of the monotonic clock).

    A call ends with the round at the latest; after a rest, another one begins.

    Returns:
        How many were copied, by kind and direction, and how many could not be.
    """
    store = pipeline().store
    at = _last_round()
    if not isinstance(store, HybridStore) or at.is_resting(time()):
        return {}
    done: Counter[str] = Counter()
    failures: list[str] = []
    try:
        _go_on(store, Round() if at.ended_at else at, until, done, failures)
    except (StoreUnavailableError, StorageFullError) as error:
        log.warning("files and database are not compared for now: %s", error)
    if failures:
        log.warning("not synchronised: %s", failures[0], extra={"failures": len(failures)})
    return dict(done + Counter(failed=len(failures)))


def _go_on(store: HybridStore, at: Round, until: float, done: Counter[str], failures: list[str]) -> None:
    for year, part in _parts(store, at):
        left, begun = MOST - done.total(), monotonic()
        if left <= 0 or begun >= until:
            return
        copies = iter(list(differences(store.files, store.database, year, part)))
        chosen = islice(_in_time(copies, until), left)
        made = copy_all(chosen, store.files, store.database, current_settings().folder)
        done.update(made.copied)
        failures.extend(made.failures)
        at = replace(at, worked_s=at.worked_s + monotonic() - begun, copied=at.copied or any(made.copied.values()))
        is_stuck = bool(made.failures) and not any(made.copied.values())  # then the cells after have their turn
        if next(copies, None) is not None and not is_stuck:
            _keep(at)
            return
        at = replace(at, year=year, cell=part[-1])
        _keep(at)
    _keep(replace(at, year=None, cell=0, ended_at=time()))


def _parts(store: HybridStore, at: Round) -> Iterator[tuple[int, list[int]]]:
    """Cells of each year that are not compared yet in this round."""
    grid_ids = sorted(cell.grid_id for cell in pipeline().grid.cells)
    for year in newest_first(store.files, store.database):
        if at.year is not None and year > at.year:
            continue
        ids = [grid_id for grid_id in grid_ids if grid_id > at.cell] if year == at.year else grid_ids
        for first in range(0, len(ids), PART):
            yield year, ids[first : first + PART]


def _in_time(copies: Iterator[Copy], until: float) -> Iterator[Copy]:
    while monotonic() < until and (one := next(copies, None)) is not None:
        yield one


def _last_round() -> Round:
    text = state_redis().get(ROUND_KEY)
    return Round() if text is None else Round(**json.loads(str(text)))


def _keep(at: Round) -> None:
    state_redis().set(ROUND_KEY, json.dumps(asdict(at)))
