"""What a source is asked for, and the protocol that every source follows."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Protocol, Self

from eo_tasks.grid import Cell, GridYear
from eo_tasks.raster import Composite, PixelGrid


@dataclass(frozen=True)
class CompositeRequest:
    """One year's composite of a cell, or of a block of cells.

    Attributes:
        name: Of what is asked for, as messages begin: ``Cell 7, 2023``.
        pixels: The pixel grid of the result.
        bands: Band names in the order of the result.
        months: Consecutive months of the season, 1–12.
        masked_scl: Classes of the Scene Classification Layer that are not clear.
        max_cloud_cover: Scenes with more cloud than this are left out, percent.
    """

    name: str
    pixels: PixelGrid
    year: int
    bands: tuple[str, ...]
    months: tuple[int, ...]
    masked_scl: tuple[int, ...]
    max_cloud_cover: float | None = None

    @classmethod
    def of(cls, cell: Cell, year: int, *args: Any, **kwargs: Any) -> Self:
        """A request for one cell; the rest is given as to the class."""
        return cls(str(GridYear(cell.grid_id, year)), PixelGrid.of(cell), year, *args, **kwargs)

    @property
    def start(self) -> date:
        """First day of the season."""
        return date(self.year, self.months[0], 1)

    @property
    def end(self) -> date:
        """First day after the season."""
        last = self.months[-1]
        return date(self.year + 1, 1, 1) if last == 12 else date(self.year, last + 1, 1)


class Source(Protocol):
    """Makes yearly composites: cloud-masked by SCL, median over time, with the count of clear observations."""

    def composite(self, request: CompositeRequest, scratch: Path) -> Composite:
        """Make one composite on exactly ``request.pixels``.

        Args:
            request: What to make.
            scratch: Folder for files in transit; whatever is written there is temporary.

        Raises:
            EmptyCompositeError: No clear observation exists.
            SourceUnavailableError: The source did not answer, or said "later".
            SourceError: The source refused, or answered with something unusable.
        """
        ...
