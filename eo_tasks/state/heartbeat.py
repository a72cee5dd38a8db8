"""The heartbeat that keeps a lease while its unit runs."""

import logging
from threading import Event, Thread
from types import TracebackType
from typing import Self

from redis.exceptions import RedisError

from eo_tasks.state.ledger import Lease, Ledger

log = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 3


class Heartbeat:
    """Renews a lease from a thread for as long as the ``with`` block lasts."""

    def __init__(self, ledger: Ledger, lease: Lease) -> None:
        self._ledger, self._lease = ledger, lease
        self._stop = Event()
        self._thread = Thread(target=self._beat, name=f"lease of {lease.unit.id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._stop.wait(self._ledger.limits.lease_s / RENEWALS_PER_LEASE):
            try:
                if not self._ledger.renew(self._lease):
                    log.warning("lease lost", extra={"unit": self._lease.unit.id})
                    return
            except RedisError as error:  # a restart of Redis may be shorter than the lease
                log.warning("lease not renewed", extra={"unit": self._lease.unit.id, "error": str(error)})
