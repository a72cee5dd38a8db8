"""What a run made, as tables."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from eo_tasks.grid import GridYear, YearPair
from eo_tasks.plan import Wanted
from eo_tasks.products.mask import MaskFiles
from eo_tasks.products.quicklook import outlined, sheet, write_picture
from eo_tasks.raster import to_rgb
from eo_tasks.sample import Sample
from eo_tasks.score import score
from eo_tasks.state.entry import Entry
from eo_tasks.steps import Pipeline
from eo_tasks.storage.layout import mask_path
from eo_tasks.units import Unit

OVERVIEW_CELLS = 6
SHOWN_EMPTY = 20


def print_report(console: Console, pipeline: Pipeline, wanted: Wanted) -> None:
    """Print what is stored of what was wanted, and where."""
    data_dir, store = pipeline.settings.data_dir, pipeline.store
    table = Table("What", "Years", "Cells", "Changed, ha", "Where", title=f"Made in {data_dir}", title_justify="left")
    for year in wanted.years:
        grid_years = [GridYear(grid_id, year) for grid_id in wanted.grid_ids]
        there = sum(map(store.has_image, grid_years))
        table.add_row(
            "composites",
            str(year),
            f"{there} of {len(grid_years)}",
            "",
            f"images/{year}",
        )
    for before, after in wanted.year_pairs:
        pairs = [YearPair(grid_id, before, after) for grid_id in wanted.grid_ids]
        records = [record for pair in pairs if (record := store.mask_record(pair)) is not None]
        changed = f"{sum(record['changed_ha'] for record in records):.1f}"
        table.add_row("masks", f"{before}–{after}", f"{len(records)} of {len(pairs)}", changed, f"masks/{before}")
    console.print(table)


def print_empty(console: Console, empty: Mapping[Unit, Entry]) -> None:
    """Print for which cells and years there is no imagery, and what the source said."""
    title = f"No imagery for {len(empty)} cells and years"
    table = Table("Unit", "Reason", title=title, title_justify="left")
    for unit, entry in sorted(empty.items())[:SHOWN_EMPTY]:
        table.add_row(unit.id, entry.error)
    console.print(table)
    console.print("They are looked for again by the same command; more months (COMPOSITE_MONTHS) may help.")


def print_sample_score(console: Console, data_dir: Path, wanted: Wanted, sample: Sample) -> None:
    """Print how well the masks of the sample find its planted changes."""
    masks, truths = [], []
    for grid_id in wanted.grid_ids:
        for before, after in wanted.year_pairs:
            pair = YearPair(grid_id, before, after)
            mask = MaskFiles.beside(mask_path(data_dir, pair)).cog
            if mask.exists():
                masks.append(_band(mask))
                truths.append(_band(sample.truth_file(grid_id, before, after)))
    if not masks:
        return
    result = score(masks, truths)
    table = Table("Precision", "Recall", "F1", "IoU", title="Against the sample's truth", title_justify="left")
    table.add_row(*(f"{value:.3f}" for value in (result.precision, result.recall, result.f1, result.iou)))
    console.print(table)


def write_overview(pipeline: Pipeline, wanted: Wanted) -> Path | None:
    """Draw the last pair of years of the first cells: before, after, and the change outlined.

    Returns:
        The picture; ``None`` if no mask is stored.
    """
    if not wanted.year_pairs:
        return None
    data_dir, stretch = pipeline.settings.data_dir, pipeline.settings.btc_stretch
    before, after = wanted.year_pairs[-1]
    pairs = [YearPair(grid_id, before, after) for grid_id in wanted.grid_ids]
    shown = [pair for pair in pairs if pipeline.store.mask_record(pair) is not None][:OVERVIEW_CELLS]
    if not shown:
        return None
    years = [[to_rgb(pipeline.store.get_image(gy), stretch) for gy in pair.grid_years] for pair in shown]
    classes = [_band(MaskFiles.beside(mask_path(data_dir, pair)).cog) for pair in shown]
    rows = (
        [earlier for earlier, _ in years],
        [later for _, later in years],
        [outlined(later, found) for (_, later), found in zip(years, classes, strict=True)],
    )
    path = data_dir / f"overview_{before}_{after}.png"
    write_picture(path, sheet(rows))
    return path


def _band(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as source:
        return np.asarray(source.read(1))
