"""The store of ``PIPELINE_MODE=local_only``: files under ``DATA_DIR``, a folder or a bucket.

An image or mask is there once its record is: the record is published last, in one atomic move, and holds the size
of the file that it stands for.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from eo_tasks.cog import open_composite
from eo_tasks.errors import EOTasksError, RasterError, StorageError, StoreUnavailableError
from eo_tasks.files import sha256
from eo_tasks.grid import Cell, GridYear, YearPair
from eo_tasks.products.mask import MaskFiles
from eo_tasks.raster import Composite, CompositeRows, PixelGrid
from eo_tasks.storage.folder import Folder
from eo_tasks.storage.layout import IMAGES, MASKS, image_file, mask_file
from eo_tasks.storage.place import Place, record_of, whole
from eo_tasks.storage.store import Record, StagedImage, is_made_of, is_of_recipe, is_recent

PART_CELLS = 500


class FileStore:
    """Composites under ``images/``, masks under ``masks/``, named as existing readers expect."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def check(self) -> None:
        """Look whether files can be written and read."""
        self.place.check()

    def put_cells(self, cells: Sequence[Cell]) -> None:
        """The grid file is enough."""

    def years(self) -> Sequence[int]:
        """Years with a folder of composites or masks."""
        names = (name for kind in (IMAGES, MASKS) for name in self.place.names(kind))
        return sorted({int(name) for name in names if name.isdecimal()})

    def grid_ids(self, year: int) -> AbstractSet[int]:
        """Cells with anything of that year, or from it on, whole or not; no record is read."""
        return {*self._image_numbers(year), *self._mask_numbers(year)}

    def image_records(self, year: int, among: Collection[int] | None = None) -> Mapping[int, Record]:
        """Records of the composites of that year, by cell."""
        ids = self._image_numbers(year) if among is None else among
        files = {image_file(GridYear(grid_id, year)): grid_id for grid_id in ids}
        return {files[file]: record for file, record in whole(self.place, files.keys()).items()}

    def mask_records(self, before: int, among: Collection[int] | None = None) -> Mapping[YearPair, Record]:
        """Records of the masks from that year on: one a cell."""
        ids = self._mask_numbers(before) if among is None else among
        files = {_mask_from(grid_id, before): grid_id for grid_id in ids}
        records = {file: record for file, record in whole(self.place, files.keys()).items() if "years" in record}
        others = {file: MaskFiles.beside(file).all[:2] for file in records}  # the PNG is whole
        there = self.place.sizes([other for pair in others.values() for other in pair]).keys()
        return {
            YearPair(files[file], *record["years"]): record
            for file, record in records.items()
            if there >= set(others[file])
        }

    def image_ids(self, year: int, among: Collection[int] | None = None, not_before: float = 0) -> AbstractSet[int]:
        """Cells with a composite of that year."""
        return {
            grid_id
            for part in _parts(self._image_numbers(year) if among is None else among)
            for grid_id, record in self.image_records(year, part).items()
            if is_recent(record, not_before)
        }

    def mask_ids(
        self, before: int, after: int, recipe: Record, among: Collection[int] | None = None, not_before: float = 0
    ) -> AbstractSet[int]:
        """Cells with a mask of those years made by that recipe."""
        found: set[int] = set()
        for records in self._masks_between(before, after, among):
            recent = {pair: record for pair, record in records.items() if is_recent(record, not_before)}
            found |= self._current(recent, recipe)
        return found

    def stale_mask_ids(
        self, before: int, after: int, recipe: Record, among: Collection[int] | None = None
    ) -> AbstractSet[int]:
        """Cells with a mask of those years made otherwise."""
        found: set[int] = set()
        for records in self._masks_between(before, after, among):
            found |= {pair.grid_id for pair in records} - self._current(records, recipe)
        return found

    def has_image(self, grid_year: GridYear, not_before: float = 0) -> bool:
        """Whether the composite is stored whole."""
        return bool(self.image_ids(grid_year.year, [grid_year.grid_id], not_before))

    def has_mask(self, pair: YearPair, recipe: Record, not_before: float = 0) -> bool:
        """Whether the mask is stored whole, made by that recipe of the composites that are stored now."""
        return bool(self.mask_ids(pair.before, pair.after, recipe, [pair.grid_id], not_before))

    def put_image(self, grid_year: GridYear, image: StagedImage) -> None:
        """Store a composite; one that is there is replaced."""
        self._put(image_file(grid_year), [(image.cog, image_file(grid_year))], image.record)

    def get_image(self, grid_year: GridYear) -> Composite:
        """Read a composite whole."""
        with self.open_image(grid_year) as image:
            return image.rows(0, image.pixels.height)

    @contextmanager
    def open_image(self, grid_year: GridYear) -> Iterator[CompositeRows]:
        """Open a composite to read it in strips."""
        if self.image_record(grid_year) is None:
            raise self._no_image(grid_year)
        with ExitStack() as opened:
            try:
                with self.place.reading():
                    image = opened.enter_context(open_composite(self.place.raster(image_file(grid_year))))
            except RasterError as error:
                raise self.unread(grid_year, error) from error
            yield _Checked(grid_year, image, self)

    def image_record(self, grid_year: GridYear) -> Record | None:
        """The record of a stored composite."""
        return whole(self.place, [image_file(grid_year)]).get(image_file(grid_year))

    def image_file(self, grid_year: GridYear, scratch: Path) -> StagedImage:
        """The stored COG itself, or a copy of it in ``scratch``."""
        record = self.image_record(grid_year)
        cog = None if record is None else self.place.local(image_file(grid_year), scratch)
        if record is None or cog is None:
            raise self._no_image(grid_year)
        return StagedImage(cog, record)

    def mask_files(self, pair: YearPair, scratch: Path) -> tuple[MaskFiles, Record]:
        """The stored files themselves, or copies of them in ``scratch``."""
        record = self.mask_record(pair)
        files = [] if record is None else [self.place.local(file, scratch) for file in _all(pair)]
        probability, cog, png = files or (None, None, None)
        if record is None or probability is None or cog is None or png is None:
            raise StorageError(f"{pair}: no whole mask under {self.place}/masks. Enqueue those years to make it.")
        return MaskFiles(png, cog, probability), record

    def put_mask(self, pair: YearPair, files: MaskFiles, record: Record) -> None:
        """Store a mask; one that is there is replaced."""
        self._put(mask_file(pair), zip(files.all, _all(pair), strict=True), record)

    def mask_record(self, pair: YearPair) -> Record | None:
        """The record of a stored mask of exactly these two years."""
        return self.mask_records(pair.before, [pair.grid_id]).get(pair)

    def unread(self, grid_year: GridYear, error: RasterError) -> EOTasksError:
        """Why a stored composite could not be read: it is broken, unless its bytes are those that were put.

        Raises:
            StoreUnavailableError: The place does not answer.
        """
        with TemporaryDirectory(prefix="eo-tasks-") as scratch:
            record = self.image_record(grid_year)
            cog = self.place.local(image_file(grid_year), Path(scratch))
            if record is not None and cog is not None and sha256(cog) == record.get("sha256"):
                return StoreUnavailableError(f"{grid_year}: the stored composite could not be read now: {error}")
        return StorageError(f"{grid_year}: the stored composite is broken: {error}")

    def _put(self, main: Path, files: Iterable[tuple[Path, Path]], record: Record) -> None:
        self.place.remove([record_of(main)])  # the old record must not vouch for the new files
        for source, file in files:
            self.place.put(source, file)
        self.place.put_record(main, record)

    def _masks_between(
        self, before: int, after: int, among: Collection[int] | None
    ) -> Iterator[Mapping[YearPair, Record]]:
        """Records of the masks of those years, some at a time."""
        for part in _parts(self._mask_numbers(before) if among is None else among):
            yield {pair: one for pair, one in self.mask_records(before, part).items() if pair.after == after}

    def _current(self, records: Mapping[YearPair, Record], recipe: Record) -> AbstractSet[int]:
        """Cells of those of these masks that were made by that recipe of the composites that are stored now."""
        alike = {pair: record for pair, record in records.items() if is_of_recipe(record, recipe)}
        images = whole(self.place, {image_file(grid_year) for pair in alike for grid_year in pair.grid_years})
        return {
            pair.grid_id
            for pair, record in alike.items()
            if is_made_of(record, [images.get(image_file(grid_year)) for grid_year in pair.grid_years])
        }

    def _no_image(self, grid_year: GridYear) -> StorageError:
        return StorageError(
            f"{grid_year}: no whole composite under {self.place}/images. Enqueue that year again to make it."
        )

    def _image_numbers(self, year: int) -> Iterator[int]:
        return _numbers(self.place.names(IMAGES / str(year)), rf"sentinel2_grid_(\d+)_{year}_08\.json")

    def _mask_numbers(self, before: int) -> Iterator[int]:
        return _numbers(self.place.names(MASKS / str(before)), rf"change_mask_grid_(\d+)_{before}\.json")


