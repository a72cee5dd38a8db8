"""One row for every cell and year, and the pair of years that begins with it, read part after part."""

from collections.abc import Iterator
from dataclasses import dataclass

from eo_tasks.grid import GridYear, YearPair
from eo_tasks.overview.known import Known
from eo_tasks.overview.letters import WAITING
from eo_tasks.report.scope import Pair, Scope
from eo_tasks.state.entry import Entry, State
from eo_tasks.storage import Record, Store
from eo_tasks.units import Unit

PART_CELLS = 500
NOT_WANTED = ""
Entries = dict[Unit, Entry]


@dataclass(frozen=True, slots=True)
class Row:
    """A cell in a year, and the change from then on; what is not known or not there is ``None``.

    Attributes:
        download: The unit's state: one of the ledger's, ``waiting`` where nothing is known of it yet, or nothing where
            nobody wants it. What is stored without the ledger knowing counts as ``skipped``.
        store: That of its store.
        scenes: How many the composite is made of.
        clear_share: Share of its pixels with a clear observation.
        year_after: The later year of the pair; the mask is named after ``year``.
        btc: The state of the pair's unit.
        model: The network's checkpoint.
        error: What the units that failed, or found nothing, said last.
    """

    grid_id: int
    label: str
    year: int
    download: str
    store: str
    source: str | None
    scenes: int | None
    clear_share: float | None
    image_made_at: str | None
    year_after: int | None
    btc: str
    changed_ha: float | None
    seen_ha: float | None
    threshold: float | None
    model: str | None
    mask_made_at: str | None
    error: str


def read_rows(known: Known, store: Store, scope: Scope, cells: range) -> Iterator[Row]:
    """Read the rows of these cells of the scope, counted from 0; none of a cell without a unit."""
    for start in range(cells.start, cells.stop, PART_CELLS):
        yield from _Part(known, store, scope, tuple(scope.grid_ids[start : min(start + PART_CELLS, cells.stop)])).rows()


class _Part:
    """A few cells, with all that is known of them."""

    def __init__(self, known: Known, store: Store, scope: Scope, grid_ids: tuple[int, ...]) -> None:
        self._scope, self._grid_ids = scope, grid_ids
        images = (GridYear(grid_id, year) for grid_id in grid_ids for year in scope.years)
        units = [unit for image in images for unit in (image.download, image.store)]
        units += [YearPair(grid_id, *pair).btc for grid_id in grid_ids for pair in scope.pairs]
        self._entries = known.ledger.entries(units)
        self._images = {year: store.image_records(year, grid_ids) for year in scope.years}
        self._masks: dict[YearPair, Record] = {}
        for before in sorted({before for before, _ in scope.pairs}):
            self._masks.update(store.mask_records(before, grid_ids))

    def rows(self) -> Iterator[Row]:
        """The rows, cell after cell."""
        for grid_id in self._grid_ids:
            for year in self._scope.years:
                for pair in self._scope.pairs_from(year) or (None,):
                    row = self._row(GridYear(grid_id, year), pair)
                    if row.download or row.store or row.btc:
                        yield row

    def _row(self, grid_year: GridYear, pair: Pair | None) -> Row:
        image: Record = self._images[grid_year.year].get(grid_year.grid_id) or {}
        units = [grid_year.download, grid_year.store]
        states = [self._state(unit, is_stored=bool(image)) for unit in units]
        mask: Record = {}
        if pair is not None:
            year_pair = YearPair(grid_year.grid_id, *pair)
            mask = self._masks.get(year_pair, {})
            units.append(year_pair.btc)
            states.append(self._state(year_pair.btc, is_stored=bool(mask)))
        entries = (self._entries[unit] for unit in units)
        errors = [one.error for one in entries if one.state.needs_a_person or one.state is State.EMPTY]
        return Row(
            grid_id=grid_year.grid_id,
            label=self._scope.labels.get(grid_year.grid_id, ""),
            year=grid_year.year,
            download=states[0],
            store=states[1],
            source=image.get("source"),
            scenes=len(image["scenes"]) if "scenes" in image else None,
            clear_share=image.get("clear_share"),
            image_made_at=image.get("made_at"),
            year_after=None if pair is None else pair[1],
            btc=NOT_WANTED if pair is None else states[2],
            changed_ha=mask.get("changed_ha"),
            seen_ha=mask.get("seen_ha"),
            threshold=mask.get("threshold"),
            model=_model(mask),
            mask_made_at=mask.get("made_at"),
            error="; ".join(dict.fromkeys(filter(None, errors))),
        )

    def _state(self, unit: Unit, *, is_stored: bool) -> str:
        entry = self._entries[unit]
        if entry != Entry():
            return str(entry.state)
        if is_stored:
            return str(State.SKIPPED)
        return WAITING if any(run.wants(unit) for run in self._scope.runs) else NOT_WANTED


def _model(mask: Record) -> str | None:
    checkpoint = (mask.get("model") or {}).get("checkpoint")
    return None if checkpoint is None else str(checkpoint)
