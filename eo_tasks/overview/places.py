"""Where the cells of a grid lie on a map: each alone, or blocks of them where there are too many to draw."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from eo_tasks.grid import Bounds, Cell

MOST_SHAPES = 4000

Ring = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Shape:
    """A cell or a block of cells, its corners in longitude and latitude."""

    id: str
    label: str | None
    ring: Ring


@dataclass(frozen=True)
class Shapes:
    """What is to be drawn of a grid.

    Attributes:
        level: 0: cells; n: blocks of 2ⁿ × 2ⁿ.
        cells: In all of the grid.
        bounds: Of the grid, ``(west, south, east, north)`` in degrees.
    """

    level: int
    cells: int
    bounds: Bounds
    shapes: Sequence[Shape]


@dataclass(frozen=True)
class Groups:
    """Cells in view, and the shape that each belongs to.

    Attributes:
        level: As of ``Shapes``.
        ids: Of the shapes.
        cells: Indexes of the cells, shape (cell,).
        shape_of: Of each of these, the index of its shape.
    """

    level: int
    ids: Sequence[str]
    cells: NDArray[np.intp]
    shape_of: NDArray[np.intp]


class Places:
    """Cells in the order of their ids, and where each lies."""

    def __init__(self, cells: Sequence[Cell], epsg: int) -> None:
        self.cells = tuple(sorted(cells, key=lambda cell: cell.grid_id))
        self._to_lonlat = Transformer.from_crs(epsg, 4326, always_xy=True)
        self._bounds = np.array([cell.bounds for cell in self.cells], np.float64).reshape(-1, 4)

    @cached_property
    def grid_ids(self) -> NDArray[np.int64]:
        """Ids, ascending, shape (cell,)."""
        return np.array([cell.grid_id for cell in self.cells], np.int64)

    @cached_property
    def labels(self) -> dict[int, str]:
        """Labels of the cells that have one."""
        return {cell.grid_id: cell.label for cell in self.cells if cell.label is not None}

    @cached_property
    def bounds(self) -> Bounds:
        """Of all cells, in degrees."""
        points = self._rings(self._bounds[self._extremes]).reshape(-1, 2)
        (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
        return float(west), float(south), float(east), float(north)

    def shapes(self, bbox: Bounds | None = None) -> Shapes:
        """What is to be drawn in a box of degrees, or of the whole grid."""
        return self._all_shapes if bbox is None else self._shapes(self.groups(bbox))

    def _shapes(self, groups: Groups) -> Shapes:
        if groups.level == 0:
            rings = self._rings(self._bounds[groups.cells])
            members = (self.cells[index] for index in groups.cells)
            shapes = [
                Shape(name, cell.label, _points(ring))
                for name, cell, ring in zip(groups.ids, members, rings, strict=True)
            ]
        else:
            part, number = self._bounds[groups.cells], len(groups.ids)
            outer = np.empty((number, 4))
            outer[:, :2], outer[:, 2:] = np.inf, -np.inf
            np.minimum.at(outer[:, 0], groups.shape_of, part[:, 0])
            np.minimum.at(outer[:, 1], groups.shape_of, part[:, 1])
            np.maximum.at(outer[:, 2], groups.shape_of, part[:, 2])
            np.maximum.at(outer[:, 3], groups.shape_of, part[:, 3])
            shapes = [
                Shape(name, None, _points(ring)) for name, ring in zip(groups.ids, self._rings(outer), strict=True)
            ]
        return Shapes(groups.level, len(self.cells), self.bounds, shapes)

    def groups(self, bbox: Bounds | None = None) -> Groups:
        """Which cells are in a box of degrees, and which shape each belongs to."""
        return self._all_groups if bbox is None else self._groups(np.flatnonzero(_touching(self._lonlat_bounds, bbox)))

    def _groups(self, cells: NDArray[np.intp]) -> Groups:
        level = 0
        if cells.size <= MOST_SHAPES:
            return Groups(0, [str(self.cells[index].grid_id) for index in cells], cells, np.arange(cells.size))
        columns, rows = self._columns_rows[cells].T
        while True:
            level += 1
            unique, shape_of = np.unique(columns >> level << 32 | rows >> level, return_inverse=True)
            if len(unique) <= MOST_SHAPES:
                names = [f"b:{level}:{key >> 32}:{key & 0xFFFFFFFF}" for key in unique.tolist()]
                return Groups(level, names, cells, shape_of)

    def centre(self, cell: Cell) -> tuple[float, float]:
        """Longitude and latitude of the middle of a cell."""
        xmin, ymin, xmax, ymax = cell.bounds
        lon, lat = self._to_lonlat.transform((xmin + xmax) / 2, (ymin + ymax) / 2)
        return float(lon), float(lat)

    @cached_property
    def _all_groups(self) -> Groups:
        return self._groups(np.arange(len(self.cells)))

    @cached_property
    def _all_shapes(self) -> Shapes:
        return self._shapes(self._all_groups)

    @cached_property
    def _lonlat_bounds(self) -> NDArray[np.float64]:
        rings = self._rings(self._bounds)
        return np.concatenate((rings.min(axis=1), rings.max(axis=1)), axis=1)

    @cached_property
    def _centres(self) -> NDArray[np.float64]:
        return np.stack(
            ((self._bounds[:, 0] + self._bounds[:, 2]) / 2, (self._bounds[:, 1] + self._bounds[:, 3]) / 2), 1
        )

    @cached_property
    def _extremes(self) -> list[int]:
        """Indexes of cells at the edge: the grid's bounds in degrees are theirs, or nearly so."""
        picks: set[int] = set()
        for values in (self._centres[:, 0], self._centres[:, 1], self._centres.sum(1), self._centres @ (1, -1)):
            picks |= {int(values.argmin()), int(values.argmax())}
        return sorted(picks)

    @cached_property
    def _columns_rows(self) -> NDArray[np.int64]:
        size = np.median(self._bounds[:, 2] - self._bounds[:, 0])
        corner = self._bounds[:, :2].min(axis=0)
        return np.asarray(np.round((self._bounds[:, :2] - corner) / size), np.int64)

    def _rings(self, bounds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Corners in degrees, the first again as the last; shape (shape, 5, 2)."""
        xmin, ymin, xmax, ymax = bounds.T
        x = np.stack((xmin, xmax, xmax, xmin, xmin), axis=1)
        y = np.stack((ymin, ymin, ymax, ymax, ymin), axis=1)
        lon, lat = self._to_lonlat.transform(x.ravel(), y.ravel())
        return np.round(np.stack((lon, lat), axis=1), 6).reshape(-1, 5, 2)


def _touching(bounds: NDArray[np.float64], bbox: Bounds) -> NDArray[np.bool_]:
    west, south, east, north = bbox
    return np.asarray(
        (bounds[:, 0] <= east) & (bounds[:, 2] >= west) & (bounds[:, 1] <= north) & (bounds[:, 3] >= south)
    )


def _points(ring: NDArray[np.float64]) -> Ring:
    return [(float(lon), float(lat)) for lon, lat in ring]
