"""Change polygons of stored masks, in ``DATA_DIR/polygons``.

Each mask is drawn by itself: a patch that goes on in the next cell is two polygons that touch at the border.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eo_tasks import __version__
from eo_tasks.errors import PermanentError, StorageError
from eo_tasks.files import read_json, write_json
from eo_tasks.grid import YearPair
from eo_tasks.products.mask import read_mask_layers
from eo_tasks.products.polygon_files import PolygonFiles, PolygonWriter
from eo_tasks.products.polygons import ChangePolygon, change_polygons
from eo_tasks.steps.pipeline import Pipeline
from eo_tasks.steps.products.made import Made, Selection
from eo_tasks.steps.products.places import FOLDER_POLYGONS
from eo_tasks.steps.products.stored import check_place, mask_records, stored_ids
from eo_tasks.steps.scratch import FETCH_PREFIX
from eo_tasks.storage import Record, fingerprint_of

ALL, SELECTED = "changes", "changes_selected"

Follow = Callable[[int], object]


def export_polygons(pipeline: Pipeline, selection: Selection | None = None, follow: Follow = lambda _: None) -> Made:
    """Write the changes of the stored masks as ``changes.gpkg`` and ``changes.parquet``.

    Those of some cells or years go into ``changes_selected``, so that the files of all stay. Files that were made of
    the same masks stay as they are.

    Args:
        pipeline: Where masks are stored; smaller patches than ``MIN_CHANGE_HA`` are left out.
        selection: Cells and years.
        follow: Is told how many masks are done, as they are.

    Raises:
        StorageError: The masks lie in more than one CRS.
    """
    selection = selection or Selection()
    folder = pipeline.settings.folder / FOLDER_POLYGONS
    files = PolygonFiles.named(folder, ALL if selection.is_all else SELECTED)
    facts = folder / f"{files.geopackage.stem}.json"
    made_of, epsg, number = _look_through(pipeline, selection)
    if epsg is None:
        return Made("polygons", files.geopackage, 0, note="no masks are stored")
    known = read_json(facts) or {}
    if known.get("made_of") == made_of and all(file.exists() for file in files.all):
        return Made("polygons", files.geopackage, 0, known["polygons"], note=_note(known))
    folder.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []
    with TemporaryDirectory(dir=folder, prefix=FETCH_PREFIX) as scratch:
        aside = PolygonFiles.named(Path(scratch), files.geopackage.stem)
        min_ha = pipeline.settings.min_change_ha
        about = {"masks": number, "min_change_ha": min_ha, "eo_tasks": __version__}
        with PolygonWriter(aside, epsg, _description(min_ha), about) as writer:
            for pair, record in _masks(pipeline, selection):
                try:
                    check_place(pair, record)
                    polygons = _polygons(pipeline, pair, Path(scratch))
                except PermanentError as error:
                    failures.append(str(error))
                else:
                    writer.add(pair, _model(record), _threshold(record), polygons)
                follow(1)
        facts.unlink(missing_ok=True)  # the old ones must not vouch for the new files
        for source, target in zip(aside.all, files.all, strict=True):
            _publish(source, target)
    told = about | {
        "polygons": writer.number,
        "area_ha": round(writer.area_ha, 4),
        "epsg": epsg,
        "failed": len(failures),
        "made_of": None if failures else made_of,
    }
    write_json(facts, told)
    return Made("polygons", files.geopackage, writer.number, failures=tuple(failures), note=_note(told))


def _look_through(pipeline: Pipeline, selection: Selection) -> tuple[str, int | None, int]:
    """Fingerprint of all that decides the files, the CRS of the masks, and their number."""
    digest = hashlib.sha256(json.dumps([__version__, pipeline.settings.min_change_ha]).encode())
    epsg, number = None, 0
    for pair, record in _masks(pipeline, selection):
        if record.get("epsg") is None:
            continue
        if epsg not in (None, record["epsg"]):
            raise StorageError(
                f"{pair}: the mask lies in EPSG:{record['epsg']}, others in EPSG:{epsg}. They are of two grids: "
                "choose the cells of one with --cells."
            )
        epsg, number = int(record["epsg"]), number + 1
        told = [pair.grid_id, pair.before, pair.after, fingerprint_of(record), _model(record), _threshold(record)]
        digest.update(json.dumps(told).encode())
    return digest.hexdigest(), epsg, number


def _masks(pipeline: Pipeline, selection: Selection) -> Iterator[tuple[YearPair, Record]]:
    store = pipeline.store
    years = store.years()
    grid_ids = stored_ids(store, years, selection.grid_ids)
    for before in selection.of_years(years):
        for pair, record in mask_records(store, before, grid_ids):
            if selection.has(pair):
                yield pair, record


def _polygons(pipeline: Pipeline, pair: YearPair, scratch: Path) -> tuple[ChangePolygon, ...]:
    with TemporaryDirectory(dir=scratch) as folder:
        files, _ = pipeline.store.mask_files(pair, Path(folder))
        try:
            layers = read_mask_layers(files)
        except PermanentError as error:
            raise StorageError(f"{pair}: the stored mask is broken: {error}") from error
    return change_polygons(layers.changed, layers.probability, layers.pixels, pipeline.settings.min_change_ha)


def _model(record: Record) -> str:
    made_by = record.get("model") or {}
    return f"{made_by.get('checkpoint', 'unknown')}@{made_by.get('revision', 'unknown')}"


def _threshold(record: Record) -> float | None:
    threshold = record.get("threshold")
    return None if threshold is None else float(threshold)


def _description(min_ha: float) -> str:
    least = f"; patches below {min_ha:g} ha are left out" if min_ha else ""
    return f"Change between years, by BTC{least}. Patches end at the borders of cells."


def _note(told: dict[str, Any]) -> str:
    return f"{told['area_ha']:,.2f} ha in {told['masks']} masks"


def _publish(source: Path, target: Path) -> None:
    with source.open("rb") as written:
        os.fsync(written.fileno())
    source.replace(target)
