"""What every task of one process shares, opened when first needed."""

from functools import lru_cache

from redis import Redis

from eo_tasks.overview.known import Known
from eo_tasks.settings import current_settings
from eo_tasks.state.accounts import Accounts
from eo_tasks.state.audit import Audit
from eo_tasks.state.connection import connect
from eo_tasks.state.durations import Durations
from eo_tasks.state.entry import Limits
from eo_tasks.state.heartbeat import Heartbeat
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.orders import Orders
from eo_tasks.state.runs import Runs
from eo_tasks.steps import Pipeline
from eo_tasks.units import Unit


@lru_cache(maxsize=1)
def pipeline() -> Pipeline:
    """The grid, source, store and network of this process; its steps publish what they hold a lease for."""
    return Pipeline(current_settings(), confirm=lambda unit: heartbeat().confirm(unit), not_before=not_before)


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
    return Ledger(state_redis(), _limits())


@lru_cache(maxsize=1)
def orders() -> Orders:
    """What is ordered from remote sources."""
    return Orders(state_redis(), _limits())


@lru_cache(maxsize=1)
def accounts() -> Accounts:
    """The accounts at remote sources."""
    return Accounts(state_redis())


@lru_cache(maxsize=1)
def heartbeat() -> Heartbeat:
    """The thread that keeps this process's leases."""
    return Heartbeat(ledger(), orders=orders())


@lru_cache(maxsize=1)
def runs() -> Runs:
    """The runs."""
    return Runs(state_redis())


@lru_cache(maxsize=1)
def known() -> Known:
    """All of it, to look at."""
    return Known.of(state_redis(), broker_redis(), _limits())


@lru_cache(maxsize=1)
def durations() -> Durations:
    """How long units took."""
    return Durations(state_redis())


@lru_cache(maxsize=1)
def audit() -> Audit:
    """Who did what."""
    return Audit(state_redis())


def _limits() -> Limits:
    settings = current_settings()
    return Limits(settings.lease_s, settings.max_attempts, settings.max_deaths, settings.max_in_flight)


def not_before(unit: Unit) -> float:
    """How old a unit's output may be: as old as you like, unless an active run wanted a fresh start."""
    return max((run.not_before for run in runs().recently_active() if run.not_before and run.wants(unit)), default=0)


def reopen() -> None:
    """Drop everything, so that it is opened anew with the settings as they are now."""
    if heartbeat.cache_info().currsize:
        heartbeat().stop()
    for client in (state_redis, broker_redis):
        if client.cache_info().currsize:
            client().close()
    everything = (pipeline, state_redis, broker_redis, ledger, orders, accounts, heartbeat, runs, known)
    for shared in (*everything, durations, audit):
        shared.cache_clear()
