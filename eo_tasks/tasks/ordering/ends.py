"""What a failure of an order means: later, smaller, elsewhere, or a person's turn."""

import logging
import secrets
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from time import time

from eo_tasks.blocks import split_in_four
from eo_tasks.errors import (
    AccountError,
    CreditsExhaustedError,
    EmptyCompositeError,
    EOTasksError,
    JobFailedError,
    NoSuchJobError,
    PermanentError,
    ResultGoneError,
    SourceBusyError,
)
from eo_tasks.grid import GridYear
from eo_tasks.settings import ImagerySource
from eo_tasks.sources.openeo.backend import Backend
from eo_tasks.state.accounts import Standing
from eo_tasks.state.entry import Followers
from eo_tasks.state.order import Order, OrderState
from eo_tasks.state.runs import Run
from eo_tasks.steps.requests import request_recipe, seasons
from eo_tasks.tasks import control
from eo_tasks.tasks.context import accounts, heartbeat, ledger, orders, pipeline, runs
from eo_tasks.tasks.retries import policy_of
from eo_tasks.tasks.send import pairs_completed_by, publish
from eo_tasks.tasks.shell import describe
from eo_tasks.units import Unit

log = logging.getLogger(__name__)

BUSY_S = 30  # when a source that is busy is asked again, if it does not say
UNANSWERED_S = 10  # when a source that did not answer is asked again
OUT_S = 3600  # when an account that cannot be used is tried again, unless someone says that it is mended
OUTAGE_S = 1800  # a source that does not answer for so long is given up for another one, if there is one


def failed(order: Order, error: Exception) -> None:
    """Decide what becomes of an order, by what went wrong with it."""
    told = f"{order.name}: {error}"
    log.warning("order failed", extra={"order": order.id, "job": order.job_id, "error": describe(error)})
    if isinstance(error, EmptyCompositeError):
        _find_empty(order, error)
    elif isinstance(error, JobFailedError) and len(order.cells) > 1:
        split(order, told)
    elif order.attempts + 1 >= _most_attempts(error):
        give_up(order, error)
    else:
        put_off(order, error)


def _most_attempts(error: Exception) -> int:
    policy = policy_of(error)
    if policy is None:
        return 0
    return ledger().limits.max_attempts if policy.max_attempts is None else policy.max_attempts


def put_off(order: Order, error: Exception) -> None:
    """Try an order again later, from where its last try leaves it."""
    policy = policy_of(error)
    delay_s = 0 if policy is None else policy.delay_s(order.attempts + 1)
    due, attempts = time() + delay_s, order.attempts + 1
    if isinstance(error, NoSuchJobError | ResultGoneError):  # to be made anew, by another job
        ignored = (*order.ignored, order.job_id) if order.job_id else order.ignored
        anew = replace(_anew(order, describe(error)), attempts=attempts, due=due, ignored=ignored)
        orders().split(order, [anew])
        return
    orders().move(order, replace(order, attempts=attempts, sent=0, due=due, error=describe(error), since=time()))


def split(order: Order, reason: str) -> None:
    """Replace an order by up to four smaller ones: what is too much for the source may be so in part only."""
    cells = [pipeline().grid.cell(unit.grid_id) for unit in orders().open_units(order)]
    if not cells:
        orders().drop(order)
        return
    parts = split_in_four(cells) if len(cells) > 1 else [tuple(cells)]
    made = [replace(_anew(order, reason), cells=tuple(cell.grid_id for cell in part)) for part in parts]
    orders().split(order, made)


def give_up(order: Order, error: Exception) -> None:
    """Have another source make what this one cannot, or leave it to a person."""
    units = orders().open_units(order)
    if policy_of(error) is not None:
        keep_job(order)
    tried = _next_source(pipeline().backends[ImagerySource(order.source)])
    if tried is not None:
        move_elsewhere(order, units, tried)
        return
    for unit in units:
        with ExitStack() as ending:
            lease = heartbeat().take(partial(ledger().begin, unit, _owner(order), f"order {order.id}", order.id))
            if lease is not None:
                ending.callback(heartbeat().drop, lease)
                ledger().fail(lease, f"{type(error).__name__}: {unit}: {error}")
    orders().drop(order)


def keep_job(order: Order) -> None:
    """Remember the job of an order that is closed with its result not taken, for the next one that wants the same."""
    if order.is_batch and order.state is OrderState.READY:
        accounts().keep_orphan(order.account, order.job_id, order.title, order.created_at)


