"""What happens in the sample: where, when it is seen, what is built."""

import numpy as np

from eo_tasks.grid import Bounds
from eo_tasks.raster import PixelGrid
from eo_tasks.sample.construction import Plot
from eo_tasks.sample.country import EPSG, GRID_IDS, cells
from eo_tasks.sample.landscape import Landscape, make_landscape
from eo_tasks.sample.noise import Field, smooth_noise
from eo_tasks.sample.season import Acquisition
from eo_tasks.sample.works import Work

SEED = 463
YEARS = (2021, 2022, 2023, 2024)
MARGIN_PX = 16  # of imagery beyond the cells

HALLS, ESTATE, QUARRY, ROAD, CLEAR_CUT = Work.HALLS, Work.ESTATE, Work.QUARRY, Work.ROAD, Work.CLEAR_CUT
WORKS = {
    (463, 2022): (HALLS, ESTATE, CLEAR_CUT),
    (464, 2022): (ROAD, ESTATE),
    (465, 2022): (),
    (466, 2022): (QUARRY, HALLS, CLEAR_CUT),
    (467, 2022): (ESTATE, HALLS, ROAD),
    (468, 2022): (HALLS,),
    (463, 2023): (QUARRY,),
    (464, 2023): (HALLS, HALLS, CLEAR_CUT),
    (465, 2023): (ESTATE, ROAD),
    (466, 2023): (CLEAR_CUT,),
    (467, 2023): (ESTATE,),
    (468, 2023): (ESTATE, QUARRY, HALLS),
    (463, 2024): (ROAD, HALLS),
    (464, 2024): (QUARRY,),
    (465, 2024): (HALLS, CLEAR_CUT),
    (466, 2024): (ESTATE, ROAD),
    (467, 2024): (CLEAR_CUT, HALLS),
    (468, 2024): (),
}

# Two dates a year are free of clouds, so that every pixel is seen at least twice. Baselines and offsets are mixed as
# in public catalogs: the original processing of 2021 has no offset, later ones have, and some catalogs take it out.
ACQUISITIONS = (
    Acquisition(2021, 4, 22, 0.28, satellite="S2B", baseline="03.01"),
    Acquisition(2021, 5, 30, 0.00, satellite="S2A", baseline="05.00"),
    Acquisition(2021, 6, 16, 0.18, cirrus=0.16, satellite="S2B", baseline="03.01"),
    Acquisition(2021, 7, 19, 0.45, satellite="S2A", baseline="03.01", has_edge=True),
    Acquisition(2021, 8, 13, 0.00, satellite="S2B", baseline="03.01"),
    Acquisition(2021, 9, 10, 0.22, satellite="S2A", baseline="05.00", offset_applied=True),
    Acquisition(2022, 4, 19, 0.12, satellite="S2A", baseline="04.00"),
    Acquisition(2022, 5, 14, 0.35, satellite="S2B", baseline="04.00", offset_applied=True),
    Acquisition(2022, 6, 18, 0.00, satellite="S2A", baseline="04.00"),
    Acquisition(2022, 7, 13, 0.25, cirrus=0.12, satellite="S2B", baseline="04.00"),
    Acquisition(2022, 8, 5, 0.00, satellite="S2A", baseline="05.10", offset_applied=True),
    Acquisition(2022, 9, 6, 0.50, satellite="S2B", baseline="04.00"),
    Acquisition(2023, 4, 24, 0.40, satellite="S2B", baseline="05.09"),
    Acquisition(2023, 5, 19, 0.00, satellite="S2A", baseline="05.09", offset_applied=True),
    Acquisition(2023, 6, 23, 0.20, satellite="S2B", baseline="05.09"),
    Acquisition(2023, 7, 11, 0.30, satellite="S2A", baseline="05.09", offset_applied=True, has_edge=True),
    Acquisition(2023, 8, 15, 0.00, satellite="S2A", baseline="05.09"),
    Acquisition(2023, 9, 12, 0.15, cirrus=0.20, satellite="S2B", baseline="05.09"),
    Acquisition(2024, 4, 13, 0.30, satellite="S2A", baseline="05.10"),
    Acquisition(2024, 5, 8, 0.15, cirrus=0.14, satellite="S2B", baseline="05.10", offset_applied=True),
    Acquisition(2024, 6, 17, 0.00, satellite="S2A", baseline="05.10"),
    Acquisition(2024, 7, 22, 0.00, satellite="S2B", baseline="05.10", offset_applied=True),
    Acquisition(2024, 8, 11, 0.40, satellite="S2B", baseline="05.11", has_edge=True),
    Acquisition(2024, 9, 5, 0.20, satellite="S2A", baseline="05.11"),
)

# Fog that never lifts, so that one composite has a hole: cell, year, row and column in the cell, radius.
FOG_CELL, FOG_YEAR = 467, 2022
FOG_PLACE_PX, FOG_RADIUS_PX = (70, 205), 13
FOG_EDGE_PX = 4


def imaged() -> PixelGrid:
    """The pixels of all scenes: the block of cells with a margin."""
    west, south, east, north = _block_bounds()
    margin_m = MARGIN_PX * 10
    return PixelGrid(EPSG, (west - margin_m, south - margin_m, east + margin_m, north + margin_m))


def sample_landscape() -> Landscape:
    """The land of the sample with all that is built on it."""
    plots = []
    for (grid_id, year), works in WORKS.items():
        rows, columns = cell_window(grid_id)
        plots.append(Plot(year, (rows.start, rows.stop), (columns.start, columns.stop), works))
    return make_landscape(SEED, imaged().shape, plots)


def cell_window(grid_id: int) -> tuple[slice, slice]:
    """Rows and columns of a cell in the imaged area."""
    west, south, east, north = cells()[grid_id].bounds
    left, _, _, top = imaged().bounds
    return (
        slice(round((top - north) / 10), round((top - south) / 10)),
        slice(round((west - left) / 10), round((east - left) / 10)),
    )


def lasting_fog(year: int) -> Field | None:
    """Opacity of the fog that is there on every date of a year, shape (y, x); ``None`` in most years."""
    if year != FOG_YEAR:
        return None
    shape = imaged().shape
    rows, columns = cell_window(FOG_CELL)
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance = np.hypot(y - rows.start - FOG_PLACE_PX[0], x - columns.start - FOG_PLACE_PX[1])
    wobble = 4 * smooth_noise(np.random.default_rng([SEED, 5]), shape, 12)
    return np.asarray(np.clip((FOG_RADIUS_PX + wobble - distance) / FOG_EDGE_PX, 0, 1), np.float32)


def _block_bounds() -> Bounds:
    west, south, east, north = zip(*(cells()[grid_id].bounds for grid_id in GRID_IDS), strict=True)
    return min(west), min(south), max(east), max(north)
