"""The heartbeat that keeps a process's leases while their units run."""

import logging
import sys
from collections.abc import Callable
from threading import Event, Lock, Thread
from time import monotonic
from typing import TypeVar

from redis.exceptions import RedisError

from eo_tasks.errors import LeaseLostError
from eo_tasks.state.entry import Lease
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.orders import OrderLease, Orders
from eo_tasks.units import Unit

if sys.platform == "linux":
    from time import CLOCK_BOOTTIME, clock_gettime

log = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 3
L = TypeVar("L", Lease, OrderLease)


def _now() -> float:
    """Seconds that also pass while this process, or the whole machine, is frozen."""
    return clock_gettime(CLOCK_BOOTTIME) if sys.platform == "linux" else monotonic()


class Heartbeat:
    """Renews leases from one thread, which starts with the first of them and lasts as long as the process."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float] = _now, orders: Orders | None = None) -> None:
        self._ledger, self._orders = ledger, orders
        self._clock = clock
        self._held: dict[Unit | str, Lease | OrderLease] = {}
        self._renewed: dict[Unit | str, float] = {}
        self._lost: set[Unit | str] = set()
        self._lock, self._stop = Lock(), Event()
        self._thread: Thread | None = None

    def take(self, ask: Callable[[], L | None]) -> L | None:
        """Ask for a lease, and renew it from now on; it is as old as the question."""
        asked = self._clock()
        lease = ask()
        if lease is None:
            return None
        with self._lock:
            self._held[lease.unit] = lease
            self._renewed[lease.unit] = asked
            self._lost.discard(lease.unit)
            if self._thread is None:
                self._thread = Thread(target=self._beat, name="leases", daemon=True)
                self._thread.start()
        return lease

    def drop(self, lease: Lease | OrderLease) -> None:
        """Renew it no more."""
        with self._lock:
            self._held.pop(lease.unit, None)
            self._renewed.pop(lease.unit, None)
            self._lost.discard(lease.unit)

    def confirm(self, unit: Unit | str) -> None:
        """Make sure that the unit, or the order of this id, is still this process's, before its output is published.

        A lease that was renewed a moment ago holds, and nobody is asked. While Redis does not answer, the answer is
        yes: publishing is atomic, and what two make is the same.

        Raises:
            LeaseLostError: It was frozen or cut off for longer than a lease, or the unit was canceled.
        """
        with self._lock:
            lease = self._held.get(unit)
        if lease is None and unit not in self._lost:
            return  # not run under a lease
        if lease is not None and self._clock() - self._renewed.get(unit, 0) > self._ledger.limits.lease_s / 2:
            self._renew(lease)
        if unit in self._lost:
            raise LeaseLostError(f"{unit}: the lease was lost; another worker answers for it, or it was canceled.")

    def stop(self) -> None:
        """End the thread; for processes that outlive their connection to Redis."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._ledger.limits.lease_s / RENEWALS_PER_LEASE):
            with self._lock:
                held = list(self._held.values())
            for lease in held:
                self._renew(lease)

    def _renew(self, lease: Lease | OrderLease) -> None:
        try:
            asked = self._clock()
            if self._prolong(lease):
                with self._lock:
                    if lease.unit in self._held:
                        self._renewed[lease.unit] = asked
                return
        except RedisError as error:  # a restart of Redis may be shorter than the lease
            log.warning("lease not renewed", extra={"unit": _name(lease), "error": str(error)})
            return
        with self._lock:
            if self._held.get(lease.unit) is lease:  # it may have ended in the meantime
                del self._held[lease.unit]
                self._lost.add(lease.unit)
                log.warning("lease lost", extra={"unit": _name(lease)})

    def _prolong(self, lease: Lease | OrderLease) -> bool:
        if isinstance(lease, Lease):
            return self._ledger.renew(lease)
        return self._orders is not None and self._orders.renew(lease)


def _name(lease: Lease | OrderLease) -> str:
    return lease.unit.id if isinstance(lease, Lease) else f"order {lease.unit}"
