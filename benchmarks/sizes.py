"""What a cell of 5 km takes on disk and in the database, from the pixels of real Sentinel-2 scenes.

The scenes that lie beside the repository have pixels of 120 m. They are taken for such of 10 m: neighbours differ more
than they would, so what is compressed comes out rather too large.
"""

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import geopandas
import numpy as np
import rasterio
from shapely.geometry import box

from eo_tasks.files import write_json
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.raster import Composite, Origin
from eo_tasks.settings import load_settings
from eo_tasks.sources import CompositeRequest
from eo_tasks.steps import Pipeline, download, store
from eo_tasks.steps.masks import infer
from eo_tasks.storage.database import schema
from eo_tasks.storage.database.connection import Database, Login
from tests.archive import image_path, mask_path
from tests.integration.conftest import CHECKPOINT
from tests.postgres import PostgresServer, database_settings, find_postgres
from tests.real_scenes import BANDS, CLEAR_SCL, SCENES

SIDE_PX, YEARS, COPIES = 501, (2022, 2023), 8
SCENES_OF = {2022: slice(0, 3), 2023: slice(2, 5)}  # of the five, by year


class RealPixels:
    """The median of some of the real scenes, of other ones each year, shifted from cell to cell."""

    def composite(self, request: CompositeRequest, scratch: Path) -> Composite:
        """A composite of the size that is asked for."""
        shift = int(request.pixels.bounds[0]) // 5000 % 8 * 7
        window = rasterio.windows.Window(shift, shift, *reversed(request.pixels.shape))
        folders = sorted(path for path in SCENES.iterdir() if path.is_dir())[SCENES_OF[request.year]]
        stack = np.stack([[_read(folder / f"{band}.tif", window) for band in BANDS] for folder in folders])
        clear = np.isin(np.stack([_read(folder / "SCL.tif", window) for folder in folders]), CLEAR_SCL)
        dn = np.ma.median(np.ma.array(stack, mask=np.broadcast_to(~clear[:, None], stack.shape)), axis=0)
        counts = clear.sum(axis=0).astype(np.uint16)
        return Composite(request.pixels, BANDS, dn.filled(0).astype(np.uint16), counts, Origin("stac", "real"))


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sizes.json"))
    out: Path = parser.parse_args().out
    programs = find_postgres()
    if programs is None or not SCENES.is_dir():
        raise SystemExit("PostgreSQL with PostGIS and the real scenes are needed.")
    with TemporaryDirectory(prefix="eo-tasks-benchmark-") as folder, PostgresServer(programs) as server:
        found = measure(server, Path(folder))
    write_json(out, {"at": datetime.now(UTC).isoformat(timespec="seconds"), "cell_px": SIDE_PX, "kb": found})
    for what, size in found.items():
        print(f"{what:40} {size:8.1f} kB")


def measure(server: PostgresServer, folder: Path) -> dict[str, float]:
    """Sizes in kB, means over cells."""
    side = 10 * SIDE_PX
    squares = [box(500_000 + n * side, 5_000_000, 500_000 + (n + 1) * side, 5_000_000 + side) for n in range(COPIES)]
    geopandas.GeoDataFrame(geometry=squares, crs=32633).to_file(folder / "grid.gpkg")
    server.create_database("bench")
    environment = database_settings(server.admin_environment("bench"))
    schema.upgrade(Database(Login.of_admin(load_settings(**environment))))
    settings = load_settings(
        pipeline_mode="hybrid", data_dir=folder / "data", grid_file=folder / "grid.gpkg", imagery_source="stac",
        btc_model_checkpoint=str(CHECKPOINT), **environment,
    )  # fmt: skip
    pipeline = Pipeline(settings)
    pipeline.__dict__["source"] = RealPixels()
    pipeline.store.put_cells(pipeline.grid.cells)
    with server.connect("bench") as connection:

        def tables(*names: str) -> int:
            rows = [connection.execute("SELECT pg_total_relation_size(%s)", (name,)).fetchone() for name in names]
            return sum(int(row[0]) for row in rows if row is not None)

        before = tables("eo"), tables("eo_change")
        for cell in range(COPIES):
            for year in YEARS:
                download(pipeline, GridYear(cell, year))
                store(pipeline, GridYear(cell, year))
            infer(pipeline, YearPair(cell, *YEARS))
        after = tables("eo"), tables("eo_change")
    images = [image_path(folder / "data", GridYear(cell, year)) for cell in range(COPIES) for year in YEARS]
    masks = [mask_path(folder / "data", YearPair(cell, *YEARS)) for cell in range(COPIES)]
    return {
        "composite, files": kb(images, ".tiff", ".json"),
        "of it the COG": kb(images, ".tiff"),
        "its pixels, uncompressed": SIDE_PX**2 * 2 * (len(BANDS) + 1) / 1e3,
        "mask, files": kb(masks, ".png", ".tiff", "_probability.tiff", ".json"),
        "composite, database": (after[0] - before[0]) / len(images) / 1e3,
        "mask, database": (after[1] - before[1]) / len(masks) / 1e3,
    }


def kb(files: Sequence[Path], *endings: str) -> float:
    """Mean size of these files together, kB."""
    sizes = [file.with_name(file.stem + ending).stat().st_size for file in files for ending in endings]
    return sum(sizes) / len(files) / 1e3


def _read(path: Path, window: Any) -> Any:
    with rasterio.open(path) as file:
        return file.read(1, window=window)


if __name__ == "__main__":
    main()
