"""Units of work and their names, which are the same everywhere: task ids, ledger, logs, messages, screens."""

from dataclasses import dataclass
from enum import StrEnum

from eo_tasks.errors import PermanentError


class Stage(StrEnum):
    """What is done, in order."""

    DOWNLOAD = "download"
    STORE = "store"
    BTC = "btc"


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """One step for one cell: of one year, or of two for BTC.

    Attributes:
        years: The year, or the earlier and the later one.
    """

    stage: Stage
    grid_id: int
    years: tuple[int, ...]

    @property
    def id(self) -> str:
        """The unit's name, such as ``download_463_2023`` or ``btc_463_2022_2023``."""
        return "_".join(map(str, (self.stage, self.grid_id, *self.years)))

    @property
    def period(self) -> str:
        """Its year or years, such as ``2023`` or ``2022_2023``."""
        return "_".join(map(str, self.years))

    @classmethod
    def parse(cls, unit_id: str) -> "Unit":
        """Read a unit's name.

        Raises:
            PermanentError: It is no unit's name.
        """
        try:
            stage, grid_id, *years = unit_id.split("_")
            unit = cls(Stage(stage), int(grid_id), tuple(map(int, years)))
        except ValueError:
            unit = None
        if unit is None or len(unit.years) != (2 if unit.stage is Stage.BTC else 1):
            raise PermanentError(f"{unit_id!r} is no unit: give one such as download_463_2023 or btc_463_2022_2023.")
        return unit

    def __str__(self) -> str:
        return f"Cell {self.grid_id}, {'–'.join(map(str, self.years))}"
