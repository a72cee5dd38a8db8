"""The store of ``PIPELINE_MODE=hybrid``: local files first, the database after.

Files are what counts: a database that is away costs no image. What it misses then, synchronisation brings
(``steps/sync.py``), and likewise what only the database has.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TypeVar

from eo_tasks.errors import StorageFullError, StoreUnavailableError
from eo_tasks.grid import Cell, GridYear, YearPair
from eo_tasks.products.mask import MaskFiles
from eo_tasks.raster import Composite, CompositeRows
from eo_tasks.storage.store import Record, StagedImage, Store

T = TypeVar("T")

log = logging.getLogger(__name__)

REST_S = 30.0  # a database that was away is not asked again before


@dataclass
class HybridStore:
    """Files, and a database that follows them.

    Attributes:
        files: Asked first, and written first.
        database: Asked for what is not in files.
    """

    files: Store
    database: Store
    clock: Callable[[], float] = monotonic
    _away_until: float = field(default=float("-inf"), init=False)

    def check(self) -> None:
        """Look whether both can be used; a database that is only away may come back."""
        self.files.check()
        with self._forgiving("PostgreSQL"):
            self.database.check()

    def put_cells(self, cells: Sequence[Cell]) -> None:
        """Tell both which cells there are."""
        self.files.put_cells(cells)
        with self._forgiving("The cells") as is_there:
            if is_there:
                self.database.put_cells(cells)

    def years(self) -> Sequence[int]:
        """Years of either."""
        return sorted({*self.files.years(), *(self._asked(self.database.years) or ())})

    def image_records(self, year: int, among: Collection[int] | None = None) -> Mapping[int, Record]:
        """Records of the composites of that year, by cell."""
        there = self._asked(lambda: self.database.image_records(year, among)) or {}
        return {**there, **self.files.image_records(year, among)}

    def mask_records(self, before: int, among: Collection[int] | None = None) -> Mapping[YearPair, Record]:
        """Records of the masks from that year on to any other."""
        there = self._asked(lambda: self.database.mask_records(before, among)) or {}
        return {**there, **self.files.mask_records(before, among)}

    def image_ids(self, year: int, among: Collection[int] | None = None, not_before: float = 0) -> AbstractSet[int]:
        """Cells with a composite of that year, in either."""
        here = self.files.image_ids(year, among, not_before)
        missing = None if among is None else [grid_id for grid_id in among if grid_id not in here]
        if missing == []:
            return here
        return here | (self._asked(lambda: self.database.image_ids(year, missing, not_before)) or frozenset())

    def mask_ids(
        self, before: int, after: int, recipe: Record, among: Collection[int] | None = None, not_before: float = 0
    ) -> AbstractSet[int]:
        """Cells with a mask of those years made by that recipe; where there are files, they decide."""
        here = self.files.mask_ids(before, after, recipe, among, not_before)
        decided = here if not_before <= 0 else self.files.mask_ids(before, after, recipe, among)
        decided = decided | self.files.stale_mask_ids(before, after, recipe, among)
        missing = None if among is None else [grid_id for grid_id in among if grid_id not in decided]
        if missing == []:
            return here
        there = self._asked(lambda: self.database.mask_ids(before, after, recipe, missing, not_before))
        return here | ((there or frozenset()) - decided)

    def stale_mask_ids(
        self, before: int, after: int, recipe: Record, among: Collection[int] | None = None
    ) -> AbstractSet[int]:
        """Cells with a mask of those years made otherwise; where there are files, they decide."""
        here = self.files.stale_mask_ids(before, after, recipe, among)
        there = self._asked(lambda: self.database.stale_mask_ids(before, after, recipe, among))
        return here | ((there or frozenset()) - self.files.mask_ids(before, after, recipe, among))

    def has_image(self, grid_year: GridYear, not_before: float = 0) -> bool:
        """Whether either has the composite."""
        return bool(self.image_ids(grid_year.year, [grid_year.grid_id], not_before))

    def has_mask(self, pair: YearPair, recipe: Record, not_before: float = 0) -> bool:
        """Whether the mask is stored, made by that recipe of the composites that are stored now."""
        return bool(self.mask_ids(pair.before, pair.after, recipe, [pair.grid_id], not_before))

    def put_image(self, grid_year: GridYear, image: StagedImage) -> None:
        """Store a composite in files, then in the database if it is there."""
        self.files.put_image(grid_year, image)
        with self._forgiving(grid_year) as is_there:
            if is_there:
                self.database.put_image(grid_year, image)

    def get_image(self, grid_year: GridYear) -> Composite:
        """Read a composite whole."""
        return self._holder_of_image(grid_year).get_image(grid_year)

    @contextmanager
    def open_image(self, grid_year: GridYear) -> Iterator[CompositeRows]:
        """Open a composite to read it in strips."""
        with self._holder_of_image(grid_year).open_image(grid_year) as image:
            yield image

    def image_record(self, grid_year: GridYear) -> Record | None:
        """The record of a stored composite."""
        here = self.files.image_record(grid_year)
        return here if here is not None else self._asked(lambda: self.database.image_record(grid_year))

    def image_file(self, grid_year: GridYear, scratch: Path) -> StagedImage:
        """A composite as a file."""
        return self._holder_of_image(grid_year).image_file(grid_year, scratch)

    def put_mask(self, pair: YearPair, files: MaskFiles, record: Record) -> None:
        """Store a mask in files, then in the database if it is there and has the mask's composites."""
        self.files.put_mask(pair, files, record)
        with self._forgiving(pair) as is_there:
            if is_there and all(self.database.has_image(grid_year) for grid_year in pair.grid_years):
                self.database.put_mask(pair, files, record)

    def mask_record(self, pair: YearPair) -> Record | None:
        """The record of a stored mask."""
        here = self.files.mask_record(pair)
        return here if here is not None else self._asked(lambda: self.database.mask_record(pair))

    def mask_files(self, pair: YearPair, scratch: Path) -> tuple[MaskFiles, Record]:
        """A mask as files."""
        holder = self.database if self.files.mask_record(pair) is None else self.files
        return holder.mask_files(pair, scratch)

    def _holder_of_image(self, grid_year: GridYear) -> Store:
        return self.files if self.files.has_image(grid_year) else self.database

    def _asked(self, question: Callable[[], T]) -> T | None:
        """An answer of the database; ``None`` while it is away."""
        with self._forgiving("PostgreSQL") as is_there:
            if is_there:
                return question()
        return None

    def _is_there(self) -> bool:
        return self.clock() >= self._away_until

    @contextmanager
    def _forgiving(self, what: object) -> Iterator[bool]:
        """Go on without a database that is away or full, and let it rest; gives whether it is worth asking."""
        try:
            yield self._is_there()
        except (StoreUnavailableError, StorageFullError) as error:
            self._away_until = self.clock() + REST_S
            log.warning("the database is left out for now: %s", error, extra={"what": str(what)})
