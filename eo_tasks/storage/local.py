"""The store of ``PIPELINE_MODE=local_only``: files under ``DATA_DIR``.

An image or mask is there once its record is: the record is published last, in one atomic move, and holds the size
of the file that it stands for.
"""

import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from eo_tasks.cog import open_composite
from eo_tasks.errors import RasterError, StorageError
from eo_tasks.files import read_json, write_json, written_aside
from eo_tasks.grid import Cell, GridYear, YearPair
from eo_tasks.products.mask import MaskFiles
from eo_tasks.raster import Composite, CompositeRows, PixelGrid
from eo_tasks.storage.layout import image_path, is_whole, mask_path
from eo_tasks.storage.store import Record, StagedImage, is_made_of, is_of_recipe, is_recent


class LocalStore:
    """Composites under ``images/``, masks under ``masks/``, named as existing readers expect."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def check(self) -> None:
        """Nothing to look at: folders are made as they are needed."""

    def put_cells(self, cells: Sequence[Cell]) -> None:
        """The grid file is enough."""

    def years(self) -> Sequence[int]:
        """Years with a folder of composites or masks."""
        folders = (folder for kind in ("images", "masks") for folder in _entries(self.data_dir / kind))
        return sorted({int(folder.name) for folder in folders if folder.name.isdecimal() and folder.is_dir()})

    def image_records(self, year: int, among: Collection[int] | None = None) -> Mapping[int, Record]:
        """Records of the composites of that year, by cell."""
        ids = self._image_numbers(year) if among is None else among
        records = ((grid_id, self.image_record(GridYear(grid_id, year))) for grid_id in ids)
        return {grid_id: record for grid_id, record in records if record is not None}

    def mask_records(self, before: int, among: Collection[int] | None = None) -> Mapping[YearPair, Record]:
        """Records of the masks from that year on: one a cell."""
        ids = self._mask_numbers(before) if among is None else among
        records = ((grid_id, self._any_mask_record(grid_id, before)) for grid_id in ids)
        return {YearPair(grid_id, *record["years"]): record for grid_id, record in records if record is not None}

    def image_ids(self, year: int, among: Collection[int] | None = None, not_before: float = 0) -> AbstractSet[int]:
        """Cells with a composite of that year."""
        ids = self._image_numbers(year) if among is None else among
        return {grid_id for grid_id in ids if self.has_image(GridYear(grid_id, year), not_before)}

    def mask_ids(
        self, before: int, after: int, recipe: Record, among: Collection[int] | None = None, not_before: float = 0
    ) -> AbstractSet[int]:
        """Cells with a mask of those years made by that recipe."""
        ids = self._mask_numbers(before) if among is None else among
        return {grid_id for grid_id in ids if self.has_mask(YearPair(grid_id, before, after), recipe, not_before)}

    def stale_mask_ids(
        self, before: int, after: int, recipe: Record, among: Collection[int] | None = None
    ) -> AbstractSet[int]:
        """Cells with a mask of those years made otherwise."""
        ids = self._mask_numbers(before) if among is None else among
        pairs = (YearPair(grid_id, before, after) for grid_id in ids)
        records = ((pair, self.mask_record(pair)) for pair in pairs)
        return {
            pair.grid_id
            for pair, record in records
            if record is not None and not self._is_current(pair, record, recipe)
        }

    def has_image(self, grid_year: GridYear, not_before: float = 0) -> bool:
        """Whether the composite is stored whole."""
        record = self.image_record(grid_year)
        return record is not None and is_recent(record, not_before)

    def has_mask(self, pair: YearPair, recipe: Record, not_before: float = 0) -> bool:
        """Whether the mask is stored whole, made by that recipe of the composites that are stored now."""
        record = self.mask_record(pair)
        return record is not None and is_recent(record, not_before) and self._is_current(pair, record, recipe)

    def put_image(self, grid_year: GridYear, image: StagedImage) -> None:
        """Store a composite; one that is there is replaced."""
        final = image_path(self.data_dir, grid_year)
        final.with_suffix(".json").unlink(missing_ok=True)  # the old record must not vouch for the new file
        _publish(image.cog, final)
        write_json(final.with_suffix(".json"), image.record)

    def get_image(self, grid_year: GridYear) -> Composite:
        """Read a composite whole."""
        with self.open_image(grid_year) as image:
            return image.rows(0, image.pixels.height)

    @contextmanager
    def open_image(self, grid_year: GridYear) -> Iterator[CompositeRows]:
        """Open a composite to read it in strips."""
        if not self.has_image(grid_year):
            raise self._no_image(grid_year)
        with ExitStack() as opened:
            try:
                image = opened.enter_context(open_composite(image_path(self.data_dir, grid_year)))
            except RasterError as error:
                raise StorageError(f"{grid_year}: the stored composite is broken: {error}") from error
            yield _Checked(grid_year, image)

    def image_record(self, grid_year: GridYear) -> Record | None:
        """The record of a stored composite."""
        return _whole_record(image_path(self.data_dir, grid_year))

    def image_file(self, grid_year: GridYear, scratch: Path) -> StagedImage:
        """The stored COG itself."""
        record = self.image_record(grid_year)
        if record is None:
            raise self._no_image(grid_year)
        return StagedImage(image_path(self.data_dir, grid_year), record)

    def mask_files(self, pair: YearPair, scratch: Path) -> tuple[MaskFiles, Record]:
        """The stored files themselves."""
        record = self.mask_record(pair)
        if record is None:
            raise StorageError(f"{pair}: no whole mask under {self.data_dir}/masks. Enqueue those years to make it.")
        return MaskFiles.beside(mask_path(self.data_dir, pair)), record

    def put_mask(self, pair: YearPair, files: MaskFiles, record: Record) -> None:
        """Store a mask; one that is there is replaced."""
        final = mask_path(self.data_dir, pair)
        final.with_suffix(".json").unlink(missing_ok=True)  # the old record must not vouch for the new files
        for source, target in zip(files.all, MaskFiles.beside(final).all, strict=True):
            _publish(source, target)
        write_json(final.with_suffix(".json"), record)

    def mask_record(self, pair: YearPair) -> Record | None:
        """The record of a stored mask of exactly these two years."""
        record = self._any_mask_record(pair.grid_id, pair.before)
        return record if record is not None and record["years"] == [pair.before, pair.after] else None

    def _any_mask_record(self, grid_id: int, before: int) -> Record | None:
        """The record of the mask from that year on; ``None`` unless all its files are there."""
        final = mask_path(self.data_dir, YearPair(grid_id, before, before))  # named after the earlier year
        record = _whole_record(final)
        if record is None or "years" not in record:
            return None
        return record if all(path.exists() for path in MaskFiles.beside(final).all) else None

    def _is_current(self, pair: YearPair, record: Record, recipe: Record) -> bool:
        return is_of_recipe(record, recipe) and is_made_of(record, [self.image_record(gy) for gy in pair.grid_years])

    def _no_image(self, grid_year: GridYear) -> StorageError:
        return StorageError(
            f"{grid_year}: no whole composite under {self.data_dir}/images. Enqueue that year again to make it."
        )

    def _image_numbers(self, year: int) -> Iterator[int]:
        return _numbers(self.data_dir / "images" / str(year), rf"sentinel2_grid_(\d+)_{year}_08\.json")

    def _mask_numbers(self, before: int) -> Iterator[int]:
        return _numbers(self.data_dir / "masks" / str(before), rf"change_mask_grid_(\d+)_{before}\.json")


@dataclass(frozen=True)
class _Checked:
    """An open composite whose failures tell the cell and year."""

    grid_year: GridYear
    image: CompositeRows

    @property
    def pixels(self) -> PixelGrid:
        return self.image.pixels

    @property
    def bands(self) -> tuple[str, ...]:
        return self.image.bands

    def rows(self, start: int, stop: int) -> Composite:
        try:
            return self.image.rows(start, stop)
        except RasterError as error:
            raise StorageError(f"{self.grid_year}: the stored composite is broken: {error}") from error


def _whole_record(path: Path) -> Record | None:
    record = read_json(path.with_suffix(".json"))
    return record if record is not None and is_whole(path, record) else None


def _publish(source: Path, final: Path) -> None:
    """Copy a file into place in one atomic move; the source stays until its owner drops it."""
    with written_aside(final) as aside:
        try:
            aside.hardlink_to(source)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, aside)


def _numbers(folder: Path, pattern: str) -> Iterator[int]:
    yield from (int(m[1]) for path in _entries(folder) if (m := re.fullmatch(pattern, path.name)))


def _entries(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())
