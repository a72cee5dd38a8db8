"""Cells × stages × years as letters, some cells together where they are many."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eo_tasks.overview.letters import ENDED, LETTERS, ORDER, RANKS, UNWANTED
from eo_tasks.overview.states import Ranks, States
from eo_tasks.units import Stage

MOST_SINGLE = 2000  # cells that each have a row of their own
MOST_ROWS = 1000  # of groups


@dataclass(frozen=True)
class Row:
    """One cell, or some with neighbouring ids.

    Attributes:
        cells: How many.
        label: Of the cell, where it is one and has one.
    """

    first_id: int
    last_id: int
    cells: int
    label: str | None


@dataclass(frozen=True)
class Column:
    """One stage and period.

    Attributes:
        states: A letter for each row: the state that most needs a look.
        done: Share of the row's wanted units that ended well; ``None`` where rows are single cells.
    """

    stage: Stage
    period: str
    states: str
    done: Sequence[float] | None


@dataclass(frozen=True)
class Matrix:
    """Letters of all units.

    Attributes:
        cells: How many the grid, or the part that was asked for, has.
        cells_per_row: 1, or the size of a group.
        first: Index of the first row.
        total_rows: How many rows there are in all.
        codes: What the letters mean.
    """

    cells: int
    cells_per_row: int
    first: int
    total_rows: int
    rows: Sequence[Row]
    codes: Mapping[str, str]
    columns: Sequence[Column]


def read_matrix(
    states: States,
    labels: Mapping[int, str],
    first: int = 0,
    rows: int = MOST_ROWS,
    of: tuple[int, int] | None = None,
) -> Matrix:
    """The matrix, or some of its rows.

    Args:
        states: Of all units.
        labels: Labels of cells that have one.
        first: Index of the first row that is wanted.
        rows: How many.
        of: Only cells with ids from the first number to the second.
    """
    ids = states.grid_ids
    start, stop = (0, ids.size) if of is None else np.searchsorted(ids, (of[0], of[1] + 1)).tolist()
    cells = max(stop - start, 0)
    size = 1 if cells <= MOST_SINGLE else -(-cells // MOST_ROWS)
    total = -(-cells // size)
    begins = np.arange(start, stop, size)[first : first + rows]
    ends = np.minimum(begins + size, stop)
    found = tuple(_column(states, stage, period, begins, ends) for stage, period in states.places())
    return Matrix(
        cells=cells,
        cells_per_row=size,
        first=first,
        total_rows=total,
        rows=tuple(
            Row(int(ids[a]), int(ids[b - 1]), int(b - a), labels.get(int(ids[a])) if b - a == 1 else None)
            for a, b in zip(begins, ends, strict=True)
        ),
        codes={letter: str(state) for letter, state in LETTERS.items()},
        columns=found,
    )


def _column(states: States, stage: Stage, period: str, begins: NDArray[np.intp], ends: NDArray[np.intp]) -> Column:
    ranks = states.of(stage, period)
    if not begins.size:
        return Column(stage, period, "", None)
    part = ranks[begins[0] : ends[-1]]
    if ends[0] - begins[0] == 1:
        return Column(stage, period, _letters(part), None)
    offsets = begins - begins[0]
    wanted = np.add.reduceat((part != RANKS[UNWANTED]).astype(np.int64), offsets)
    ended = np.add.reduceat(np.isin(part, ENDED).astype(np.int64), offsets)
    shares = np.round(ended / np.maximum(wanted, 1), 4)
    return Column(stage, period, _letters(np.minimum.reduceat(part, offsets)), shares.tolist())


_CODES = np.frombuffer(ORDER.encode(), np.uint8)


def _letters(ranks: Ranks) -> str:
    return str(_CODES[ranks].tobytes(), "ascii")
