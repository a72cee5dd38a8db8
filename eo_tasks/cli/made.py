"""What a run on this machine made, as tables and a picture, when it ends; ``report`` writes a whole report."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from eo_tasks.grid import YearPair
from eo_tasks.plan import Wanted
from eo_tasks.products.quicklook import outlined, sheet, write_picture
from eo_tasks.raster import to_rgb
from eo_tasks.sample import Sample
from eo_tasks.score import score
from eo_tasks.settings import PipelineMode
from eo_tasks.state.entry import Entry
from eo_tasks.steps import Pipeline
from eo_tasks.units import Unit

OVERVIEW_CELLS = 6
SHOWN_EMPTY = 20


def print_made(console: Console, pipeline: Pipeline, wanted: Wanted) -> None:
    """Print what is stored of what was wanted, and where."""
    store, mode = pipeline.store, pipeline.settings.pipeline_mode
    is_in_files, place = mode is not PipelineMode.DATABASE_ONLY, str(pipeline.settings.data_dir)
    if not is_in_files:
        place = f"database {pipeline.settings.db_name}"
    table = Table("What", "Years", "Cells", "Changed, ha", "Where", title=f"Made in {place}", title_justify="left")
    for year in wanted.years:
        there = f"{len(store.image_ids(year, wanted.grid_ids))} of {len(wanted.grid_ids)}"
        table.add_row("composites", str(year), there, "", f"images/{year}" if is_in_files else "eo")
    for before, after in wanted.year_pairs:
        found = store.mask_records(before, wanted.grid_ids).items()
        records = [record for pair, record in found if pair.after == after]
        there = f"{len(records)} of {len(wanted.grid_ids)}"
        changed = f"{sum(record['changed_ha'] for record in records):.1f}"
        where = f"masks/{before}" if is_in_files else "eo_change"
        table.add_row("masks", f"{before}–{after}", there, changed, where)
    console.print(table)


def print_empty(console: Console, empty: Mapping[Unit, Entry]) -> None:
    """Print for which cells and years there is no imagery, and what the source said."""
    title = f"No imagery for {len(empty)} cells and years"
    table = Table("Unit", "Reason", title=title, title_justify="left")
    for unit, entry in sorted(empty.items())[:SHOWN_EMPTY]:
        table.add_row(unit.id, entry.error)
    console.print(table)
    console.print("They are looked for again by the same command; more months (COMPOSITE_MONTHS) may help.")


def print_sample_score(console: Console, pipeline: Pipeline, wanted: Wanted, sample: Sample) -> None:
    """Print how well the masks of the sample find its planted changes."""
    masks, truths = [], []
    for grid_id in wanted.grid_ids:
        for before, after in wanted.year_pairs:
            pair = YearPair(grid_id, before, after)
            if pipeline.store.mask_record(pair) is not None:
                masks.append(_classes(pipeline, pair))
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
    folder, stretch = pipeline.settings.folder, pipeline.settings.btc_stretch
    before, after = wanted.year_pairs[-1]
    pairs = [YearPair(grid_id, before, after) for grid_id in wanted.grid_ids]
    shown = [pair for pair in pairs if pipeline.store.mask_record(pair) is not None][:OVERVIEW_CELLS]
    if not shown:
        return None
    years = [[to_rgb(pipeline.store.get_image(gy), stretch) for gy in pair.grid_years] for pair in shown]
    classes = [_classes(pipeline, pair) for pair in shown]
    rows = (
        [earlier for earlier, _ in years],
        [later for _, later in years],
        [outlined(later, found) for (_, later), found in zip(years, classes, strict=True)],
    )
    path = folder / f"overview_{before}_{after}.png"
    write_picture(path, sheet(rows))
    return path


def _classes(pipeline: Pipeline, pair: YearPair) -> NDArray[np.uint8]:
    with TemporaryDirectory(prefix="eo-tasks-") as scratch:
        files, _ = pipeline.store.mask_files(pair, Path(scratch))
        return _band(files.cog)


def _band(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as source:
        return np.asarray(source.read(1))
