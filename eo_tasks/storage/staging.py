"""Composites on their way from a source into the store; a store that fails costs no second download."""

import re
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from pathlib import Path

from eo_tasks.files import read_json, write_json
from eo_tasks.grid import GridYear
from eo_tasks.storage.layout import image_name, is_whole
from eo_tasks.storage.store import Record, StagedImage, is_recent


class Staging:
    """A folder of downloaded composites; the record is written last and makes one count."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / "staging"

    def cog(self, grid_year: GridYear) -> Path:
        """Where the COG of a composite is staged."""
        return self.folder / str(grid_year.year) / image_name(grid_year)

    def add(self, grid_year: GridYear, record: Record) -> None:
        """Declare the staged COG whole."""
        write_json(self.cog(grid_year).with_suffix(".json"), record)

    def get(self, grid_year: GridYear, not_before: float = 0) -> StagedImage | None:
        """The staged composite; ``None`` if there is none, it is not whole, or older than that (seconds since 1970)."""
        cog = self.cog(grid_year)
        record = read_json(cog.with_suffix(".json"))
        is_there = record is not None and is_whole(cog, record) and is_recent(record, not_before)
        return StagedImage(cog, record) if is_there and record is not None else None

    def grid_ids(self, year: int, among: Collection[int] | None = None, not_before: float = 0) -> AbstractSet[int]:
        """Cells whose composite of that year is staged; of these cells only, made no earlier than that."""
        folder = self.folder / str(year)
        if not folder.is_dir():
            return frozenset()
        if among is None:
            found = (re.fullmatch(r"sentinel2_grid_(\d+)_\d+_08\.json", path.name) for path in folder.iterdir())
            among = [int(m[1]) for m in found if m]
        return {grid_id for grid_id in among if self.get(GridYear(grid_id, year), not_before) is not None}

    def remove(self, grid_year: GridYear) -> None:
        """Forget a composite that is stored."""
        cog = self.cog(grid_year)
        cog.with_suffix(".json").unlink(missing_ok=True)
        cog.unlink(missing_ok=True)
