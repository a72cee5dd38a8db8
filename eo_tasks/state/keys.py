"""Names of the ledger's keys, and units in the groups in which Redis is asked about them."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TypeVar

from eo_tasks.units import Stage, Unit

T = TypeVar("T")

CHUNK = 1000  # units of one command
PERIODS, CHANGED, ERRORS = "eo-tasks:periods", "eo-tasks:changed", "eo-tasks:errors"


def units_key(stage: Stage, period: str) -> str:
    """Hash of cell → entry."""
    return f"eo-tasks:units:{stage}:{period}"


def counts_key(stage: Stage, period: str) -> str:
    """Hash of state → number of units."""
    return f"eo-tasks:counts:{stage}:{period}"


def active_key(stage: Stage) -> str:
    """Sorted set of units in flight, by the time at which someone should look at them."""
    return f"eo-tasks:active:{stage}"


def ready_key(run_id: str, stage: Stage) -> str:
    """List of a run's units that wait for room."""
    return f"eo-tasks:ready:{run_id}:{stage}"


def stuck_key(print_id: str) -> str:
    """Set of units that wait for a person with this kind of error."""
    return f"eo-tasks:stuck:{print_id}"


def lease_key(unit: Unit) -> str:
    """Who runs a unit."""
    return f"eo-tasks:lease:{unit.id}"


def by_place(units: Iterable[Unit]) -> Iterator[tuple[tuple[Stage, str], list[Unit]]]:
    """Units by stage and period, in their order otherwise."""
    ordered = sorted(units, key=_place)
    return ((place, list(members)) for place, members in groupby(ordered, key=_place))


def batches(units: Iterable[Unit]) -> Iterator[tuple[Stage, list[str | int]]]:
    """Units by stage, in their order otherwise, as the arguments of a script, not too many at once."""
    by_stage: dict[Stage, list[Unit]] = {}
    for unit in units:
        by_stage.setdefault(unit.stage, []).append(unit)
    for stage, members in by_stage.items():
        for chunk in chunks(members):
            yield stage, [field for unit in chunk for field in (unit.period, unit.grid_id)]


def chunks(members: Sequence[T]) -> Iterator[Sequence[T]]:
    """Not too many at once."""
    return (members[start : start + CHUNK] for start in range(0, len(members), CHUNK))


def named_units(stage: Stage, items: Iterable[str | bytes]) -> list[Unit]:
    """Units as the scripts name them: ``cell:period``."""
    parts = (str(item).split(":") for item in items)
    return [Unit(stage, int(grid_id), years_of(period)) for grid_id, period in parts]


def years_of(period: str) -> tuple[int, ...]:
    """The years of a period such as ``2022_2023``."""
    return tuple(map(int, period.split("_")))


def _place(unit: Unit) -> tuple[Stage, str]:
    return unit.stage, unit.period
