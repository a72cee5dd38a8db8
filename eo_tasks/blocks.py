"""Blocks: neighbouring cells that are asked for together, because a request costs the same for one cell as for many."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from eo_tasks.errors import GridError
from eo_tasks.grid import Cell
from eo_tasks.raster import PixelGrid

PLACES = 6  # of a position counted in blocks: a centre this near to an edge lies on it, as bounds are rounded


@dataclass(frozen=True)
class Blocks:
    """A grid's cells in square blocks; made once per grid, and the same for every year.

    Names hold for one grid and one size of blocks: another of either cuts the country elsewhere.

    Attributes:
        origin: Lower-left corner of the grid, where the blocks are counted from, metres.
        block_m: Side of a block.
    """

    origin: tuple[float, float]
    block_m: float
    _cells: Mapping[str, tuple[Cell, ...]] = field(repr=False, hash=False)

    @classmethod
    def of(cls, cells: Iterable[Cell], block_km: float) -> Self:
        """Put all cells of a grid into blocks.

        The blocks begin at the corner of the grid, whatever that is, so that regular cells fill them evenly.

        Args:
            cells: The whole grid's, not a selection: its corner decides where the blocks lie.
            block_km: Side of a block, kilometres; one not larger than a cell leaves every cell alone.

        Raises:
            GridError: There is no cell.
        """
        cells = tuple(cells)
        if not cells:
            raise GridError("There is no cell to put into blocks; check the grid.")
        origin = min(cell.bounds[0] for cell in cells), min(cell.bounds[1] for cell in cells)
        made, found = cls(origin, block_km * 1000, {}), dict[str, list[Cell]]()
        for cell in cells:
            found.setdefault(made.name(cell), []).append(cell)
        return cls(origin, made.block_m, {name: tuple(members) for name, members in found.items()})

    @property
    def names(self) -> tuple[str, ...]:
        """All blocks that have cells, in the order of the grid."""
        return tuple(self._cells)

    def name(self, cell: Cell) -> str:
        """The block of a cell: its column and row, as in ``3-7``; ``cell-41`` for a cell that is alone."""
        if _is_alone(cell, self.block_m):
            return f"cell-{cell.grid_id}"
        column, row = block_of(cell, self.origin, self.block_m)
        return f"{column}-{row}"

    def cells(self, name: str) -> tuple[Cell, ...]:
        """The cells of a block, in the order of the grid.

        Raises:
            GridError: The grid has no such block.
        """
        try:
            return self._cells[name]
        except KeyError:
            raise GridError(
                f"Block {name}: the grid has no such block of {self.block_m / 1000:g} km. It has {len(self._cells)}, "
                f"such as {next(iter(self._cells))}; was OPENEO_BLOCK_KM or the grid changed?"
            ) from None


def block_of(cell: Cell, origin: tuple[float, float], block_m: float) -> tuple[int, int]:
    """Column and row of the block that a cell's centre lies in; a centre on an edge belongs to the upper, right one.

    Args:
        cell: The cell.
        origin: Where block (0, 0) has its lower-left corner, metres.
        block_m: Side of a block.
    """
    x, y = _centre(cell)
    column, row = (x - origin[0]) / block_m, (y - origin[1]) / block_m
    return math.floor(round(column, PLACES)), math.floor(round(row, PLACES))


def union(cells: Iterable[Cell]) -> PixelGrid:
    """The smallest pixel grid that holds those of all the cells: what one request for them asks for.

    Raises:
        GridError: There is no cell, or they lie in several CRSs.
    """
    grids = [PixelGrid.of(cell) for cell in cells]
    codes = {pixels.epsg for pixels in grids}
    if len(codes) != 1:
        found = ", ".join(f"EPSG:{code}" for code in sorted(codes)) or "none"
        raise GridError(f"Cells of one request must lie in one CRS; here: {found}. Check the grid.")
    xmin, ymin, xmax, ymax = zip(*(pixels.bounds for pixels in grids), strict=True)
    return PixelGrid(codes.pop(), (min(xmin), min(ymin), max(xmax), max(ymax)))


def split_in_four(cells: Sequence[Cell]) -> list[tuple[Cell, ...]]:
    """The quarters around the middle of the cells' union, by the cells' centres; empty ones are left out.

    Two cells or more always come apart, so that splitting again and again ends with single cells.

    Raises:
        GridError: There is no cell, or they lie in several CRSs.
    """
    xmin, ymin, xmax, ymax = union(cells).bounds
    quarters: dict[tuple[bool, bool], list[Cell]] = {}
    for cell in cells:
        x, y = _centre(cell)
        quarters.setdefault((y >= (ymin + ymax) / 2, x >= (xmin + xmax) / 2), []).append(cell)
    if len(quarters) == 1 and len(cells) > 1:  # cells of uneven sizes, or in one place
        ordered = sorted(cells, key=_centre)
        return [tuple(ordered[: len(cells) // 2]), tuple(ordered[len(cells) // 2 :])]
    return [tuple(quarters[key]) for key in sorted(quarters)]


def _centre(cell: Cell) -> tuple[float, float]:
    xmin, ymin, xmax, ymax = cell.bounds
    return (xmin + xmax) / 2, (ymin + ymax) / 2


def _is_alone(cell: Cell, block_m: float) -> bool:
    """Whether a cell fills a block or more; with others it would make requests larger than was asked for."""
    xmin, ymin, xmax, ymax = cell.bounds
    return round(max(xmax - xmin, ymax - ymin) / block_m, PLACES) >= 1
