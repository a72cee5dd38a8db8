"""What the system knows, in one place: the parts of Redis that a look at it needs."""

from dataclasses import dataclass
from typing import Self

from redis import Redis

from eo_tasks.state.accounts import Accounts
from eo_tasks.state.entry import Limits
from eo_tasks.state.history import History
from eo_tasks.state.lookups import Lookups
from eo_tasks.state.orders import Orders
from eo_tasks.state.runs import Runs
from eo_tasks.state.workers import Workers

QUEUES = ("downloads", "stores", "btc", "control")


@dataclass(frozen=True)
class Known:
    """Read-only views of one Redis, and of the broker's queues."""

    broker: Redis
    ledger: Lookups
    runs: Runs
    orders: Orders
    accounts: Accounts
    history: History
    workers: Workers

    @classmethod
    def of(cls, state: Redis, broker: Redis, limits: Limits | None = None) -> Self:
        """Look at these two databases."""
        limits = limits or Limits()
        return cls(
            broker, Lookups(state, limits), Runs(state), Orders(state, limits), Accounts(state), History(state),
            Workers(state),
        )  # fmt: skip
