"""wanted − done = work: the one function behind enqueueing, resuming, retrying and sweeping. Pure."""

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

from eo_tasks.errors import PermanentError
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.ranges import Ranges
from eo_tasks.units import Stage

FIRST_YEAR = 2015  # of Sentinel-2's archive

Cells = AbstractSet[int]


@dataclass(frozen=True)
class Wanted:
    """Cells × years; both ascending and each once."""

    grid_ids: Sequence[int]
    years: tuple[int, ...]

    @classmethod
    def of(cls, grid_ids: Collection[int], years: Collection[int], this_year: int) -> Self:
        """Check and order what a person asked for.

        Raises:
            PermanentError: No year or no cell was given, or a year has no imagery.
        """
        if not years:
            raise PermanentError("No years given: give them as [2022, 2023, 2024].")
        if not grid_ids:
            raise PermanentError("No cells given: give their ids as [463, 464], or leave them out for the whole grid.")
        for year in years:
            if isinstance(year, bool) or not isinstance(year, int) or not FIRST_YEAR <= year <= this_year:
                raise PermanentError(f"Year {year}: Sentinel-2 has years {FIRST_YEAR} to {this_year}.")
        return cls(Ranges.of(grid_ids), tuple(sorted(set(years))))

    @property
    def year_pairs(self) -> tuple[tuple[int, int], ...]:
        """Consecutive years of the request."""
        return tuple(pairwise(self.years))

    @property
    def places(self) -> tuple[tuple[Stage, str], ...]:
        """Stages and periods of the request, such as ``(Stage.BTC, "2022_2023")``."""
        images = tuple((stage, str(year)) for stage in (Stage.DOWNLOAD, Stage.STORE) for year in self.years)
        return (*images, *((Stage.BTC, f"{before}_{after}") for before, after in self.year_pairs))

    @property
    def spans(self) -> tuple[range, ...]:
        """The cells, as few spans of ids."""
        return (self.grid_ids if isinstance(self.grid_ids, Ranges) else Ranges.of(self.grid_ids)).spans

    def part(self, start: int, number: int) -> Self:
        """The same for a few of the cells."""
        return replace(self, grid_ids=self.grid_ids[start : start + number])


@dataclass(frozen=True)
class Inventory:
    """What is stored, by year or by pair of years.

    Attributes:
        images: Cells whose composite is in the store.
        staged: Cells whose composite is downloaded but not yet stored.
        masks: Cells whose change mask is in the store, made by the model and settings in force.
    """

    images: Mapping[int, Cells]
    staged: Mapping[int, Cells]
    masks: Mapping[tuple[int, int], Cells]


@dataclass(frozen=True)
class Plan:
    """What is missing, and what is not.

    Attributes:
        downloads: Grid-years to download and then store.
        stores: Grid-years that are downloaded and only need storing.
        pairs: Year pairs whose two composites are stored.
        waiting: Year pairs that need a composite first.
        images_done: Composites already stored.
        masks_done: Masks already stored.
    """

    downloads: tuple[GridYear, ...]
    stores: tuple[GridYear, ...]
    pairs: tuple[YearPair, ...]
    waiting: tuple[YearPair, ...]
    images_done: int
    masks_done: int

    @property
    def is_complete(self) -> bool:
        """Nothing is missing."""
        return not (self.downloads or self.stores or self.pairs or self.waiting)


def plan(wanted: Wanted, inventory: Inventory) -> Plan:
    """Compare what is wanted with what is stored.

    Work is ordered cell by cell where years allow it, so that a cell's pairs become ready early.
    """
    nothing: Cells = frozenset()
    missing = [
        GridYear(grid_id, year)
        for grid_id in wanted.grid_ids
        for year in wanted.years
        if grid_id not in inventory.images.get(year, nothing)
    ]
    pairs = [
        YearPair(grid_id, before, after)
        for grid_id in wanted.grid_ids
        for before, after in wanted.year_pairs
        if grid_id not in inventory.masks.get((before, after), nothing)
    ]
    absent = set(missing)
    return Plan(
        downloads=tuple(gy for gy in missing if gy.grid_id not in inventory.staged.get(gy.year, nothing)),
        stores=tuple(gy for gy in missing if gy.grid_id in inventory.staged.get(gy.year, nothing)),
        pairs=tuple(pair for pair in pairs if absent.isdisjoint(pair.grid_years)),
        waiting=tuple(pair for pair in pairs if not absent.isdisjoint(pair.grid_years)),
        images_done=len(wanted.grid_ids) * len(wanted.years) - len(missing),
        masks_done=len(wanted.grid_ids) * len(wanted.year_pairs) - len(pairs),
    )


def pairs_of(grid_year: GridYear, years: Collection[int]) -> tuple[YearPair, ...]:
    """The pairs of consecutive years that a grid-year belongs to."""
    return tuple(
        YearPair(grid_year.grid_id, before, after)
        for before, after in pairwise(sorted(set(years)))
        if grid_year.year in (before, after)
    )
