"""Grid files: read and checked, or made from a border."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eo_tasks.errors import GridError
from eo_tasks.grid import PIXEL_M, Cell, Grid
from eo_tasks.vector import read_polygons

if TYPE_CHECKING:
    from geopandas import GeoDataFrame

OVERLAP_TOLERANCE = 1e-3  # of a cell's area: neighbours written with rounded corners still pass


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
    frame = read_polygons(path, layer)
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
    frame = read_polygons(border)
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
