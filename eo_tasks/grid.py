"""The grid that cuts a country into cells, and what is named after its cells."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from eo_tasks.errors import GridError
from eo_tasks.units import Stage, Unit
from eo_tasks.vector import read_polygons

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Bounds = tuple[float, float, float, float]
PIXEL_M = 10  # Sentinel-2's finest ground sampling distance, metres


@dataclass(frozen=True, slots=True, order=True)
class GridYear:
    """One cell in one year: one composite."""

    grid_id: int
    year: int

    @property
    def download(self) -> Unit:
        """The unit that makes its composite."""
        return Unit(Stage.DOWNLOAD, self.grid_id, (self.year,))

    @property
    def store(self) -> Unit:
        """The unit that inserts its composite into the store."""
        return Unit(Stage.STORE, self.grid_id, (self.year,))

    @property
    def download_id(self) -> str:
        """The download's name, which a remote job carries too."""
        return self.download.id

    def __str__(self) -> str:
        return f"Cell {self.grid_id}, {self.year}"


@dataclass(frozen=True, slots=True, order=True)
class YearPair:
    """One cell in two years: one BTC run. The order of the years matters to the network."""

    grid_id: int
    before: int
    after: int

    @property
    def btc(self) -> Unit:
        """The unit that infers its change mask."""
        return Unit(Stage.BTC, self.grid_id, (self.before, self.after))

    @property
    def grid_years(self) -> tuple[GridYear, GridYear]:
        """The two composites it needs."""
        return GridYear(self.grid_id, self.before), GridYear(self.grid_id, self.after)

    def __str__(self) -> str:
        return f"Cell {self.grid_id}, {self.before}–{self.after}"


@dataclass(frozen=True, slots=True)
class Cell:
    """One square of the grid; ``bounds`` in metres of the CRS ``epsg``."""

    grid_id: int
    epsg: int
    bounds: Bounds
    label: str | None = None


@dataclass(frozen=True)
class Grid:
    """All cells of a grid file, in its CRS."""

    path: Path
    epsg: int
    cells: tuple[Cell, ...]
    _shapes: tuple["BaseGeometry", ...] = field(repr=False, compare=False, default=())

    @cached_property
    def _by_name(self) -> dict[str, Cell]:
        names = {cell.label: cell for cell in self.cells if cell.label is not None}
        return names | {str(cell.grid_id): cell for cell in self.cells}

    @cached_property
    def fingerprint(self) -> str:
        """Tells this grid from any other: the same ids may mean other places there."""
        digest = hashlib.sha256(str(self.epsg).encode())
        for cell in self.cells:
            digest.update(f"{cell.grid_id}:{cell.bounds};".encode())
        return digest.hexdigest()[:16]

    def cell(self, name: int | str) -> Cell:
        """Find a cell by its id or its text label.

        Raises:
            GridError: The grid has no such cell.
        """
        try:
            return self._by_name[str(name).strip()]
        except KeyError:
            example, ids = self.cells[0], [cell.grid_id for cell in self.cells]
            label = f" or {example.label}" if example.label else ""
            raise GridError(
                f"Cell {name}: {self.path} has no such cell. It has {len(self.cells)} cells, with ids from "
                f"{min(ids)} to {max(ids)}; give one as {example.grid_id}{label}."
            ) from None

    def select(self, names: Iterable[int | str] | None = None) -> tuple[Cell, ...]:
        """The cells of these ids or labels, each once, in the order given; all cells for ``None``."""
        if names is None:
            return self.cells
        return tuple({cell.grid_id: cell for cell in map(self.cell, names)}.values())

    def within(self, bounds: Bounds, epsg: int | None = None) -> tuple[Cell, ...]:
        """The cells that a bounding box touches.

        Args:
            bounds: ``(xmin, ymin, xmax, ymax)`` in units of ``epsg``.
            epsg: CRS of the box; the grid's own if not given.

        Raises:
            GridError: The box is empty, lies elsewhere, or holds degrees where the grid is in metres.
        """
        from shapely.geometry import box

        xmin, ymin, xmax, ymax = bounds
        if not (xmin < xmax and ymin < ymax):
            raise GridError(f"Bounding box {bounds}: give xmin,ymin,xmax,ymax with xmin < xmax and ymin < ymax.")
        if epsg is None and max(map(abs, bounds)) <= 360:
            raise GridError(
                f"Bounding box {bounds} looks like degrees, but the grid is in EPSG:{self.epsg}, in metres. "
                "If it is in longitude and latitude, say so with --bbox-epsg 4326."
            )
        return self._touching(box(*bounds), epsg or self.epsg, f"Bounding box {bounds}")

    def inside(self, polygon_file: Path) -> tuple[Cell, ...]:
        """The cells that the polygons of a vector file touch.

        Raises:
            GridError: The file cannot be read, has no CRS, or touches no cell.
        """
        frame = read_polygons(polygon_file)
        return self._touching(frame.geometry.union_all(), frame.crs, f"{polygon_file}")

    def _touching(self, shape: "BaseGeometry", crs: object, what: str) -> tuple[Cell, ...]:
        import geopandas
        from pyproj.exceptions import CRSError

        try:
            area = geopandas.GeoSeries([shape], crs=crs).to_crs(self.epsg).iloc[0]
        except CRSError as error:
            raise GridError(f"{what}: EPSG:{crs} is no coordinate reference system that is known here.") from error
        found = tuple(cell for cell, square in zip(self.cells, self._shapes, strict=True) if square.intersects(area))
        if not found:
            raise GridError(f"{what} touches no cell of {self.path}; check its place and its CRS.")
        return found
