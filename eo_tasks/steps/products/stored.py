"""Records of a store, some cells at a time, so that a country of any size fits into memory."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from eo_tasks.errors import StorageError
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.storage import Record, Store

PART_CELLS = 500
PLACE = ("epsg", "bounds", "width", "height", "resolution_m")


def check_place(what: GridYear | YearPair, record: Record) -> None:
    """Check that a record tells where its pixels lie.

    Raises:
        StorageError: It does not: it was not written by this project.
    """
    if missing := [name for name in PLACE if record.get(name) is None]:
        raise StorageError(
            f"{what}: the record does not tell {', '.join(missing)}. Make it again: eo-tasks enqueue --no-resume."
        )


def stored_ids(store: Store, years: Collection[int], among: Collection[int] | None = None) -> list[int]:
    """Cells with a composite of any of these years."""
    found: set[int] = set()
    for year in years:
        found |= store.image_ids(year, among)
    return sorted(found)


def parts(grid_ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cells, some at a time."""
    for start in range(0, len(grid_ids), PART_CELLS):
        yield grid_ids[start : start + PART_CELLS]


def image_records(store: Store, year: int, grid_ids: Sequence[int]) -> Iterator[tuple[int, Record]]:
    """Composites of a year, by cell."""
    for part in parts(grid_ids):
        yield from sorted(store.image_records(year, part).items())


def mask_records(store: Store, before: int, grid_ids: Sequence[int]) -> Iterator[tuple[YearPair, Record]]:
    """Masks from a year on, by cell and later year."""
    for part in parts(grid_ids):
        yield from _sorted(store.mask_records(before, part))


def _sorted(records: Mapping[YearPair, Record]) -> Iterator[tuple[YearPair, Record]]:
    yield from sorted(records.items(), key=lambda one: one[0])
