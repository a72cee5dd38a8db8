"""The grid that cuts a country into cells: read it, select from it, make one."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from eo_tasks.errors import GridError
from eo_tasks.units import Stage, Unit

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from shapely.geometry.base import BaseGeometry

Bounds = tuple[float, float, float, float]
PIXEL_M = 10  # Sentinel-2's finest ground sampling distance, metres
OVERLAP_TOLERANCE = 1e-3  # of a cell's area: neighbours written with rounded corners still pass


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
        frame = _read_polygons(polygon_file, None)
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


def read_grid(path: Path, layer: str | None = None) -> Grid:
    """Read and check a grid file. Nothing is reprojected.

    A cell's id is its row number, from 0; an integer column ``grid_id`` replaces it, and a text column ``grid_id``
    gives labels (the published Slovenian grid has ``SI_000463`` in row 463).

    Args:
        path: Any vector file that GDAL reads.
        layer: Layer of that file; the first one with polygons if not given.

    Raises:
        GridError: The file or layer is missing, has no EPSG code, is in degrees, or its cells are empty or overlap.
    """
    frame = _read_polygons(path, layer)
    epsg = frame.crs.to_epsg()
    if epsg is None:
        raise GridError(f"{path}: its CRS has no EPSG code. Reproject it to one, such as a UTM zone's.")
    if not frame.crs.is_projected or frame.crs.axis_info[0].unit_name != "metre":
        suggestion = frame.estimate_utm_crs()
        raise GridError(
            f"{path}: EPSG:{epsg} is in {frame.crs.axis_info[0].unit_name}s, but cells are measured in metres. "
            f"Reproject the file first, for instance to EPSG:{suggestion.to_epsg()}."
        )
    ids, labels = _ids(frame, path)
    _check_shapes(frame, ids, path)
    cells = tuple(
        Cell(grid_id, epsg, (float(bounds[0]), float(bounds[1]), float(bounds[2]), float(bounds[3])), label)
        for grid_id, bounds, label in zip(ids, frame.geometry.bounds.to_numpy(), labels, strict=True)
    )
    return Grid(path, epsg, cells, tuple(frame.geometry))


def make_grid(border: Path, size_m: int, out: Path, epsg: int | None = None) -> Grid:
    """Cover the polygons of a vector file with square cells and write them as a grid file.

    Args:
        border: Vector file with the area's polygons, in any CRS.
        size_m: Side of a cell; a multiple of 10 m, so that cells share one 10 m pixel grid.
        out: Grid file to write (GeoPackage).
        epsg: Projected CRS in metres; the UTM zone of the area's centre if not given.

    Raises:
        GridError: The border or the size cannot be used.
    """
    import geopandas
    import numpy as np
    from shapely.geometry import box
    from shapely.prepared import prep

    if size_m < PIXEL_M or size_m % PIXEL_M:
        raise GridError(f"Cell size {size_m} m: give a multiple of {PIXEL_M} m, such as 5000.")
    frame = _read_polygons(border, None)
    try:
        frame = frame.to_crs(epsg or frame.estimate_utm_crs())
    except Exception as error:
        raise GridError(f"{border}: cannot be projected to EPSG:{epsg} ({error}).") from error
    if not frame.crs.is_projected or frame.crs.axis_info[0].unit_name != "metre":
        raise GridError(f"EPSG:{epsg} is not in metres; choose a projected CRS, or leave --epsg out.")
    area = frame.geometry.union_all()
    touches = prep(area).intersects
    west, south, east, north = area.bounds
    columns = range(math.floor(west / size_m), math.ceil(east / size_m))
    rows = range(math.ceil(north / size_m) - 1, math.floor(south / size_m) - 1, -1)
    squares = [
        (row, column, square)
        for row in rows
        for column in columns
        if touches(square := box(column * size_m, row * size_m, (column + 1) * size_m, (row + 1) * size_m))
    ]
    made = geopandas.GeoDataFrame(
        {
            "grid_id": np.arange(len(squares), dtype=np.int64),
            "row": [row for row, _, _ in squares],
            "column": [column for _, column, _ in squares],
        },
        geometry=[square for _, _, square in squares],
        crs=frame.crs,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.stem}.part.gpkg")
    aside.unlink(missing_ok=True)
    made.to_file(aside, layer="grid_cells", driver="GPKG")
    aside.replace(out)
    return read_grid(out)


def _read_polygons(path: Path, layer: str | None) -> "GeoDataFrame":
    import geopandas
    from pyogrio.errors import DataLayerError, DataSourceError

    if not path.exists():
        raise GridError(f"{path}: no such file.")
    try:
        layers = geopandas.list_layers(path)
        names = list(layers["name"])
        with_polygons = [
            name
            for name, kind in zip(names, layers["geometry_type"], strict=True)
            if "Polygon" in str(kind) or kind == "Unknown"  # a mix, such as of Polygon and MultiPolygon
        ]
        if layer is None and not with_polygons:
            raise GridError(f"{path}: no layer has polygons; it has {', '.join(names) or 'no layers'}.")
        frame = geopandas.read_file(path, layer=layer or with_polygons[0])
    except DataLayerError as error:
        raise GridError(f"{path}: no layer {layer!r}; it has {', '.join(names)}.") from error
    except DataSourceError as error:
        raise GridError(f"{path}: not a vector file that GDAL can read ({error}).") from error
    if "geometry" not in frame or frame.empty:
        raise GridError(f"{path}: layer {layer or with_polygons[0]!r} has no polygons.")
    if frame.crs is None:
        raise GridError(f"{path}: has no CRS. Write it into the file, for instance with ogr2ogr -a_srs EPSG:32633.")
    return frame


def _ids(frame: "GeoDataFrame", path: Path) -> tuple[list[int], Sequence[str | None]]:
    from pandas.api.types import is_integer_dtype, is_numeric_dtype

    rows, unlabelled = list(range(len(frame))), [None] * len(frame)
    if "grid_id" not in frame:
        return rows, unlabelled
    column = frame["grid_id"]
    if repeated := sorted({str(name) for name in column[column.duplicated()]}):
        raise GridError(f"{path}: grid_id {', '.join(repeated[:5])} stands on more than one cell; make them unique.")
    if not is_integer_dtype(column):
        labels = [label if isinstance(label, str) else None for label in column]
        misleading = [label for row, label in enumerate(labels) if label and label.isdecimal() and label != str(row)]
        if misleading or is_numeric_dtype(column):
            example = misleading[0] if misleading else column.iloc[0]
            raise GridError(f"{path}: grid_id {example} is a number but no integer; make the column's type integer.")
        return rows, labels
    ids = [int(value) for value in column]
    if min(ids) < 0:
        raise GridError(f"{path}: grid_id {min(ids)} is negative; ids count from 0.")
    return ids, unlabelled


def _check_shapes(frame: "GeoDataFrame", ids: Sequence[int], path: Path) -> None:
    shapes = frame.geometry
    bad = shapes.isna() | shapes.is_empty | ~shapes.is_valid | (shapes.area <= 0)
    if bad.any():
        named = [str(grid_id) for grid_id, is_bad in zip(ids, bad, strict=True) if is_bad]
        raise GridError(
            f"{path}: cells {', '.join(named[:5])} are empty or not valid polygons ({len(named)} in all); "
            "repair or remove them."
        )
    left, right = shapes.sindex.query(shapes, predicate="intersects")
    once = left < right
    left, right = left[once], right[once]
    shared = shapes.iloc[left].reset_index(drop=True).intersection(shapes.iloc[right].reset_index(drop=True)).area
    limit = OVERLAP_TOLERANCE * shapes.area.min()
    overlapping = [(ids[a], ids[b]) for a, b, area in zip(left, right, shared, strict=True) if area > limit]
    if overlapping:
        a, b = overlapping[0]
        raise GridError(
            f"{path}: cells {a} and {b} overlap ({len(overlapping)} such pairs); a place may belong to one cell only."
        )
