"""The state of every unit of a grid, kept as one byte each and brought up to date a stage and period at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from eo_tasks.overview.known import Known
from eo_tasks.overview.letters import ORDER, RANKS, UNWANTED, WAITING
from eo_tasks.state.entry import State
from eo_tasks.state.keys import CHUNK, units_key
from eo_tasks.state.runs import Run, RunState
from eo_tasks.units import Stage

Place = tuple[Stage, str]
Ranks = NDArray[np.uint8]  # of the cells, in the order of their ids
Change = tuple[Stage, str, int, str]  # stage, period, cell, letter

REST = 10  # a place is not read again before so many times as long as it took
LONGEST_S = 60.0  # a place whose numbers stay the same is read again after this
MOST_CHANGES = 2000
_UNKNOWN = RANKS[UNWANTED]

# A part of a hash of entries: the cells, and two letters of each one's state, with which an entry begins:
# ["completed",… To read whole entries takes this process several times as long, and holds up all who ask meanwhile.
_LOOK = """
local found = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local cells, states = {}, {}
for n = 1, #found[2], 2 do
  cells[#cells + 1] = found[2][n]
  states[#states + 1] = string.sub(found[2][n + 1], 3, 4)
end
return {found[1], table.concat(cells, ' '), table.concat(states)}
"""
_STATES = sorted(State)
_CODES = np.array([state[:2].encode() for state in _STATES])  # ascending, each another
_RANK_OF_CODE = np.array([RANKS[state] for state in _STATES], np.uint8)


@dataclass
class _Read:
    ranks: Ranks
    counts: Mapping[State, int]
    wanted: object
    at: float
    took_s: float


@dataclass
class States:
    """States of the units of these cells, as the ledger had them a moment ago.

    Attributes:
        grid_ids: The cells, ascending, shape (cell,).
    """

    known: Known
    grid_ids: NDArray[np.int64]
    _read: dict[Place, _Read] = field(default_factory=dict)
    _at: float | None = None
    _untold: list[Change] | None = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def refresh(self) -> list[Change] | None:
        """Read what has changed.

        Returns:
            The units that are in another state than when this was asked last; ``None`` if they are too many to be told
            one by one.
        """
        with self._lock:
            self._update()
            untold, self._untold = self._untold, []
            return untold

    def refresh_if_older(self, age_s: float) -> None:
        """Read what has changed unless that was done a moment ago, or is being done; ``refresh`` still tells it."""
        if not self._lock.acquire(blocking=self._at is None):
            return
        try:
            if self._at is None or monotonic() - self._at > age_s:
                self._update()
        finally:
            self._lock.release()

    def _update(self) -> None:
        at = monotonic()
        counts, runs = self.known.ledger.all_counts(), self.known.runs.all()
        places = {*counts, *_wanted_places(runs)}
        changes = self._untold or []
        is_much = self._untold is None or bool(self._read.keys() - places)
        for place in self._read.keys() - places:
            del self._read[place]
        for place in sorted(places):
            before, now = self._read.get(place), counts.get(place, {})
            wanted = _wanting(place, runs)
            key = [(run.id, run.state is RunState.CANCELED) for run in wanted]
            if before is not None and not _is_due(before, now, key):
                continue
            begun = monotonic()
            ranks = self._ranks(place, wanted)
            self._read[place] = _Read(ranks, now, key, monotonic(), monotonic() - begun)
            if before is None:
                is_much = True
                continue
            moved = np.flatnonzero(ranks != before.ranks)[: MOST_CHANGES + 1]
            changes += ((*place, int(self.grid_ids[cell]), ORDER[ranks[cell]]) for cell in moved)
        self._untold = None if is_much or len(changes) > MOST_CHANGES else changes
        self._at = at

    def places(self) -> list[Place]:
        """Stages and periods, in order of work."""
        order = list(Stage)
        return sorted(self._read, key=lambda place: (order.index(place[0]), place[1]))

    def of(self, stage: Stage, period: str) -> Ranks:
        """States of a stage and period, as ranks of ``letters.ORDER``; shape (cell,)."""
        read = self._read.get((stage, period))
        return np.full(self.grid_ids.size, _UNKNOWN, np.uint8) if read is None else read.ranks

    def indexes(self, grid_ids: Iterable[int]) -> NDArray[np.intp]:
        """Where these cells are, those of this grid only."""
        asked = np.fromiter(grid_ids, np.int64)
        at = np.searchsorted(self.grid_ids, asked)
        at = np.minimum(at, max(self.grid_ids.size - 1, 0))
        return np.asarray(at[self.grid_ids[at] == asked] if self.grid_ids.size else at[:0])

    def _ranks(self, place: Place, wanted: Sequence[Run]) -> Ranks:
        ranks = np.full(self.grid_ids.size, _UNKNOWN, np.uint8)
        for run in wanted:
            for span in run.wanted.spans:
                first, last = np.searchsorted(self.grid_ids, (span.start, span.stop))
                ranks[first:last] = RANKS[WAITING]
        for cells, found in self._look(units_key(*place)):
            at = np.minimum(np.searchsorted(self.grid_ids, cells), max(self.grid_ids.size - 1, 0))
            is_here = self.grid_ids[at] == cells if self.grid_ids.size else np.zeros(cells.size, np.bool_)
            ranks[at[is_here]] = found[is_here]
        return ranks

    def _look(self, key: str) -> Iterator[tuple[NDArray[np.int64], Ranks]]:
        """Cells of a hash of entries and the ranks of their states, a part at a time."""
        look, cursor = self.known.ledger.redis.register_script(_LOOK), "0"
        while True:
            cursor, cells, states = map(str, look(keys=[key], args=[cursor, CHUNK]))
            if cells:
                codes = np.frombuffer(states.encode(), _CODES.dtype)
                yield np.fromstring(cells, np.int64, sep=" "), _RANK_OF_CODE[np.searchsorted(_CODES, codes)]
            if cursor == "0":
                return


def _is_due(read: _Read, counts: Mapping[State, int], wanted: object) -> bool:
    age_s = monotonic() - read.at
    if age_s < REST * read.took_s:
        return False
    return read.counts != counts or read.wanted != wanted or age_s > LONGEST_S


def _wanted_places(runs: Iterable[Run]) -> set[Place]:
    return {place for run in runs if run.state is not RunState.CANCELED for place in run.wanted.places}


def _wanting(place: Place, runs: Iterable[Run]) -> list[Run]:
    return [run for run in runs if run.state is not RunState.CANCELED and place in run.wanted.places]