def move_elsewhere(order: Order, units: Sequence[Unit], tried: int) -> None:
    """Send an order's units again, to be asked for at the next source."""
    for unit in units:
        accounts().set_tried(unit.id, tried)
    orders().drop(order)
    publish(ledger().resend(units))


def account_failed(backend: Backend, error: EOTasksError) -> None:
    """Decide what becomes of an account's orders: it cannot be used, or does not answer."""
    known, now = accounts().standing(backend.account), time()
    if isinstance(error, SourceBusyError):
        until = now + (BUSY_S if error.retry_after_s is None else error.retry_after_s)
        accounts().note(backend.account, replace(known, busy_until=until, reason=describe(error)))
        return
    is_out = isinstance(error, AccountError)
    since = known.failing_since or now
    has_next = _next_source(backend) is not None
    if not is_out and not (has_next and now - since > OUTAGE_S):
        again = now + UNANSWERED_S
        accounts().note(backend.account, Standing(again, failing_since=since, reason=describe(error)))
        return
    is_closed = not isinstance(error, CreditsExhaustedError)
    out = Standing(out_until=now + OUT_S, is_closed=is_closed, failing_since=since, reason=describe(error))
    accounts().note(backend.account, out)
    log.error("account out", extra={"account": backend.account, "source": str(backend.source), "error": str(error)})
    mine = orders().all(backend.account)
    if not has_next:
        for run in _payers(mine):
            pause(run, f"{error} Then: eo-tasks runs resume {run.id}")
        return
    pass_over(backend, mine)


def pass_over(backend: Backend, mine: Sequence[Order]) -> None:
    """Have the next source make what an account that cannot be used has not begun; without one it waits."""
    tried = _next_source(backend)
    if tried is None:
        return
    for order in mine:
        if order.state in (OrderState.WAITING, OrderState.CREATED):  # a job that was not started costs nothing
            move_elsewhere(order, orders().open_units(order), tried)


def pause(run: Run, reason: str) -> None:
    """Halt a run until a person has done something, and say what."""
    log.error("run paused", extra={"run": run.id, "reason": reason})
    with suppress(PermanentError):  # a person was quicker
        control.pause(run, note=reason)


def answered(backend: Backend) -> None:
    """An account works: forget what was wrong with it."""
    known = accounts().standing(backend.account)
    if known.failing_since or (known.busy_until and known.busy_until < time()):
        accounts().note(backend.account, Standing())


def _next_source(backend: Backend) -> int | None:
    """Which source, by preference, comes after a backend; ``None`` after the last."""
    preferred = pipeline().settings.imagery_source
    tried = preferred.index(backend.source) + 1
    return tried if tried < len(preferred) else None


def _payers(mine: Sequence[Order]) -> list[Run]:
    """Active runs that want what is on order."""
    units = [unit for order in mine for unit in order.units]
    return [run for run in runs().active() if any(map(run.wants, units))]


def _find_empty(order: Order, error: EmptyCompositeError) -> None:
    """The source has no scene for a whole order."""
    if (wider := widened(order, order.cells, error)) is not None:
        orders().split(order, [wider])
        return
    for unit in orders().open_units(order):
        with ExitStack() as ending:
            lease = heartbeat().take(partial(ledger().begin, unit, _owner(order), f"order {order.id}", order.id))
            if lease is not None:
                ending.callback(heartbeat().drop, lease)
                ledger().find_empty(lease, f"{type(error).__name__}: {unit}: {error}", empty_followers(unit))
    orders().drop(order)


def widened(order: Order, cells: Sequence[int], error: Exception) -> Order | None:
    """An order for the same in more months; ``None`` if no more are to be tried."""
    months = seasons(pipeline().settings)[-1]
    if order.extra_months >= months:
        return None
    recipe = request_recipe(pipeline(), pipeline().backends[ImagerySource(order.source)].collection, months)
    return replace(_anew(order, describe(error)), cells=tuple(cells), extra_months=months, recipe=recipe)


def empty_followers(unit: Unit) -> Followers:
    """What has nothing to work on where a download found no imagery."""
    grid_year = GridYear(unit.grid_id, unit.years[0])
    return Followers(empty=(grid_year.store, *(pair for _, pair in pairs_completed_by(grid_year))))


def _anew(order: Order, reason: str) -> Order:
    """The same order from the beginning, under another name."""
    return replace(
        order,
        id=secrets.token_hex(5),
        state=OrderState.WAITING,
        since=time(),
        due=0.0,
        job_id="",
        ignored=(),
        attempts=0,
        sent=0,
        begun_at=0.0,
        credits=None,
        error=reason,
    )


def _owner(order: Order) -> str:
    return f"order {order.id}/{secrets.token_hex(6)}"
