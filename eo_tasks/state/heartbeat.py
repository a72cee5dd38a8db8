"""The heartbeat that keeps leases while their units run."""

import logging
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self

from redis.exceptions import RedisError

from eo_tasks.state.ledger import Lease, Ledger

log = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 3


class Heartbeat:
    """Renews leases from a thread for as long as the ``with`` block lasts.

    Args:
        ledger: Where they are kept.
        leases: Those held from the start; ``hold`` adds some, ``drop`` takes one away.
    """

    def __init__(self, ledger: Ledger, *leases: Lease) -> None:
        self._ledger = ledger
        self._leases = dict.fromkeys(leases)
        self._lock, self._stop = Lock(), Event()
        self._thread = Thread(target=self._beat, name="leases", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def hold(self, lease: Lease) -> None:
        """Renew this one too."""
        with self._lock:
            self._leases[lease] = None

    def drop(self, lease: Lease) -> None:
        """Renew it no more."""
        with self._lock:
            self._leases.pop(lease, None)

    def _beat(self) -> None:
        while not self._stop.wait(self._ledger.limits.lease_s / RENEWALS_PER_LEASE):
            with self._lock:
                held = list(self._leases)
            for lease in held:
                self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        try:
            if not self._ledger.renew(lease):
                with self._lock:
                    was_held = lease in self._leases  # it may have ended in the meantime
                    self._leases.pop(lease, None)
                if was_held:
                    log.warning("lease lost", extra={"unit": lease.unit.id})
        except RedisError as error:  # a restart of Redis may be shorter than the lease
            log.warning("lease not renewed", extra={"unit": lease.unit.id, "error": str(error)})
