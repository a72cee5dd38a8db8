"""What waits for a person, by its reason."""

from collections.abc import Sequence
from dataclasses import dataclass

from eo_tasks.overview.known import Known

MOST_CELLS = 1000
MOST_UNITS = 5


@dataclass(frozen=True)
class FailureGroup:
    """Units that failed for the same reason.

    Attributes:
        id: Short fingerprint, as ``eo-tasks retry --error`` takes it.
        message: With ``#`` for what differs.
        example: The message of one of them.
        units: Some of them.
        cells: Their cells, the first thousand.
    """

    id: str
    error_class: str
    message: str
    example: str
    number: int
    units: Sequence[str]
    cells: Sequence[int]


def read_failures(known: Known) -> list[FailureGroup]:
    """Groups of failed and quarantined units, the most frequent first."""
    found = []
    for group in known.ledger.error_groups():
        units = known.ledger.stuck_units([group.fingerprint], most=MOST_CELLS)
        cells = sorted({unit.grid_id for unit in units})[:MOST_CELLS]
        shown = [unit.id for unit in units[:MOST_UNITS]]
        found.append(
            FailureGroup(
                group.fingerprint, group.error_class, group.template, group.example, group.number, shown, cells
            )
        )
    return found
