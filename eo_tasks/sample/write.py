"""The sample on disk."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from eo_tasks.cog import write_cog
from eo_tasks.files import read_json, write_json
from eo_tasks.raster import PixelGrid
from eo_tasks.sample.country import GRID_IDS, cells, write_grid
from eo_tasks.sample.landscape import Landscape
from eo_tasks.sample.scenes import COLLECTION, SceneRecord, write_catalog, write_scene
from eo_tasks.sample.season import Acquisition, observe
from eo_tasks.sample.story import ACQUISITIONS, YEARS, cell_window, imaged, lasting_fog, sample_landscape

VERSION = 2  # raise it whenever the same code would write other files
MARKER = "sample.json"
WRITERS = 2  # scenes made at once; each needs about 150 MB


@dataclass(frozen=True)
class Sample:
    """Where the sample lies, and what it covers.

    Attributes:
        grid_file: 480 cells.
        imaged_file: A grid file of the cells with scenes alone.
        catalog: ``catalog.json`` of a static STAC catalog.
        truth: Folder of the true changes, see ``truth_file``.
        years: Years with scenes.
        grid_ids: Cells with scenes.
    """

    grid_file: Path
    imaged_file: Path
    catalog: Path
    truth: Path
    years: tuple[int, ...] = YEARS
    grid_ids: tuple[int, ...] = GRID_IDS

    def truth_file(self, grid_id: int, before: int, after: int) -> Path:
        """The true change of a year pair: uint8, 0 unchanged, 1 changed, on the cell's pixel grid."""
        return self.truth / str(before) / f"truth_{grid_id}_{before}_{after}.tif"


def write_sample(folder: Path) -> Sample:
    """Write the sample into a folder, unless it is there whole.

    Every file is published atomically and the marker last, so that it may be broken off and started again, also by
    two processes at once: both write the same.

    Args:
        folder: Folder of its own; made where it is missing.

    Returns:
        Where everything lies.
    """
    sample = Sample(folder / "grid.gpkg", folder / "cells.gpkg", folder / "catalog" / "catalog.json", folder / "truth")
    if _is_whole(folder):
        return sample
    (folder / MARKER).unlink(missing_ok=True)
    write_grid(sample.grid_file)
    write_grid(sample.imaged_file, sample.grid_ids)
    landscape = sample_landscape()
    written = _write_truth(sample, landscape)
    with ThreadPoolExecutor(WRITERS) as pool:
        records = list(pool.map(lambda one: _write_one(sample, landscape, one), ACQUISITIONS))
    write_catalog(sample.catalog.parent, records)
    written += [
        sample.grid_file,
        sample.imaged_file,
        sample.catalog,
        *sample.catalog.parent.glob(f"{COLLECTION}/**/*.*"),
    ]
    write_json(
        folder / MARKER,
        {"version": VERSION, "files": sorted(str(path.relative_to(folder)) for path in written)},
    )
    return sample


def _is_whole(folder: Path) -> bool:
    marker = read_json(folder / MARKER)
    if marker is None or marker.get("version") != VERSION:
        return False
    return all((folder / name).is_file() for name in marker["files"])


def _write_one(sample: Sample, landscape: Landscape, acquisition: Acquisition) -> SceneRecord:
    observation = observe(landscape, acquisition, lasting_fog(acquisition.year))
    return write_scene(sample.catalog.parent / COLLECTION, observation, acquisition, imaged())


def _write_truth(sample: Sample, landscape: Landscape) -> list[Path]:
    written = []
    for before, after in pairwise(sample.years):
        change = landscape.change(before, after)
        for grid_id in sample.grid_ids:
            path = sample.truth_file(grid_id, before, after)
            truth = change[cell_window(grid_id)].astype(np.uint8)
            pixels = PixelGrid.of(cells()[grid_id])
            write_cog(path, truth[None], pixels, nodata=None, names=("change",), resampling="nearest")
            written.append(path)
    return written
