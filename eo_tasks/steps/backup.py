"""Copying everything that cannot be made again for nothing into a folder, and back.

The folder is laid out as ``DATA_DIR``, whatever the store is. A copy is made once, and again when its original was made
anew; nothing is ever removed from the folder. ``backup.json`` is written last: without it a backup is not finished.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from eo_tasks import __version__
from eo_tasks.errors import GridError, PermanentError, StorageError
from eo_tasks.files import read_json, write_json, written_aside
from eo_tasks.grid import Cell, GridYear
from eo_tasks.steps.pipeline import Pipeline
from eo_tasks.steps.products.stored import parts
from eo_tasks.steps.scratch import FETCH_PREFIX
from eo_tasks.steps.sync import Copy, copy, differences, newest_first
from eo_tasks.storage import FileStore, Staging, Store
from eo_tasks.storage.folder import Folder
from eo_tasks.storage.hybrid import HybridStore
from eo_tasks.storage.layout import IMAGES, MASKS, STAGED
from eo_tasks.storage.place import Place
from eo_tasks.storage.verified import VerifiedStore

MANIFEST = "backup.json"
CHECKPOINTS, GRID = Path("checkpoints"), Path("grid")

Follow = Callable[[int], None]


@dataclass
class Copied:
    """What was copied, and what could not be.

    Attributes:
        counts: How many, by kind.
        failures: One line each.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def back_up(pipeline: Pipeline, folder: Path, follow: Follow = lambda done: None) -> Copied:
    """Bring a folder to what is stored; every file is compared with its record on the way.

    Args:
        pipeline: Whose store, staged composites, checkpoint files and grid.
        folder: Of backups; made if it is not there.
        follow: Is told of each copy.

    Raises:
        StoreUnavailableError: A store is away; the same call goes on where it ended.
        StorageFullError: The disk is full.
    """
    there, made = Folder(folder), Copied()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    target, source = FileStore(there), _verified(pipeline.store, pipeline.place)
    for one in _due(target, source):
        _copy(one, target, source, folder, made)
        follow(1)
    _copy_staged(Staging(pipeline.place), Staging(there), folder, made)
    _copy_checkpoints(pipeline.place, there, folder, made)
    made.counts["grid files"] = _copy_grid(pipeline, folder)
    write_json(
        folder / MANIFEST,
        {
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "eo_tasks": __version__,
            "of": str(pipeline.settings.data_dir),
            "pipeline_mode": str(pipeline.settings.pipeline_mode),
            "years": list(target.years()),
            "failures": len(made.failures),
        },
    )
    return made


def restore(
    pipeline: Pipeline, folder: Path, follow: Follow = lambda done: None, *, unfinished: bool = False
) -> Copied:
    """Bring the store to what a folder has; what is stored already, made as late or later, stays.

    Args:
        pipeline: Whose store, staged composites and checkpoint files.
        folder: That ``back_up`` filled.
        follow: Is told of each copy.
        unfinished: Take it though its last backup did not end.

    Raises:
        StorageError: It holds no backup, or one that did not end.
        StoreUnavailableError: A store is away; the same call goes on where it ended.
        StorageFullError: The disk is full.
    """
    check_backup(folder, unfinished=unfinished)
    there, made, scratch = Folder(folder), Copied(), pipeline.settings.folder
    source, target = VerifiedStore(there), pipeline.store
    scratch.mkdir(parents=True, exist_ok=True)
    pipeline.store.put_cells(_cells(pipeline))
    is_of_files = _is_of_files(target)
    files, other = (target, source) if is_of_files else (source, target)
    for one in _due(files, other) if is_of_files else _due_to_database(files, other):
        _copy(one, files, other, scratch, made)
        follow(1)
    _copy_staged(Staging(there), Staging(pipeline.place), scratch, made, unless=target)
    _copy_checkpoints(there, pipeline.place, scratch, made, unless=set(pipeline.place.names(CHECKPOINTS)))
    return made


def check_backup(folder: Path, *, unfinished: bool = False) -> None:
    """Look whether a folder holds a backup.

    Raises:
        StorageError: It does not, or one that did not end.
    """
    if read_json(folder / MANIFEST) is None:
        if not any((folder / kind).is_dir() for kind in (IMAGES, MASKS, CHECKPOINTS)):
            raise StorageError(f"{folder}: no backup here. Name the folder that eo-tasks backup wrote to.")
        if not unfinished:
            raise StorageError(
                f"{folder}: the last backup here did not end. Let it end (eo-tasks backup {folder}), or restore what "
                "is there with --unfinished."
            )