class LocalStore(FileStore):
    """Files in a folder."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(Folder(data_dir))
        self.data_dir = data_dir


@dataclass(frozen=True)
class _Checked:
    """An open composite whose failures tell the cell and year."""

    grid_year: GridYear
    image: CompositeRows
    store: FileStore

    @property
    def pixels(self) -> PixelGrid:
        return self.image.pixels

    @property
    def bands(self) -> tuple[str, ...]:
        return self.image.bands

    def rows(self, start: int, stop: int) -> Composite:
        try:
            with self.store.place.reading():
                return self.image.rows(start, stop)
        except RasterError as error:
            raise self.store.unread(self.grid_year, error) from error


def _parts(grid_ids: Iterable[int]) -> Iterator[list[int]]:
    """Cells, some at a time: of the records of a country, no more are in memory."""
    left = iter(grid_ids)
    while part := list(islice(left, PART_CELLS)):
        yield part


def _mask_from(grid_id: int, before: int) -> Path:
    """PNG of the mask from a year on to any other: it is named after the earlier year."""
    return mask_file(YearPair(grid_id, before, before))


def _all(pair: YearPair) -> tuple[Path, Path, Path]:
    return MaskFiles.beside(mask_file(pair)).all


def _numbers(names: Iterable[str], pattern: str) -> Iterator[int]:
    yield from (int(m[1]) for name in names if (m := re.fullmatch(pattern, name)))
