"""What rows add up to."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest

from eo_tasks.report.rows import Row
from eo_tasks.report.scope import Pair
from eo_tasks.units import Stage

SHOWN_CELLS = 6  # pictures


@dataclass(frozen=True)
class YearImages:
    """The stored composites of one year.

    Attributes:
        clear_share: Their mean share of pixels with a clear observation.
    """

    year: int
    stored: int
    clear_share: float | None


@dataclass(frozen=True)
class PairChanges:
    """The stored masks of one pair of years.

    Attributes:
        changed_share: Of the area that was seen in both years.
    """

    before: int
    after: int
    masks: int
    changed_ha: float
    seen_ha: float

    @property
    def changed_share(self) -> float | None:
        """Share of the area seen in both years that changed."""
        return self.changed_ha / self.seen_ha if self.seen_ha else None


@dataclass
class Tally:
    """Sums of rows.

    Attributes:
        states: Units by stage and period, by state.
        most_changed: Of each pair of years, the cells in which most changed, the most first.
    """

    states: dict[tuple[Stage, str], Counter[str]] = field(default_factory=dict)
    clear_shares: dict[int, list[float]] = field(default_factory=dict)  # number and sum
    changes: dict[Pair, list[float]] = field(default_factory=dict)  # number, changed and seen hectares
    most_changed: dict[Pair, list[Row]] = field(default_factory=dict)

    @property
    def images(self) -> Sequence[YearImages]:
        """Composites by year."""
        return [
            YearImages(year, int(number), share / number if number else None)
            for year, (number, share) in sorted(self.clear_shares.items())
        ]

    @property
    def pairs(self) -> Sequence[PairChanges]:
        """Masks by pair of years."""
        return [
            PairChanges(*pair, int(number), round(changed, 4), round(seen, 4))
            for pair, (number, changed, seen) in sorted(self.changes.items())
        ]


def tally_of(rows: Iterable[Row]) -> Tally:
    """Add rows up; those of one cell and year follow each other."""
    made = Tally()
    last = None
    for row in rows:
        if (row.grid_id, row.year) != last:  # it has a row for each pair that begins with it
            last = row.grid_id, row.year
            _count(made, Stage.DOWNLOAD, str(row.year), row.download)
            _count(made, Stage.STORE, str(row.year), row.store)
            number, share = made.clear_shares.setdefault(row.year, [0, 0])
            if row.clear_share is not None:
                made.clear_shares[row.year] = [number + 1, share + row.clear_share]
        if row.year_after is not None:
            pair = row.year, row.year_after
            _count(made, Stage.BTC, f"{row.year}_{row.year_after}", row.btc)
            number, changed, seen = made.changes.setdefault(pair, [0, 0, 0])
            if row.changed_ha is not None:
                made.changes[pair] = [number + 1, changed + row.changed_ha, seen + (row.seen_ha or 0)]
                best = [*made.most_changed.get(pair, []), row]
                made.most_changed[pair] = nlargest(SHOWN_CELLS, best, key=lambda one: one.changed_ha or 0)
    return made


def _count(made: Tally, stage: Stage, period: str, state: str) -> None:
    if state:
        made.states.setdefault((stage, period), Counter())[state] += 1
