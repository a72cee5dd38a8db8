"""A country whose composites are stored already, painted at random: all that the BTC stage needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import geopandas
import numpy as np
from shapely.geometry import box

from eo_tasks.grid import GridYear
from eo_tasks.raster import Composite, Origin
from eo_tasks.settings import load_settings
from eo_tasks.sources import CompositeRequest
from eo_tasks.steps import Pipeline, download, store

GOLDEN = Path(__file__).parent / "data" / "golden"
PLACE = ("DATA_DIR", "WORK_DIR", "AWS_")
SIDE_M = 1600  # 160 × 160 pixels: four windows


class PaintedSource:
    """Another random image for every cell and year."""

    def composite(self, request: CompositeRequest, scratch: Path) -> Composite:
        rng = np.random.default_rng([int(request.pixels.bounds[0]), request.year])
        dn = rng.integers(100, 3000, (3, *request.pixels.shape)).astype(np.uint16)
        dn[:, :20, : 3 * (request.year - 2020)] = 0  # some pixels without data, others in each year
        counts = np.full(request.pixels.shape, 4, np.uint16)
        return Composite(request.pixels, request.bands, dn, counts, Origin("stac", "painted"))


def paint(environment: Mapping[str, str], grid_file: Path, cells: int, years: Sequence[int]) -> dict[str, str]:
    """Store the composites of ``cells`` cells; gives the environment of workers that know them."""
    squares = [box(500_000 + n * SIDE_M, 5_000_000, 500_000 + (n + 1) * SIDE_M, 5_001_600) for n in range(cells)]
    geopandas.GeoDataFrame(geometry=squares, crs=32633).to_file(grid_file)
    place = {name.lower(): text for name, text in environment.items() if name.startswith(PLACE)}
    pipeline = Pipeline(load_settings(**place, grid_file=grid_file))
    pipeline.__dict__["source"] = PaintedSource()
    for cell in range(cells):
        for year in years:
            download(pipeline, GridYear(cell, year))
            store(pipeline, GridYear(cell, year))
    return dict(environment) | {
        "GRID_FILE": str(grid_file),
        "BTC_MODEL_CHECKPOINT": str(GOLDEN),
        "BTC_DEVICE": "cpu",
        "LEASE_S": "3",
        "SWEEP_S": "2",
    }
