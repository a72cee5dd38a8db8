"""The protocol that every store follows."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from eo_tasks.grid import Cell, GridYear, YearPair
from eo_tasks.products.mask import MaskFiles
from eo_tasks.raster import Composite, CompositeRows

Record = Mapping[str, Any]  # the JSON beside an image or a mask
WEIGHTS = "weights_sha256"  # of a recipe


@dataclass(frozen=True)
class StagedImage:
    """A checked composite on its way into the store: its COG and its record."""

    cog: Path
    record: Record


def is_recent(record: Record, not_before: float) -> bool:
    """Whether what a record describes was made no earlier than that (seconds since 1970); anything is since 0."""
    made_at = record.get("made_at")
    return not_before <= 0 or (made_at is not None and datetime.fromisoformat(made_at).timestamp() >= not_before)


def is_of_recipe(record: Record, recipe: Record) -> bool:
    """Whether a mask was made by that recipe; weights whose fingerprint one side does not know agree with any."""
    made_by = dict(record.get("recipe") or {})
    known, asked = made_by.pop(WEIGHTS, None), recipe.get(WEIGHTS)
    same = {name: value for name, value in recipe.items() if name != WEIGHTS} == made_by
    return same and (known is None or asked is None or known == asked)


def fingerprint_of(record: Record) -> str | None:
    """What tells an image from any other; records of before version 0.2 have that of the file only."""
    return record.get("pixels_sha256") or record.get("sha256")


def is_same(record: Record, other: Record) -> bool:
    """Whether two records are of the same pixels; files of the same pixels may differ in how they are compressed."""
    name = "pixels_sha256" if record.get("pixels_sha256") and other.get("pixels_sha256") else "sha256"
    return record.get(name) == other.get(name)


def is_made_of(record: Record, images: Sequence[Record | None]) -> bool:
    """Whether a mask was made of these composites; one that is not stored or not known agrees with any."""
    made_of = record.get("images_sha256") or ()
    return all(
        image is None or fingerprint is None or fingerprint in (image.get("pixels_sha256"), image.get("sha256"))
        for image, fingerprint in zip(images, made_of, strict=False)
    )


class Store(Protocol):
    """Keeps composites and masks. Every method may be called twice; what is half written is not there.

    What cannot be reached raises ``StoreUnavailableError``, and passes.
    """

    def check(self) -> None:
        """Look whether the store can be used, before work is taken.

        Raises:
            StorageError: It cannot; the message says what to do.
        """
        ...

    def put_cells(self, cells: Sequence[Cell]) -> None:
        """Tell which cells there are, for those who ask what is missing."""
        ...

    def years(self) -> Sequence[int]:
        """Years with composites, or with masks from that year on; ascending."""
        ...

    def image_records(self, year: int, among: Collection[int] | None = None) -> Mapping[int, Record]:
        """Records of the composites of that year, by cell."""
        ...

    def mask_records(self, before: int, among: Collection[int] | None = None) -> Mapping[YearPair, Record]:
        """Records of the masks from that year on to any other."""
        ...

    def image_ids(self, year: int, among: Collection[int] | None = None, not_before: float = 0) -> AbstractSet[int]:
        """Cells with a composite of that year; of these cells only, made no earlier than that (seconds since 1970)."""
        ...

    def mask_ids(
        self, before: int, after: int, recipe: Record, among: Collection[int] | None = None, not_before: float = 0
    ) -> AbstractSet[int]:
        """Cells with a mask of those years that ``has_mask``."""
        ...

    def stale_mask_ids(
        self, before: int, after: int, recipe: Record, among: Collection[int] | None = None
    ) -> AbstractSet[int]:
        """Cells with a mask of those years by another recipe, or of composites that were replaced since."""
        ...

    def has_image(self, grid_year: GridYear, not_before: float = 0) -> bool:
        """Whether the composite is stored whole, made no earlier than that (seconds since 1970)."""
        ...

    def has_mask(self, pair: YearPair, recipe: Record, not_before: float = 0) -> bool:
        """Whether the mask is stored whole, made by that recipe of the composites that are stored now."""
        ...

    def put_image(self, grid_year: GridYear, image: StagedImage) -> None:
        """Store a composite; one that is there is replaced."""
        ...

    def get_image(self, grid_year: GridYear) -> Composite:
        """Read a composite.

        Raises:
            StorageError: It is not stored, or not whole.
        """
        ...

    def open_image(self, grid_year: GridYear) -> AbstractContextManager[CompositeRows]:
        """Open a composite to read it in strips.

        Raises:
            StorageError: It is not stored, or not whole.
        """
        ...

    def image_record(self, grid_year: GridYear) -> Record | None:
        """The record of a stored composite."""
        ...

    def image_file(self, grid_year: GridYear, scratch: Path) -> StagedImage:
        """A composite as a file: the stored one, or one made in ``scratch``.

        Raises:
            StorageError: It is not stored, or not whole.
        """
        ...

    def mask_files(self, pair: YearPair, scratch: Path) -> tuple[MaskFiles, Record]:
        """A mask as files: the stored ones, or some made in ``scratch``.

        Raises:
            StorageError: It is not stored, or not whole.
        """
        ...

    def put_mask(self, pair: YearPair, files: MaskFiles, record: Record) -> None:
        """Store a mask; one that is there is replaced."""
        ...

    def mask_record(self, pair: YearPair) -> Record | None:
        """The record of a stored mask."""
        ...