def verify(folder: Path, follow: Follow = lambda done: None) -> Copied:
    """Read every file of a backup, and compare it with its record."""
    store, found = VerifiedStore(Folder(folder)), Copied()

    def look(kind: str, read: Callable[[], object]) -> None:
        try:
            read()
        except PermanentError as error:
            found.failures.append(str(error))
        else:
            found.counts[kind] += 1
        follow(1)

    for year in store.years():
        for part in parts(_grid_ids(store, year)):
            for grid_id in sorted(store.image_records(year, part)):
                look("composites", partial(store.image_file, GridYear(grid_id, year), folder))
            for pair in sorted(store.mask_records(year, part)):
                look("masks", partial(store.mask_files, pair, folder))
    return found


def left_out(pipeline: Pipeline) -> int:
    """Masks of a database that files have no place for: from one year on they hold the newest only."""
    if _is_of_files(pipeline.store):
        return 0
    number = 0
    for year in pipeline.store.years():
        records = pipeline.store.mask_records(year)
        number += len(records) - len({pair.grid_id for pair in records})
    return number


def _due(files: Store, source: Store) -> Iterator[Copy]:
    """What has to be copied towards files, the later years first."""
    for year in newest_first(files, source):
        for part in parts(_grid_ids(source, year)):
            yield from differences(files, source, year, part, to_database=False)


def _due_to_database(files: Store, database: Store) -> Iterator[Copy]:
    for year in newest_first(files, database):
        for part in parts(_grid_ids(files, year)):
            yield from differences(files, database, year, part, to_files=False)


def _copy(one: Copy, files: Store, other: Store, scratch: Path, made: Copied) -> None:
    kind = "composites" if isinstance(one.what, GridYear) else "masks"
    try:
        made.counts[kind] += copy(one, files, other, scratch)
    except PermanentError as error:
        made.failures.append(str(error))


def _copy_staged(source: Staging, target: Staging, scratch: Path, made: Copied, *, unless: Store | None = None) -> None:
    """Copy composites that are paid for and not stored yet, unless they are by now."""
    for name in source.place.names(STAGED):
        for grid_id in sorted(source.grid_ids(int(name))) if name.isdecimal() else ():
            grid_year = GridYear(grid_id, int(name))
            if target.record(grid_year) is not None or (unless is not None and unless.has_image(grid_year)):
                continue
            with TemporaryDirectory(dir=scratch, prefix=FETCH_PREFIX) as aside:
                image = source.get(grid_year, Path(aside))
                if image is not None:
                    target.add(grid_year, image.cog, image.record)
                    made.counts["staged composites"] += 1


def _copy_checkpoints(
    source: Place, target: Place, scratch: Path, made: Copied, *, unless: AbstractSet[str] = frozenset()
) -> None:
    """Copy the ledger's exports, except those of these names."""
    for name in source.names(CHECKPOINTS):
        if name.endswith(".json") and not name.startswith(".") and name not in unless:
            with TemporaryDirectory(dir=scratch, prefix=FETCH_PREFIX) as aside:
                file = source.local(CHECKPOINTS / name, Path(aside))
                if file is not None:
                    target.put(file, CHECKPOINTS / name)
                    made.counts["checkpoint files"] += 1


def _copy_grid(pipeline: Pipeline, folder: Path) -> int:
    """The grid's file, and those of the same name that belong to it."""
    file = pipeline.settings.grid_file or pipeline.settings.folder / "grid.gpkg"
    files = [one for one in file.parent.glob(f"{file.stem}.*") if one.is_file()]
    for one in files:
        with written_aside(folder / GRID / one.name) as aside:
            shutil.copyfile(one, aside)
    return len(files)


def _cells(pipeline: Pipeline) -> tuple[Cell, ...]:
    try:
        return tuple(pipeline.grid.cells)
    except GridError:
        return ()


def _verified(store: Store, place: Place) -> Store:
    """The same store, whose files are compared with their records."""
    if isinstance(store, HybridStore):
        return HybridStore(VerifiedStore(place), store.database)
    return VerifiedStore(place) if _is_of_files(store) else store


def _is_of_files(store: Store) -> bool:
    return isinstance(store, FileStore | HybridStore)


def _grid_ids(store: Store, year: int) -> list[int]:
    """Cells with anything of that year, or from it on; also of composites that someone has removed, and kept masks."""
    if isinstance(store, HybridStore):
        return sorted({*_grid_ids(store.files, year), *_grid_ids(store.database, year)})
    return sorted(store.grid_ids(year) if isinstance(store, FileStore) else store.image_ids(year))
