"""The orders that are open, in Redis, moved by atomic steps, and the limits of the accounts that they are made with."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from time import time
from typing import Any

from redis import Redis

from eo_tasks.state.entry import Lease, Limits
from eo_tasks.state.order import Order
from eo_tasks.state.order_scripts import ADMIT, CHANGE, JOIN, KEEP, RELEASE, REORDER
from eo_tasks.units import Stage, Unit

TICK = "tick"
ORDERS, ORDER_OF = "eo-tasks:orders", "eo-tasks:order-of"


class Admission(StrEnum):
    """Whether an account has room for one more job or request."""

    ADMITTED = "admitted"
    FULL = "full"  # as many as it may have are at work
    FAST = "fast"  # as many as it may begin in a minute were begun
    CHANGED = "changed"  # someone else moved the order on


@dataclass(frozen=True, slots=True)
class OrderLease:
    """The right to work on an order, held by ``owner`` while it is renewed; ``unit`` is the order's id."""

    unit: str
    owner: str


class Orders:
    """Open orders in one Redis database; safe for any number of processes."""

    def __init__(self, redis: Redis, limits: Limits, clock: Callable[[], float] = time) -> None:
        self._redis, self._limits, self._clock = redis, limits, clock
        self._join, self._reorder, self._change = map(redis.register_script, (JOIN, REORDER, CHANGE))
        self._admit, self._keep, self._release = map(redis.register_script, (ADMIT, KEEP, RELEASE))

    def all(self, account: str | None = None) -> list[Order]:
        """Every open order, or those of an account, oldest first."""
        found = map(Order.parse, self._redis.hvals(ORDERS))
        return sorted(
            (order for order in found if account in (None, order.account)),
            key=lambda order: (order.created_at, order.id),
        )

    def are_open(self) -> bool:
        """Whether there is any open order."""
        return bool(self._redis.exists(ORDERS))

    def get(self, order_id: str) -> Order | None:
        """An open order by its id."""
        text = self._redis.hget(ORDERS, order_id)
        return None if text is None else Order.parse(text)

    def open_units(self, order: Order) -> list[Unit]:
        """Units of an order that are not made yet."""
        held_by = self._redis.hmget(ORDER_OF, [unit.id for unit in order.units])
        return [unit for unit, order_id in zip(order.units, held_by, strict=True) if order_id == order.id]

    def of(self, units: Sequence[Unit]) -> dict[Unit, str]:
        """The open orders that have these units."""
        if not units:
            return {}
        held_by = self._redis.hmget(ORDER_OF, [unit.id for unit in units])
        known = set(self._redis.hkeys(ORDERS))
        return {unit: str(order_id) for unit, order_id in zip(units, held_by, strict=True) if order_id in known}

    def join(self, order: Order) -> Order | None:
        """Open an order with those of its units that are free; they are *ordered* from now on.

        Returns:
            The order as it is open now; ``None`` if no unit was free, or each belongs to an open order already.
        """
        fields = [field for unit in order.units for field in (unit.period, unit.grid_id)]
        claimed = self._join(args=[self._now(), order.id, order.write(), Stage.DOWNLOAD, self._limits.lease_s, *fields])
        return replace(order, cells=tuple(map(int, claimed))) if claimed else None

    def reorder(self, lease: Lease, order: Order) -> bool:
        """Open an order for a unit that this process holds the lease of; ``False`` if the lease was lost."""
        unit = lease.unit
        given = (unit.stage, unit.period, unit.grid_id, lease.owner, lease.began)
        return bool(self._reorder(args=[self._now(), *given, order.id, order.write(), self._limits.lease_s]))

    def move(self, order: Order, changed: Order) -> bool:
        """Write down how an order stands now; ``False`` if someone else changed it in between."""
        return self._changed(order, changed.write(), holds=changed.holds_slot)

    def split(self, order: Order, parts: Iterable[Order]) -> bool:
        """Replace an order by others that take its units over; ``False`` if someone else changed it in between."""
        heirs = [text for part in parts for text in (part.id, part.write())]
        return self._changed(order, "", *heirs, holds=False)

    def drop(self, order: Order) -> bool:
        """Close an order; ``False`` if someone else changed it in between."""
        return self._changed(order, "", holds=False)

    def admit(self, order: Order, changed: Order, *, most: int, most_a_minute: int) -> Admission:
        """Move an order on if its account has room for one more job or request, by the clock of Redis."""
        starts = f"eo-tasks:order-starts:{order.account}"
        given: list[Any] = [order.id, self._text(order), changed.write(), _slots(order), most, starts, most_a_minute]
        return Admission(str(self._admit(args=given)))

    def lease(self, order_id: str, owner: str) -> OrderLease | None:
        """Lease an order, or ``TICK`` for the look at all of them; ``None`` if someone else has it."""
        lease = OrderLease(order_id, owner)
        taken = self._redis.set(_lease_key(order_id), owner, nx=True, px=round(self._limits.lease_s * 1000))
        return lease if taken else None

    def renew(self, lease: OrderLease) -> bool:
        """Prolong a lease; ``False`` if another has the order."""
        lease_ms = round(self._limits.lease_s * 1000)
        return bool(self._keep(args=[_lease_key(lease.unit), lease.owner, lease_ms]))

    def release(self, lease: OrderLease) -> None:
        """Give an order free."""
        self._release(args=[_lease_key(lease.unit), lease.owner])

    def release_all(self) -> None:
        """Give every order free; only for someone who knows that no process lives."""
        self._redis.delete(*map(_lease_key, (TICK, *map(str, self._redis.hkeys(ORDERS)))))

    def is_leased(self, order: Order) -> bool:
        """Whether a living process works on an order."""
        return bool(self._redis.exists(_lease_key(order.id)))

    def _changed(self, order: Order, text: str, *heirs: str, holds: bool) -> bool:
        given: list[Any] = [self._now(), order.id, self._text(order), text, _slots(order), "hold" if holds else "free"]
        return bool(self._change(args=[*given, Stage.DOWNLOAD, *heirs]))

    def _text(self, order: Order) -> Any:
        """The order's text as Redis has it, if it says the same as this one: Lua writes JSON in its own way."""
        text = self._redis.hget(ORDERS, order.id)
        return text if text is not None and Order.parse(text) == order else "changed"

    def _now(self) -> float:
        return round(self._clock(), 3)


def _slots(order: Order) -> str:
    return f"eo-tasks:order-slots:{order.account}:{'jobs' if order.is_batch else 'requests'}"


def _lease_key(order_id: str) -> str:
    return f"eo-tasks:lease:order:{order_id}"
