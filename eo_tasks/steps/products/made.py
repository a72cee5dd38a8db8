"""What products are made of, and what was made."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from eo_tasks.grid import YearPair


@dataclass(frozen=True)
class Selection:
    """The cells and years that products are made of.

    Attributes:
        years: ``None`` for all; a mask counts if both of its years do.
        grid_ids: ``None`` for all.
    """

    years: frozenset[int] | None = None
    grid_ids: tuple[int, ...] | None = None

    @property
    def is_all(self) -> bool:
        """Whether it leaves nothing out."""
        return self.years is None and self.grid_ids is None

    def of_years(self, years: Iterable[int]) -> list[int]:
        """Those of these years that are selected."""
        return [year for year in years if self.years is None or year in self.years]

    def has(self, pair: YearPair) -> bool:
        """Whether both years of a mask are selected."""
        return self.years is None or {pair.before, pair.after} <= self.years


@dataclass(frozen=True)
class Made:
    """What was done for one product.

    Attributes:
        what: Made of, in the plural: ``items``, ``polygons``, ``pictures``.
        where: The file or folder to open.
        made: How many were made.
        kept: How many were there already.
        removed: How many had nothing left to stand for.
        failures: What could not be made, and why.
        note: Anything else worth a line.
    """

    what: str
    where: Path
    made: int
    kept: int = 0
    removed: int = 0
    failures: tuple[str, ...] = ()
    note: str = ""

    @property
    def is_nothing(self) -> bool:
        """Whether there was nothing to make it of."""
        return not self.made and not self.kept and not self.failures
