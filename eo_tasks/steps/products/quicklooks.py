"""Quicklooks of composites and contact sheets of cells, in ``DATA_DIR/quicklooks``."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from eo_tasks.errors import PermanentError, StorageError
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.products.contact_sheet import Change, draw_contact_sheet
from eo_tasks.products.mask import read_mask_layers
from eo_tasks.products.quicklook import made_of, smaller, smaller_classes, write_picture
from eo_tasks.raster import Rgb, to_rgb
from eo_tasks.steps.pipeline import Pipeline
from eo_tasks.steps.products.made import Made, Selection
from eo_tasks.steps.products.places import FOLDER_QUICKLOOKS, SHEETS, quicklook_path, sheet_path
from eo_tasks.steps.products.stored import parts, stored_ids
from eo_tasks.storage import Record, fingerprint_of

MOST_PX = 400  # of a side
DRAWN_AS = 1  # changes when pictures are drawn otherwise

Follow = Callable[[int], object]


def contact_sheet(
    pipeline: Pipeline, grid_id: int, years: Collection[int] | None = None, most_px: int = MOST_PX
) -> Rgb:
    """A cell's years in a row, and below each what changed until then, outlined; years are written over the pictures.

    Args:
        pipeline: Where composites and masks are stored.
        grid_id: The cell.
        years: All that are stored if not given.
        most_px: Of the longer side of each picture.

    Returns:
        A picture, shape (y, x, 3).

    Raises:
        StorageError: Nothing of the cell is stored, or a file is broken.
    """
    selection = Selection(None if years is None else frozenset(years))
    cell = next(_cells(pipeline, [grid_id], selection), None)
    if cell is None:
        raise StorageError(f"Cell {grid_id}: no composite of these years is stored. Enqueue them to make some.")
    pictures = {year: _picture(pipeline, GridYear(grid_id, year), most_px) for year in cell.images}
    return _sheet(pipeline, cell, pictures, most_px)


def make_quicklooks(pipeline: Pipeline, selection: Selection | None = None, follow: Follow = lambda _: None) -> Made:
    """Draw what is not drawn yet of the stored composites and masks, and remove pictures of what is gone.

    A contact sheet shows all years of its cell, whatever years are selected.

    Args:
        pipeline: Where composites and masks are stored.
        selection: Cells and years.
        follow: Is told how many cells are done, as they are.
    """
    selection = selection or Selection()
    top = pipeline.settings.folder
    counts: Counter[str] = Counter()
    failures: list[str] = []
    years = pipeline.store.years()
    grid_ids = stored_ids(pipeline.store, selection.of_years(years), selection.grid_ids)
    for cell in _cells(pipeline, grid_ids, Selection()):
        try:
            counts.update(_draw(pipeline, cell, selection))
        except PermanentError as error:
            failures.append(str(error))
        follow(1)
    removed = _remove_others(top, years, grid_ids, selection, pipeline)
    return Made(
        "pictures",
        top / FOLDER_QUICKLOOKS,
        counts["made"],
        counts["kept"],
        removed,
        tuple(failures),
    )


@dataclass(frozen=True)
class _Cell:
    """What is stored of a cell: composites by year, and masks."""

    grid_id: int
    images: Mapping[int, Record]
    masks: Mapping[YearPair, Record]


def _cells(pipeline: Pipeline, grid_ids: Sequence[int], selection: Selection) -> Iterator[_Cell]:
    """Cells with a composite of the selected years, and their masks."""
    store = pipeline.store
    years = selection.of_years(store.years())
    for part in parts(grid_ids):
        images = {year: store.image_records(year, part) for year in years}
        masks = {pair: record for year in years for pair, record in store.mask_records(year, part).items()}
        for grid_id in part:
            of_cell = {year: records[grid_id] for year, records in images.items() if grid_id in records}
            pairs = {
                pair: record
                for pair, record in masks.items()
                if pair.grid_id == grid_id and pair.before in of_cell and pair.after in of_cell
            }
            if of_cell:
                yield _Cell(grid_id, of_cell, pairs)


def _draw(pipeline: Pipeline, cell: _Cell, selection: Selection) -> Counter[str]:
    """Draw the pictures of a cell that are not there."""
    settings = pipeline.settings
    stretch = [DRAWN_AS, MOST_PX, [[band, *ends] for band, ends in settings.btc_stretch.items()]]
    drawn: dict[int, Rgb] = {}
    counts: Counter[str] = Counter()

    def picture(year: int) -> Rgb:
        if year not in drawn:
            drawn[year] = _picture(pipeline, GridYear(cell.grid_id, year), MOST_PX)
        return drawn[year]

    for year in selection.of_years(cell.images):
        path = quicklook_path(settings.folder, GridYear(cell.grid_id, year))
        told = _fingerprint(stretch, fingerprint_of(cell.images[year]))
        if made_of(path) != told:
            write_picture(path, picture(year), told)
            counts["made"] += 1
        else:
            counts["kept"] += 1
    path = sheet_path(settings.folder, cell.grid_id)
    images = [[year, fingerprint_of(record)] for year, record in sorted(cell.images.items())]
    masks = [[pair.before, pair.after, fingerprint_of(cell.masks[pair])] for pair in sorted(cell.masks)]
    told = _fingerprint(stretch, images, masks)
    if made_of(path) != told:
        write_picture(path, _sheet(pipeline, cell, {year: picture(year) for year in cell.images}, MOST_PX), told)
        counts["made"] += 1
    else:
        counts["kept"] += 1
    return counts


def _picture(pipeline: Pipeline, grid_year: GridYear, most_px: int) -> Rgb:
    return smaller(to_rgb(pipeline.store.get_image(grid_year), pipeline.settings.btc_stretch), most_px)


def _sheet(pipeline: Pipeline, cell: _Cell, pictures: Mapping[int, Rgb], most_px: int) -> Rgb:
    changes = []
    for pair in sorted(cell.masks):
        with TemporaryDirectory(prefix="eo-tasks-") as scratch:
            files, _ = pipeline.store.mask_files(pair, Path(scratch))
            try:
                classes = smaller_classes(read_mask_layers(files).classes, most_px)
            except PermanentError as error:
                raise StorageError(f"{pair}: the stored mask is broken: {error}") from error
        changes.append(Change(pair.before, pair.after, classes))
    return draw_contact_sheet(pictures, changes)


def _fingerprint(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _remove_others(
    top: Path, years: Sequence[int], grid_ids: Sequence[int], selection: Selection, pipeline: Pipeline
) -> int:
    """Remove the pictures of composites and cells that are not stored any more, if nothing is left out."""
    if not selection.is_all:
        return 0
    expected = {sheet_path(top, grid_id) for grid_id in grid_ids}
    folders = [top / FOLDER_QUICKLOOKS / SHEETS]
    removed = _remove(folders[0], expected)
    for folder in _entries(top / FOLDER_QUICKLOOKS):
        if folder.name.isdecimal():
            year = int(folder.name)
            stored = pipeline.store.image_ids(year) if year in years else ()
            removed += _remove(folder, {quicklook_path(top, GridYear(grid_id, year)) for grid_id in stored})
    return removed


def _remove(folder: Path, expected: Collection[Path]) -> int:
    others = [path for path in _entries(folder) if path.suffix == ".png" and path not in expected]
    for path in others:
        if not path.name.startswith("."):
            path.unlink(missing_ok=True)
    return len(others)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
