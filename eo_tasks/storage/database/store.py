"""The store of ``PIPELINE_MODE=database_only``: rows of PostgreSQL.

A row is there whole or not at all: each put is one transaction.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import func, select, union

from eo_tasks.cog import read_composite, write_composite
from eo_tasks.errors import StorageError
from eo_tasks.files import sha256
from eo_tasks.grid import Cell, GridYear, YearPair
from eo_tasks.products.mask import MaskFiles, mask_tags, read_mask_layers, write_mask_layers
from eo_tasks.raster import Composite, Origin
from eo_tasks.storage.database import cells, images, masks, schema
from eo_tasks.storage.database.connection import Database
from eo_tasks.storage.database.models import Change, Image
from eo_tasks.storage.layout import image_name, mask_name
from eo_tasks.storage.store import Record, StagedImage, is_recent


class DatabaseStore:
    """Composites in ``eo``, masks in ``eo_change``."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def check(self) -> None:
        """Look whether the database can be used; leave no connection open."""
        try:
            schema.check(self.database)
        finally:
            self.database.close()

    def put_cells(self, those: Sequence[Cell]) -> None:
        """Insert the cells that are not there."""
        with self.database.transaction("The cells") as connection:
            cells.put_cells(connection, those)

    def years(self) -> Sequence[int]:
        """Years with composites, or with masks from that year on."""
        with self.database.transaction() as connection:
            return sorted(connection.scalars(union(select(Image.year), select(Change.year_before))))

    def image_records(self, year: int, among: Collection[int] | None = None) -> Mapping[int, Record]:
        """Records of the composites of that year, by cell."""
        with self.database.transaction(f"Composites of {year}") as connection:
            rows = images.image_rows(connection, year, Image.record, among=among)
            return {row.grid_id: row.record for row in rows}

    def mask_records(self, before: int, among: Collection[int] | None = None) -> Mapping[YearPair, Record]:
        """Records of the masks from that year on to any other."""
        with self.database.transaction(f"Masks from {before} on") as connection:
            return masks.mask_records(connection, before, among)

    def image_ids(self, year: int, among: Collection[int] | None = None, not_before: float = 0) -> AbstractSet[int]:
        """Cells with a composite of that year."""
        with self.database.transaction(f"Composites of {year}") as connection:
            made_at = func.extract("epoch", Image.made_at).label("made_at")
            rows = images.image_rows(connection, year, made_at, among=among)
            return {row.grid_id for row in rows if not_before <= 0 or (row.made_at or 0) >= not_before}

    def mask_ids(
        self, before: int, after: int, recipe: Record, among: Collection[int] | None = None, not_before: float = 0
    ) -> AbstractSet[int]:
        """Cells with a mask of those years made by that recipe."""
        found = self._standings(before, after, recipe, among)
        return {mask.grid_id for mask in found if mask.is_current and is_recent(mask.record, not_before)}

    def stale_mask_ids(
        self, before: int, after: int, recipe: Record, among: Collection[int] | None = None
    ) -> AbstractSet[int]:
        """Cells with a mask of those years made otherwise."""
        return {mask.grid_id for mask in self._standings(before, after, recipe, among) if not mask.is_current}

    def has_image(self, grid_year: GridYear, not_before: float = 0) -> bool:
        """Whether the composite is stored."""
        return bool(self.image_ids(grid_year.year, [grid_year.grid_id], not_before))

    def has_mask(self, pair: YearPair, recipe: Record, not_before: float = 0) -> bool:
        """Whether the mask is stored, made by that recipe of the composites that are stored now."""
        return bool(self.mask_ids(pair.before, pair.after, recipe, [pair.grid_id], not_before))

    def put_image(self, grid_year: GridYear, image: StagedImage) -> None:
        """Insert a composite; one that is there is replaced.

        Raises:
            StorageError: The file is not what its record says.
        """
        composite = read_composite(image.cog) if image.cog.exists() else _missing(image.cog)
        record = dict(image.record)
        checksum = record.setdefault("pixels_sha256", composite.checksum)  # records of before version 0.2 lack it
        if composite.checksum != checksum:
            raise StorageError(f"{grid_year}: {image.cog} is not the composite that its record tells of.")
        with self.database.transaction(grid_year) as connection:
            images.put_image(connection, grid_year, composite, record)

    def get_image(self, grid_year: GridYear) -> Composite:
        """Read a composite whole."""
        image = images.StoredImage.open(self.database, grid_year)
        return image.rows(0, image.pixels.height)

    @contextmanager
    def open_image(self, grid_year: GridYear) -> Iterator[images.StoredImage]:
        """Open a composite to read it in strips."""
        yield images.StoredImage.open(self.database, grid_year)

    def image_record(self, grid_year: GridYear) -> Record | None:
        """The record of a stored composite."""
        with self.database.transaction(grid_year) as connection:
            return images.image_record(connection, grid_year)

    def image_file(self, grid_year: GridYear, scratch: Path) -> StagedImage:
        """A composite as a COG made in ``scratch``."""
        composite, record = self.get_image(grid_year), self.image_record(grid_year)
        if record is None or record["pixels_sha256"] != composite.checksum:
            raise StorageError(f"{grid_year}: the composite was replaced while it was read.")
        cog = scratch / image_name(grid_year)
        write_composite(cog, _from(composite, record))
        return StagedImage(cog, _of_file(record, cog))

    def put_mask(self, pair: YearPair, files: MaskFiles, record: Record) -> None:
        """Insert a mask; one that is there is replaced.

        Raises:
            StorageError: Its composites are not in the database, or the files are not what the record says.
        """
        for file in files.all:
            if not file.exists():
                _missing(file)
        layers = read_mask_layers(files)
        record = dict(record)
        if layers.checksum != record.setdefault("pixels_sha256", layers.checksum):
            raise StorageError(f"{pair}: {files.cog} is not the mask that its record tells of.")
        with self.database.transaction(pair) as connection:
            masks.put_mask(connection, pair, layers, record)

    def mask_record(self, pair: YearPair) -> Record | None:
        """The record of a stored mask."""
        with self.database.transaction(pair) as connection:
            return masks.mask_record(connection, pair)

    def mask_files(self, pair: YearPair, scratch: Path) -> tuple[MaskFiles, Record]:
        """A mask as files made in ``scratch``."""
        with self.database.transaction(pair) as connection:
            found = masks.read_mask(connection, pair)
        if found is None:
            raise StorageError(f"{pair}: no mask in the {self.database.login}. Enqueue those years to make it.")
        layers, record = found
        files = MaskFiles.beside(scratch / mask_name(pair))
        write_mask_layers(files, layers, mask_tags(pair.before, pair.after))
        return files, _of_file(record, files.png)

    def _standings(
        self, before: int, after: int, recipe: Record, among: Collection[int] | None
    ) -> Sequence[masks.Standing]:
        with self.database.transaction(f"Masks of {before}–{after}") as connection:
            return list(masks.standings(connection, before, after, recipe, among))


def _from(composite: Composite, record: Record) -> Composite:
    """A composite that knows where it comes from, as the file of it does."""
    return replace(composite, origin=Origin(str(record.get("source", "")), str(record.get("collection", ""))))


def _of_file(record: Record, file: Path) -> Record:
    """A record for a file that was made again; where another GDAL made it, it may be compressed otherwise."""
    made = sha256(file)
    if made == record.get("sha256"):
        return record
    return {**record, "sha256": made, "size_bytes": file.stat().st_size}


def _missing(file: Path) -> Composite:
    raise FileNotFoundError(2, "No such file or directory", str(file))
