"""Cells × stages × years as letters, some cells together where they are many. Cells that no run wants are left out."""

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
        cells: How many there are in all, or in the part that was asked for.
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
    cells = _wanted(states)
    if of is not None:
        first_cell, after_last = np.searchsorted(states.grid_ids[cells], (of[0], of[1] + 1))
        cells = cells[first_cell:after_last]
    size = 1 if cells.size <= MOST_SINGLE else -(-cells.size // MOST_ROWS)
    begins = np.arange(0, cells.size, size)[first : first + rows]
    ids = states.grid_ids[cells]
    return Matrix(
        cells=cells.size,
        cells_per_row=size,
        first=first,
        total_rows=-(-cells.size // size),
        rows=tuple(_row(ids[begin : begin + size], labels) for begin in begins),
        codes={letter: str(state) for letter, state in LETTERS.items()},
        columns=tuple(_column(states, stage, period, cells, begins, size) for stage, period in states.places()),
    )


def _wanted(states: States) -> NDArray[np.intp]:
    """Indexes of the cells that some run wants, or that something is known of."""
    is_wanted = np.zeros(states.grid_ids.size, np.bool_)
    for place in states.places():
        is_wanted |= states.of(*place) != RANKS[UNWANTED]
    return np.flatnonzero(is_wanted)


def _row(ids: NDArray[np.int64], labels: Mapping[int, str]) -> Row:
    label = labels.get(int(ids[0])) if ids.size == 1 else None
    return Row(int(ids[0]), int(ids[-1]), ids.size, label)


def _column(
    states: States, stage: Stage, period: str, cells: NDArray[np.intp], begins: NDArray[np.intp], size: int
) -> Column:
    if not begins.size:
        return Column(stage, period, "", None)
    part = states.of(stage, period)[cells[begins[0] : begins[-1] + size]]
    if size == 1:
        return Column(stage, period, _letters(part), None)
    offsets = begins - begins[0]
    wanted = np.add.reduceat((part != RANKS[UNWANTED]).astype(np.int64), offsets)
    ended = np.add.reduceat(np.isin(part, ENDED).astype(np.int64), offsets)
    shares = np.round(ended / np.maximum(wanted, 1), 4)
    return Column(stage, period, _letters(np.minimum.reduceat(part, offsets)), shares.tolist())


_CODES = np.frombuffer(ORDER.encode(), np.uint8)


def _letters(ranks: Ranks) -> str:
    return str(_CODES[ranks].tobytes(), "ascii")
