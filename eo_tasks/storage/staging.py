"""Composites on their way from a source into the store; a store that fails costs no second download."""

import re
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from pathlib import Path

from eo_tasks.grid import GridYear
from eo_tasks.storage.layout import STAGED, staged_file
from eo_tasks.storage.place import Place, record_of, whole
from eo_tasks.storage.store import Record, StagedImage, is_recent


class Staging:
    """Downloaded composites, where every worker finds them; the record is written last and makes one count."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def add(self, grid_year: GridYear, cog: Path, record: Record) -> None:
        """Keep a composite, its COG first; one that is there is replaced."""
        file = staged_file(grid_year)
        self.place.remove([record_of(file)])  # an old record must not vouch for the new file
        self.place.put(cog, file)
        self.place.put_record(file, record)

    def record(self, grid_year: GridYear, not_before: float = 0) -> Record | None:
        """The record of a staged composite; ``None`` if there is none, it is not whole, or older than that.

        Args:
            grid_year: Whose composite.
            not_before: Seconds since 1970.
        """
        record = whole(self.place, [staged_file(grid_year)]).get(staged_file(grid_year))
        return record if record is not None and is_recent(record, not_before) else None

    def get(self, grid_year: GridYear, scratch: Path, not_before: float = 0) -> StagedImage | None:
        """The staged composite as a file: the staged one, or a copy in ``scratch``."""
        record = self.record(grid_year, not_before)
        cog = None if record is None else self.place.local(staged_file(grid_year), scratch)
        return None if record is None or cog is None else StagedImage(cog, record)

    def grid_ids(self, year: int, among: Collection[int] | None = None, not_before: float = 0) -> AbstractSet[int]:
        """Cells whose composite of that year is staged; of these cells only, made no earlier than that."""
        if among is None:
            names = self.place.names(STAGED / str(year))
            found = (re.fullmatch(r"sentinel2_grid_(\d+)_\d+_08\.json", name) for name in names)
            among = [int(m[1]) for m in found if m]
        files = {staged_file(GridYear(grid_id, year)): grid_id for grid_id in among}
        records = whole(self.place, files.keys())
        return {files[file] for file, record in records.items() if is_recent(record, not_before)}

    def remove(self, grid_year: GridYear) -> None:
        """Forget a composite that is stored."""
        file = staged_file(grid_year)
        self.place.remove([record_of(file), file])
