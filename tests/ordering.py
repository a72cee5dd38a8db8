"""A country whose composites are ordered from a backend that fails on demand, and what becomes of it."""

import json
from collections.abc import Mapping
from pathlib import Path

import geopandas
import numpy as np
from shapely.geometry import box

from eo_tasks.grid import Cell, GridYear
from eo_tasks.raster import PixelGrid
from eo_tasks.storage.files import LocalStore
from tests.openeo_backend.faulty import PASSWORD, USER, FaultyBackend, paint

EPSG, SIDE_M, LEFT, BOTTOM = 32633, 320, 500_000, 5_100_000
BANDS = ("B02", "B03", "B04")


def ordering(
    environment: Mapping[str, str], backend: FaultyBackend, folder: Path, columns: int, rows: int
) -> dict[str, str]:
    """A grid of so many cells of 320 m, in blocks of 4 × 4, and the environment of workers that order them."""
    squares = [cell_box(number, columns) for number in range(columns * rows)]
    geopandas.GeoDataFrame(geometry=[box(*square) for square in squares], crs=EPSG).to_file(folder / "grid.gpkg")
    return {
        **environment,
        "GRID_FILE": str(folder / "grid.gpkg"),
        "IMAGERY_SOURCE": "openeo",
        "OPENEO_URL": backend.url,
        "OPENEO_USERNAME": USER,
        "OPENEO_PASSWORD": PASSWORD,
        "OPENEO_BLOCK_KM": str(4 * SIDE_M / 1000),
        "OPENEO_POLL_S": "0.5",
        "OPENEO_ANSWER_S": "3",
        "OPENEO_STARTS_PER_MINUTE": "1000",
    }


def cell_box(number: int, columns: int) -> tuple[float, float, float, float]:
    """Bounds of a cell: rows from the south, cells from the west."""
    row, column = divmod(number, columns)
    left, bottom = LEFT + column * SIDE_M, BOTTOM + row * SIDE_M
    return left, bottom, left + SIDE_M, bottom + SIDE_M


def check_images(data_dir: Path, cells: int, columns: int, years: tuple[int, ...]) -> None:
    """Every composite is stored, and is what the backend paints for its cell, pixel for pixel."""
    store = LocalStore(data_dir)
    for year in years:
        assert store.image_ids(year) == frozenset(range(cells))
        for number in range(cells):
            pixels = PixelGrid.of(Cell(number, EPSG, cell_box(number, columns)))
            *bands, counts = paint(pixels.bounds, year, BANDS)
            image = store.get_image(GridYear(number, year))
            assert image.pixels == pixels
            np.testing.assert_array_equal(image.dn, np.stack(bands))
            np.testing.assert_array_equal(image.clear_count, counts)


def request(*years: int) -> str:
    """The arguments of a request for the whole grid."""
    return json.dumps({"years": list(years)})
