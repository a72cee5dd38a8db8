"""Bringing files and a database to the same composites and masks, either way.

What one side lacks is copied there; of two that differ the one that was made later is kept. Files hold one mask from a
year on, a database one for every later year too: towards files only the newest of them counts.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from errno import ENOSPC
from pathlib import Path
from tempfile import TemporaryDirectory

from eo_tasks.errors import PermanentError, StorageError, StorageFullError
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.steps.scratch import FETCH_PREFIX, MASK_PREFIX
from eo_tasks.storage import Record, Store, is_same

_OF_A_MASK = ("recipe", "images_sha256")  # what makes a mask stale though its pixels are the same


@dataclass(frozen=True)
class Copy:
    """One composite or mask that is to be copied from files to the database, or back."""

    what: GridYear | YearPair
    to_database: bool

    @property
    def kind(self) -> str:
        """What is copied where, as counts are told."""
        kind = "composites" if isinstance(self.what, GridYear) else "masks"
        return f"{kind} → {'database' if self.to_database else 'files'}"

    def __str__(self) -> str:
        kind = "composite" if isinstance(self.what, GridYear) else "mask"
        return f"{self.what}: {kind} → {'database' if self.to_database else 'files'}"


@dataclass(frozen=True)
class Synchronised:
    """What was copied.

    Attributes:
        copied: How many, by ``Copy.kind``.
        failures: What cannot be copied, and why.
    """

    copied: Mapping[str, int]
    failures: tuple[str, ...] = ()


def newest_first(files: Store, database: Store, years: Collection[int] | None = None) -> list[int]:
    """Years of either side in the order to go through them: the later composite of a mask is there before the mask."""
    known = {*files.years(), *database.years()}
    return sorted(known if years is None else known.intersection(years), reverse=True)


def differences(
    files: Store,
    database: Store,
    year: int,
    among: Collection[int] | None = None,
    *,
    to_files: bool = True,
    to_database: bool = True,
) -> Iterator[Copy]:
    """What has to be copied so that both sides hold the same of a year: composites first, then masks from it on.

    Args:
        files: One side, with one mask a cell from a year on.
        database: The other.
        year: Of the composites, and the earlier year of the masks.
        among: Of these cells only.
        to_files: Copy towards files.
        to_database: Copy towards the database.
    """
    images = files.image_records(year, among), database.image_records(year, among)
    yield from _of_images(year, *images, to_files=to_files, to_database=to_database)
    masks = files.mask_records(year, among), database.mask_records(year, among)
    if to_database:
        yield from _masks_to_database(*masks)
    if to_files:  # after what they hold is safe: another mask may take its place
        yield from _masks_to_files(*masks)


def copy(one: Copy, files: Store, database: Store, scratch: Path) -> bool:
    """Copy a composite or a mask, unless its like or a later one has come there in the meantime.

    Args:
        one: What, and where to.
        files: One side.
        database: The other.
        scratch: A folder on the file system of the files.

    Returns:
        Whether it was copied.

    Raises:
        StorageError: It is gone or broken, or a mask's composites are not in the database.
        StoreUnavailableError: The database is away.
        StorageFullError: A disk is full.
    """
    source, target = (files, database) if one.to_database else (database, files)
    prefix = FETCH_PREFIX if isinstance(one.what, GridYear) else MASK_PREFIX
    with _told(one), TemporaryDirectory(dir=scratch, prefix=prefix) as folder:
        if isinstance(one.what, GridYear):
            image = source.image_file(one.what, Path(folder))
            if not _is_due(image.record, target.image_record(one.what)):
                return False
            target.put_image(one.what, image)
            return True
        mask, record = source.mask_files(one.what, Path(folder))
        there = target.mask_record(one.what) if one.to_database else _mask_in_files(files, one.what)
        if not _is_due(record, there):
            return False
        target.put_mask(one.what, mask, record)
        return True


def copy_all(copies: Iterable[Copy], files: Store, database: Store, scratch: Path) -> Synchronised:
    """Copy one after the other; what cannot be copied is told of and does not stop the others.

    Raises:
        StoreUnavailableError: The database is away.
        StorageFullError: A disk is full.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    copied: Counter[str] = Counter()
    failures: list[str] = []
    only_in_files: set[tuple[int, int]] = set()
    for one in copies:
        if isinstance(one.what, YearPair) and not one.to_database and _place(one.what) in only_in_files:
            continue  # it would take the place of a mask that could not be brought to the database
        try:
            copied[one.kind] += copy(one, files, database, scratch)
        except PermanentError as error:
            failures.append(f"{one}: {error}")
            if isinstance(one.what, YearPair) and one.to_database:
                only_in_files.add(_place(one.what))
    return Synchronised(copied, tuple(failures))


def _of_images(
    year: int, here: Mapping[int, Record], there: Mapping[int, Record], *, to_files: bool, to_database: bool
) -> Iterator[Copy]:
    for grid_id in sorted(here.keys() | there.keys()):
        what, ours, theirs = GridYear(grid_id, year), here.get(grid_id), there.get(grid_id)
        if to_database and ours is not None and _is_due(ours, theirs):
            yield Copy(what, to_database=True)
        if to_files and theirs is not None and _is_due(theirs, ours):
            yield Copy(what, to_database=False)


def _masks_to_database(here: Mapping[YearPair, Record], there: Mapping[YearPair, Record]) -> Iterator[Copy]:
    for pair in sorted(here):
        if _is_due(here[pair], there.get(pair)):
            yield Copy(pair, to_database=True)


def _masks_to_files(here: Mapping[YearPair, Record], there: Mapping[YearPair, Record]) -> Iterator[Copy]:
    ours = {_place(pair): record for pair, record in here.items()}
    newest: dict[tuple[int, int], YearPair] = {}
    for pair in sorted(there, key=lambda pair: (_made_at(there[pair]) or 0, pair)):
        newest[_place(pair)] = pair
    for place, pair in sorted(newest.items()):
        if _is_due(there[pair], ours.get(place)):
            yield Copy(pair, to_database=False)


def _mask_in_files(files: Store, pair: YearPair) -> Record | None:
    """The record of the mask that this one would replace, whatever its later year."""
    return next(iter(files.mask_records(pair.before, [pair.grid_id]).values()), None)


def _place(pair: YearPair) -> tuple[int, int]:
    """What files name a mask by."""
    return pair.grid_id, pair.before


def _is_due(record: Record, other: Record | None) -> bool:
    """Whether what a record tells of should be where the other is: there is none, or it differs and is older."""
    if other is None:
        return True
    if record.get("years") == other.get("years") and _agree(record, other):
        return False
    made, other_made = _made_at(record), _made_at(other)
    return made is not None and other_made is not None and made > other_made


def _agree(record: Record, other: Record) -> bool:
    return is_same(record, other) and all(record.get(name) == other.get(name) for name in _OF_A_MASK)


def _made_at(record: Record) -> float | None:
    text = record.get("made_at")
    return None if text is None else datetime.fromisoformat(text).timestamp()


@contextmanager
def _told(one: Copy) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == ENOSPC:
            raise StorageFullError(f"{one.what}: the disk is full. Make room, then do the same again.") from error
        if isinstance(error, FileNotFoundError):
            raise StorageError(f"{one.what}: {error.filename} is gone. Make it again, or restore it.") from error
        raise
