"""What a run made, as tables."""

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from eo_tasks.grid import GridYear, YearPair
from eo_tasks.plan import Wanted
from eo_tasks.products.mask import MaskFiles
from eo_tasks.steps import Pipeline
from eo_tasks.storage.layout import image_path, mask_path


def print_report(console: Console, pipeline: Pipeline, wanted: Wanted) -> None:
    """Print what is stored of what was wanted, and where."""
    data_dir, store = pipeline.settings.data_dir, pipeline.store
    table = Table("What", "Years", "Cells", "Changed, ha", "Where", title="Made", title_justify="left")
    for year in wanted.years:
        grid_years = [GridYear(grid_id, year) for grid_id in wanted.grid_ids]
        there = sum(map(store.has_image, grid_years))
        table.add_row(
            "composites",
            str(year),
            f"{there} of {len(grid_years)}",
            "",
            str(image_path(data_dir, grid_years[0]).parent),
        )
    for before, after in wanted.year_pairs:
        pairs = [YearPair(grid_id, before, after) for grid_id in wanted.grid_ids]
        records = [record for pair in pairs if (record := store.mask_record(pair)) is not None]
        changed = f"{sum(record['changed_ha'] for record in records):.1f}"
        place = str(mask_path(data_dir, pairs[0]).parent)
        table.add_row("masks", f"{before}–{after}", f"{len(records)} of {len(pairs)}", changed, place)
    console.print(table)


def print_sample_score(console: Console, data_dir: Path, wanted: Wanted) -> None:
    """Print how well the masks of the sample find its planted changes."""
    from eo_tasks.sample import score, truth_path

    masks, truths = [], []
    for grid_id in wanted.grid_ids:
        for before, after in wanted.year_pairs:
            pair = YearPair(grid_id, before, after)
            mask = MaskFiles.beside(mask_path(data_dir, pair)).cog
            if mask.exists():
                masks.append(_band(mask))
                truths.append(_band(truth_path(data_dir, pair)))
    if not masks:
        return
    result = score(masks, truths)
    table = Table("Precision", "Recall", "F1", "IoU", title="Against the sample's truth", title_justify="left")
    table.add_row(*(f"{value:.3f}" for value in (result.precision, result.recall, result.f1, result.iou)))
    console.print(table)


def _band(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as source:
        return np.asarray(source.read(1))
