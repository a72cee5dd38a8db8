"""What a map is coloured by: the state of a stage and period, or the changed area of a pair of years."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

import numpy as np

from eo_tasks.grid import Bounds
from eo_tasks.overview.letters import ORDER
from eo_tasks.overview.places import Places
from eo_tasks.overview.states import States
from eo_tasks.storage import Store
from eo_tasks.units import Stage

REST, LEAST_S = 10, 5.0  # records are not read again before so many times as long as it took, and so many seconds


@dataclass(frozen=True)
class Measured:
    """A value for each shape: a letter, numbers by letter, or hectares; ``None`` where there is no mask."""

    level: int
    values: Mapping[str, str | Mapping[str, int] | float | None]


def measure_states(places: Places, states: States, stage: Stage, period: str, bbox: Bounds | None = None) -> Measured:
    """States of the cells in a box: a letter each, or how many cells of a block have which."""
    groups, ranks = places.groups(bbox), states.of(stage, period)
    found = ranks[groups.cells]
    if groups.level == 0:
        return Measured(0, {name: ORDER[rank] for name, rank in zip(groups.ids, found, strict=True)})
    numbers = np.zeros((len(groups.ids), len(ORDER)), np.int64)
    np.add.at(numbers, (groups.shape_of, found), 1)
    values: dict[str, dict[str, int]] = {name: {} for name in groups.ids}
    shapes, letters = np.nonzero(numbers)
    for shape, letter, number in zip(shapes.tolist(), letters.tolist(), numbers[shapes, letters].tolist(), strict=True):
        values[groups.ids[shape]][ORDER[letter]] = number
    return Measured(groups.level, values)


@dataclass
class Changes:
    """Changed hectares of each cell, read from the records of masks now and then."""

    store: Store
    places: Places
    _read: dict[tuple[int, int], tuple[float, float, Mapping[int, float]]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def measure(self, before: int, after: int, bbox: Bounds | None = None) -> Measured:
        """Changed hectares in a box, of cells or of blocks."""
        groups, hectares = self.places.groups(bbox), self.hectares(before, after)
        sums: dict[str, float | None] = dict.fromkeys(groups.ids)
        for index, shape in zip(groups.cells, groups.shape_of, strict=True):
            changed = hectares.get(self.places.cells[index].grid_id)
            if changed is not None:
                name = groups.ids[shape]
                sums[name] = round((sums[name] or 0) + changed, 4)
        return Measured(groups.level, sums)

    def hectares(self, before: int, after: int) -> Mapping[int, float]:
        """Changed hectares by cell, of cells that have a mask of these years."""
        with self._lock:
            at, took_s, found = self._read.get((before, after), (0.0, 0.0, {}))
            if not at or monotonic() - at > max(LEAST_S, REST * took_s):
                begun = monotonic()
                records = self.store.mask_records(before)
                found = {pair.grid_id: record["changed_ha"] for pair, record in records.items() if pair.after == after}
                self._read[before, after] = monotonic(), monotonic() - begun, found
            return found
