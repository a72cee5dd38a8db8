"""The sample's grid: an invented country of 480 cells, of which six have imagery."""

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory

from eo_tasks.grid import Bounds, Cell

EPSG = 32633
CELL_M = 2500
LAYER = "grid_cells"  # as eo_tasks.grid.make_grid names it
WEST_M, NORTH_M = 532_500, 5_182_500  # north-western corner of the lattice; all of it lies on MGRS tile 33TWM
GRID_IDS = tuple(range(463, 469))

# First lattice column and number of cells of each row, from north to south. The country ends in a narrow tail, so
# that the cells 463 to 468 are its first two rows of three: a block of 7.5 km × 5 km.
ROWS = (
    *((9, 6), (8, 10), (6, 14), (5, 17), (3, 21), (2, 24), (1, 27), (1, 29), (0, 31), (0, 32)),
    *((0, 33), (1, 32), (1, 32), (2, 30), (2, 29), (3, 26), (4, 23), (5, 19), (6, 15), (8, 9)),
    *((10, 4), (11, 3), (11, 3), (11, 3), (11, 3), (11, 3), (12, 2)),
)


def cells() -> tuple[Cell, ...]:
    """All cells, numbered row by row from north to south, each row from west to east."""
    return tuple(Cell(grid_id, EPSG, _bounds(row, column)) for grid_id, (row, column) in enumerate(_places()))


def write_grid(path: Path, grid_ids: Collection[int] | None = None) -> None:
    """Write the grid file as ``eo_tasks.grid.make_grid`` does; of these cells only, under their own numbers."""
    import geopandas
    from shapely.geometry import box

    places = _places()
    frame = geopandas.GeoDataFrame(
        {
            "grid_id": range(len(places)),
            "row": [row for row, _ in places],
            "column": [column for _, column in places],
        },
        geometry=[box(*_bounds(row, column)) for row, column in places],
        crs=f"EPSG:{EPSG}",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent) as folder:  # GDAL insists on the suffix
        aside = Path(folder) / path.name
        frame = frame if grid_ids is None else frame[frame["grid_id"].isin(grid_ids)]
        frame.to_file(aside, layer=LAYER, driver="GPKG")
        aside.replace(path)


def _places() -> list[tuple[int, int]]:
    return [(row, column) for row, (first, count) in enumerate(ROWS) for column in range(first, first + count)]


def _bounds(row: int, column: int) -> Bounds:
    west, north = WEST_M + column * CELL_M, NORTH_M - row * CELL_M
    return float(west), float(north - CELL_M), float(west + CELL_M), float(north)
