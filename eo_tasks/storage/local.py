"""The store of ``PIPELINE_MODE=local_only``: files under ``DATA_DIR``.

An image or mask is there once its record is: the record is published last, in one atomic move, and holds the size
of the file that it stands for.
"""

import re
import shutil
from collections.abc import Collection, Iterator
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from eo_tasks.cog import open_composite
from eo_tasks.errors import RasterError, StorageError
from eo_tasks.files import read_json, write_json, written_aside
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.products.mask import MaskFiles
from eo_tasks.raster import Composite, CompositeRows, PixelGrid
from eo_tasks.storage.layout import image_path, is_whole, mask_path
from eo_tasks.storage.store import Record, StagedImage, is_of_recipe, is_recent


class LocalStore:
    """Composites under ``images/``, masks under ``masks/``, named as existing readers expect."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def image_ids(self, year: int, among: Collection[int] | None = None, not_before: float = 0) -> AbstractSet[int]:
        """Cells with a composite of that year."""
        pattern = rf"sentinel2_grid_(\d+)_{year}_08\.json"
        ids = _numbers(self.data_dir / "images" / str(year), pattern) if among is None else among
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
            raise StorageError(
                f"{grid_year}: no whole composite under {self.data_dir}/images. Enqueue that year again to make it."
            )
        with ExitStack() as opened:
            try:
                image = opened.enter_context(open_composite(image_path(self.data_dir, grid_year)))
            except RasterError as error:
                raise StorageError(f"{grid_year}: the stored composite is broken: {error}") from error
            yield _Checked(grid_year, image)

    def image_record(self, grid_year: GridYear) -> Record | None:
        """The record of a stored composite."""
        return _whole_record(image_path(self.data_dir, grid_year))

    def put_mask(self, pair: YearPair, files: MaskFiles, record: Record) -> None:
        """Store a mask; one that is there is replaced."""
        final = mask_path(self.data_dir, pair)
        final.with_suffix(".json").unlink(missing_ok=True)  # the old record must not vouch for the new files
        for source, target in zip(files.all, MaskFiles.beside(final).all, strict=True):
            _publish(source, target)
        write_json(final.with_suffix(".json"), record)

    def mask_record(self, pair: YearPair) -> Record | None:
        """The record of a stored mask of exactly these two years."""
        final = mask_path(self.data_dir, pair)
        record = _whole_record(final)
        if record is None or record.get("years") != [pair.before, pair.after]:
            return None
        return record if all(path.exists() for path in MaskFiles.beside(final).all) else None

    def _is_current(self, pair: YearPair, record: Record, recipe: Record) -> bool:
        if not is_of_recipe(record, recipe):
            return False
        images = zip(pair.grid_years, record.get("images_sha256") or (), strict=False)
        return all(
            image is None or image.get("sha256") == sha256
            for image, sha256 in ((self.image_record(grid_year), sha256) for grid_year, sha256 in images)
        )

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
    if folder.is_dir():
        yield from (int(m[1]) for path in folder.iterdir() if (m := re.fullmatch(pattern, path.name)))
