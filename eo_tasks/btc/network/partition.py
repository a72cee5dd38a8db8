"""Which tokens of a Swin stage attend to which: pure geometry, worked out once per map size.

The published network fills every map up with zeros to whole windows, rolls it by half a window in every second block,
and lets a mask of −100 keep the parts of a rolled window apart. What is left after the softmax is this: tokens attend
within *segments*, the parts of a window that the mask leaves together (e^−100 is nothing in any precision used here),
and filled-up tokens, which are all alike, act as keys only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

Positions = tuple[int, ...]


@dataclass(frozen=True)
class Span:
    """One segment along one axis, as positions inside its window.

    Attributes:
        real: Positions that hold tokens of the map.
        filled: Positions that were filled up with zeros.
        start: Coordinate on the map of the first real position; the others follow it.
    """

    real: Positions
    filled: Positions
    start: int


@dataclass(frozen=True)
class Group:
    """Segments of one shape, which share their position bias.

    Attributes:
        real: Flat positions in the window of the tokens of a segment, in order.
        filled: Flat positions in the window of the filled-up tokens that they see.
        tokens: For each segment, the flat coordinates on the map of its tokens, in the order of ``real``.
    """

    real: Positions
    filled: Positions
    tokens: tuple[Positions, ...]


def spans(length: int, window: int, shift: int) -> Iterator[Span]:
    """Cut an axis of ``length`` tokens into segments, as windows of a map rolled by ``shift`` do."""
    padded = -(-length // window) * window
    for first in range(0, padded, window):
        by_region: dict[int, list[int]] = {}
        for position in range(window):
            rolled = first + position
            region = (rolled >= padded - window) + (rolled >= padded - shift) if shift else 0
            by_region.setdefault(region, []).append(position)
        for positions in by_region.values():
            on_map = [(first + position + shift) % padded for position in positions]
            real = [position for position, at in zip(positions, on_map, strict=True) if at < length]
            filled = [position for position, at in zip(positions, on_map, strict=True) if at >= length]
            if real:
                yield Span(tuple(real), tuple(filled), on_map[positions.index(real[0])])


def groups(side: int, window: int, shift: int) -> tuple[Group, ...]:
    """The segments of a square map, sorted by shape; together they hold every token once."""
    axis = list(spans(side, window, shift))
    found: dict[tuple[Positions, Positions, Positions, Positions], list[Positions]] = {}
    for rows, columns in product(axis, axis):
        key = (rows.real, rows.filled, columns.real, columns.filled)
        tokens = tuple(
            (rows.start + y) * side + columns.start + x
            for y, x in product(range(len(rows.real)), range(len(columns.real)))
        )
        found.setdefault(key, []).append(tokens)
    return tuple(_group(window, *key, tuple(tokens)) for key, tokens in found.items())


def relative_index(window: int, query: int, key: int) -> int:
    """Row of the position bias table for two flat positions of a window (Swin, equation 4)."""
    dy, dx = query // window - key // window, query % window - key % window
    return (dy + window - 1) * (2 * window - 1) + dx + window - 1


def _group(
    window: int,
    rows: Positions,
    filled_rows: Positions,
    columns: Positions,
    filled_columns: Positions,
    tokens: tuple[Positions, ...],
) -> Group:
    real = tuple(y * window + x for y, x in product(rows, columns))
    everything = product((*rows, *filled_rows), (*columns, *filled_columns))
    filled = sorted({y * window + x for y, x in everything} - set(real))
    return Group(real, tuple(filled), tokens)
