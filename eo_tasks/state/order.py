"""An order: what is asked of a remote source for many cells at once, and how far that has got."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from eo_tasks.ranges import read_ranges, write_ranges
from eo_tasks.units import Stage, Unit

TITLE = "eo-tasks"


class OrderState(StrEnum):
    """How far an order is, in this order."""

    WAITING = "waiting"  # written down; nothing was asked for yet
    CREATING = "creating"  # a job was asked for, its id is not known yet
    CREATED = "created"  # the job is there, and not started
    STARTED = "started"  # the source works on it, or has it in its queue
    READY = "ready"  # a worker can fetch the result


@dataclass(frozen=True)
class Order:
    """One year's composites of neighbouring cells; times are seconds since 1970.

    Attributes:
        source: Which group of settings: ``openeo`` or ``openeo2``.
        account: Whose limits it counts against.
        is_batch: Whether a job makes it, or one synchronous request.
        run: The run that pays for it.
        recipe: Fingerprint of what is asked for, beside cells and year.
        extra_months: Months added on both sides of the season.
        not_before: A job older than that must not be taken for this order's.
        due: Nothing is done with it before.
        job_id: Of the job at the source.
        ignored: Earlier jobs of this order, which gave nothing.
        attempts: Tries that failed for passing reasons.
        sent: Messages that asked a worker to fetch it, since something was last heard of it.
        begun_at: When the source was first seen at work on it.
        credits: What it did cost.
        error: Why the last try failed.
    """

    id: str
    source: str
    account: str
    is_batch: bool
    year: int
    cells: tuple[int, ...]
    recipe: str
    run: str
    created_at: float
    extra_months: int = 0
    not_before: float = 0
    state: OrderState = OrderState.WAITING
    since: float = 0
    due: float = 0
    job_id: str = ""
    ignored: tuple[str, ...] = ()
    attempts: int = 0
    sent: int = 0
    begun_at: float = 0
    credits: float | None = None
    error: str = ""

    @property
    def units(self) -> list[Unit]:
        """The downloads it makes."""
        return [Unit(Stage.DOWNLOAD, cell, (self.year,)) for cell in self.cells]

    @property
    def name(self) -> str:
        """As messages begin."""
        what = f"Cell {self.cells[0]}" if len(self.cells) == 1 else f"Cells {write_ranges(sorted(self.cells))}"
        return f"{what}, {self.year}"

    @property
    def title(self) -> str:
        """The title of its job: unlike any other, and enough to find and understand it without Redis."""
        return f"{TITLE} {self.id} {self.recipe} {self.year} cells {write_ranges(sorted(self.cells))}"

    @property
    def holds_slot(self) -> bool:
        """Whether it counts against its account's limit."""
        if not self.is_batch:
            return self.state is OrderState.READY
        return self.state in (OrderState.CREATING, OrderState.CREATED, OrderState.STARTED)

    def write(self) -> str:
        """The order as Redis keeps it."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str | bytes) -> "Order":
        """Read an order as Redis keeps it."""
        record: dict[str, Any] = json.loads(text)
        record["state"] = OrderState(record["state"])
        record["cells"], record["ignored"] = _tuple(record["cells"]), _tuple(record["ignored"])
        return cls(**record)


@dataclass(frozen=True)
class Titled:
    """What the title of a job tells of it."""

    order_id: str
    recipe: str
    year: int
    cells: frozenset[int]

    def makes(self, order: Order) -> bool:
        """Whether such a job makes what the order asks for."""
        return (self.recipe, self.year) == (order.recipe, order.year) and self.cells.issuperset(order.cells)


def read_title(title: str) -> Titled | None:
    """Read a job's title; ``None`` if the job is not one of ours."""
    match title.split():
        case [first, order_id, recipe, year, "cells", cells] if first == TITLE:
            try:
                return Titled(order_id, recipe, int(year), frozenset(read_ranges(cells)))
            except ValueError:
                return None
    return None


def _tuple(items: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(items)  # an empty list comes back from Lua as an empty object
