"""The protocol that every store follows."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from eo_tasks.grid import GridYear, YearPair
from eo_tasks.products.mask import MaskFiles
from eo_tasks.raster import Composite, CompositeRows

Record = Mapping[str, Any]  # the JSON beside an image or a mask


@dataclass(frozen=True)
class StagedImage:
    """A checked composite on its way into the store: its COG and its record."""

    cog: Path
    record: Record


class Store(Protocol):
    """Keeps composites and masks. Every method may be called twice; what is half written is not there."""

    def image_ids(self, year: int) -> AbstractSet[int]:
        """Cells with a composite of that year."""
        ...

    def mask_ids(self, before: int, after: int, recipe: Record) -> AbstractSet[int]:
        """Cells with a mask of those years made by that recipe; masks of another recipe are stale."""
        ...

    def has_image(self, grid_year: GridYear) -> bool:
        """Whether the composite is stored whole."""
        ...

    def has_mask(self, pair: YearPair, recipe: Record) -> bool:
        """Whether the mask is stored whole, made by that recipe."""
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

    def put_mask(self, pair: YearPair, files: MaskFiles, record: Record) -> None:
        """Store a mask; one that is there is replaced."""
        ...

    def mask_record(self, pair: YearPair) -> Record | None:
        """The record of a stored mask."""
        ...
