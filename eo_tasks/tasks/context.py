"""What every task of one process shares, opened when first needed."""

from functools import lru_cache

from redis import Redis

from eo_tasks.settings import current_settings
from eo_tasks.state.connection import connect
from eo_tasks.state.ledger import Ledger, Limits
from eo_tasks.state.runs import Runs
from eo_tasks.steps import Pipeline


@lru_cache(maxsize=1)
def pipeline() -> Pipeline:
    """The grid, source, store and network of this process."""
    return Pipeline(current_settings())


@lru_cache(maxsize=1)
def state_redis() -> Redis:
    """The result backend's Redis."""
    return connect(current_settings().result_url)


@lru_cache(maxsize=1)
def broker_redis() -> Redis:
    """The broker's Redis."""
    return connect(current_settings().broker_url)


@lru_cache(maxsize=1)
def ledger() -> Ledger:
    """The ledger of units."""
    settings = current_settings()
    return Ledger(state_redis(), Limits(settings.lease_s, settings.max_attempts, settings.max_deaths))


def runs() -> Runs:
    """The active runs."""
    return Runs(state_redis())
