"""One cell: what is stored of it, and where each of its units stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eo_tasks.grid import Bounds, Cell, GridYear, YearPair
from eo_tasks.overview.known import Known
from eo_tasks.state.entry import Entry
from eo_tasks.storage import Record, Store
from eo_tasks.units import Stage, Unit

IMAGE_FACTS = (
    "bands", "source", "collection", "scenes", "dates", "months", "clear_share", "clear_count_mean", "width", "height",
    "resolution_m", "size_bytes", "made_at",
)  # fmt: skip
MASK_FACTS = ("changed_ha", "seen_ha", "threshold", "model", "width", "height", "resolution_m", "made_at")


@dataclass(frozen=True)
class UnitInfo:
    """A unit as the ledger has it; times are seconds since 1970, 0 for never."""

    id: str
    stage: Stage
    state: str
    attempts: int
    deaths: int
    since: float
    started_at: float
    due: float
    worker: str
    error: str

    @classmethod
    def of(cls, unit: Unit, entry: Entry) -> "UnitInfo":
        """Both together."""
        return cls(
            unit.id, unit.stage, str(entry.state), entry.attempts, entry.deaths, entry.since, entry.started_at,
            entry.due, entry.worker, entry.error,
        )  # fmt: skip


@dataclass(frozen=True)
class YearOfCell:
    """A year: its two units, and the record of its composite where there is one."""

    year: int
    download: UnitInfo
    store: UnitInfo
    image: Mapping[str, Any] | None


@dataclass(frozen=True)
class PairOfCell:
    """Two years: their unit, and the record of their mask where there is one."""

    before: int
    after: int
    btc: UnitInfo
    mask: Mapping[str, Any] | None


@dataclass(frozen=True)
class CellView:
    """Everything about one cell.

    Attributes:
        bounds: In metres of ``epsg``.
        centre: Longitude and latitude.
    """

    grid_id: int
    label: str | None
    epsg: int
    bounds: Bounds
    centre: tuple[float, float]
    years: Sequence[YearOfCell]
    pairs: Sequence[PairOfCell]


def view_cell(known: Known, store: Store, cell: Cell, centre: tuple[float, float]) -> CellView:
    """Read one cell's units and records."""
    periods = known.ledger.periods()
    years = {int(period) for stage, period in periods if stage is not Stage.BTC} | set(store.years())
    pairs = {(int(a), int(b)) for a, b in (period.split("_") for stage, period in periods if stage is Stage.BTC)}
    for run in known.runs.all():
        if cell.grid_id in run.wanted.grid_ids:
            years |= set(run.wanted.years)
            pairs |= set(run.wanted.year_pairs)
    records = {year: store.image_record(GridYear(cell.grid_id, year)) for year in sorted(years)}
    for year in records:
        pairs |= {(pair.before, pair.after) for pair in store.mask_records(year, [cell.grid_id])}
    masks = {pair: store.mask_record(YearPair(cell.grid_id, *pair)) for pair in sorted(pairs)}
    grid_years = [GridYear(cell.grid_id, year) for year in records]
    units = [unit for one in grid_years for unit in (one.download, one.store)]
    entries = known.ledger.entries([*units, *(YearPair(cell.grid_id, *pair).btc for pair in masks)])

    def info(unit: Unit) -> UnitInfo:
        return UnitInfo.of(unit, entries[unit])

    return CellView(
        cell.grid_id,
        cell.label,
        cell.epsg,
        cell.bounds,
        centre,
        tuple(
            YearOfCell(one.year, info(one.download), info(one.store), _chosen(records[one.year], IMAGE_FACTS))
            for one in grid_years
        ),
        tuple(
            PairOfCell(*pair, info(YearPair(cell.grid_id, *pair).btc), _chosen(record, MASK_FACTS))
            for pair, record in masks.items()
        ),
    )


def _chosen(record: Record | None, names: Sequence[str]) -> Mapping[str, Any] | None:
    return None if record is None else {name: record[name] for name in names if name in record}
