"""Fetching the result of an order, and cutting its cells out of it."""

import logging
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import time
from typing import Any

from celery import Task
from celery.exceptions import Ignore

from eo_tasks import logs
from eo_tasks.celery import app
from eo_tasks.errors import (
    AccountError,
    EmptyCompositeError,
    EOTasksError,
    LeaseLostError,
    SourceBusyError,
    SourceUnavailableError,
    StorageFullError,
)
from eo_tasks.files import read_json, write_json
from eo_tasks.grid import GridYear
from eo_tasks.raster import PixelGrid
from eo_tasks.settings import ImagerySource
from eo_tasks.sources import CompositeRequest
from eo_tasks.sources.openeo.backend import Backend
from eo_tasks.sources.openeo.job import number
from eo_tasks.sources.openeo.result import Result, open_result
from eo_tasks.state.entry import Followers, Lease, State
from eo_tasks.state.order import Order, OrderState
from eo_tasks.steps.images import stage
from eo_tasks.steps.requests import block_request
from eo_tasks.steps.scratch import FETCH_PREFIX
from eo_tasks.tasks.context import accounts, heartbeat, ledger, orders, pipeline
from eo_tasks.tasks.ordering import ends
from eo_tasks.tasks.ordering.budget import SYNCHRONOUS_CREDITS
from eo_tasks.tasks.send import publish
from eo_tasks.tasks.shell import clock, describe, explained, failed, new_owner, tell_begin, tell_end
from eo_tasks.units import Unit

log = logging.getLogger(__name__)

FOLDER = "orders"


@app.task(bind=True, name="eo_tasks.fetch", throws=(EOTasksError,), ignore_result=True)
def fetch(self: Task, order_id: str) -> dict[str, Any]:
    """Bring an order's result here, check it, and stage each cell's part; the stores follow."""
    owner = new_owner(self)
    lease = heartbeat().take(lambda: orders().lease(order_id, owner))
    if lease is None:
        raise Ignore  # another worker is at it
    with ExitStack() as ending:
        ending.callback(orders().release, lease)
        ending.callback(heartbeat().drop, lease)
        order = orders().get(order_id)
        if order is None or order.state is not OrderState.READY:
            raise Ignore
        return _fetch(order, owner, str(self.request.hostname))


def order_file(work: Path, order: Order) -> Path:
    """Where an order's result lies while its cells are cut out of it."""
    return work / FOLDER / f"{order.id}.tiff"


def request_of(order: Order) -> CompositeRequest:
    """What an order asks for."""
    cells = [pipeline().grid.cell(cell) for cell in order.cells]
    return block_request(pipeline().settings, order.name, cells, order.year, order.extra_months)


def forget_file(order: Order) -> None:
    """Delete an order's result."""
    file = order_file(pipeline().settings.folder, order)
    for path in (file, file.with_suffix(".json")):
        path.unlink(missing_ok=True)


def clear_files() -> None:
    """Delete results whose orders are closed."""
    kept = {order.id for order in orders().all()}
    folder = pipeline().settings.folder / FOLDER
    for path in folder.glob("*.tiff") if folder.is_dir() else ():
        if path.stem not in kept:
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)


def _fetch(order: Order, owner: str, worker: str) -> dict[str, Any]:
    backend, request = pipeline().backends[ImagerySource(order.source)], request_of(order)
    file = order_file(pipeline().settings.folder, order)
    done: Counter[str] = Counter()
    try:
        details = _brought(order, backend, request, file)
        heartbeat().confirm(order.id)
        with open_result(file, request, backend.origin(details)) as result:
            for unit in orders().open_units(order):
                if (lease := heartbeat().take(partial(ledger().begin, unit, owner, worker, order.id))) is not None:
                    try:
                        with logs.about(unit):
                            tell_begin(lease)
                            done[_cut(order, lease, request, result)] += 1
                    finally:
                        heartbeat().drop(lease)
    except LeaseLostError:
        raise Ignore from None
    except (AccountError, SourceBusyError) as error:
        ends.account_failed(backend, error)
        _later(order, error)
    except Exception as caught:
        told = explained(order.name, caught)
        _put_away(order, file, told)
        ends.failed(order, told)
        raise told from caught
    if not orders().open_units(order):
        forget_file(order)
        orders().drop(orders().get(order.id) or order)
    return {"order": order.id, **done}


def _brought(order: Order, backend: Backend, request: CompositeRequest, file: Path) -> dict[str, str]:
    """Bring the result here, unless it is here already: a request is paid for once."""
    file.parent.mkdir(parents=True, exist_ok=True)
    told = file.with_suffix(".json")
    known = read_json(told)
    if file.exists() and known is not None:
        return {str(name): str(value) for name, value in known.items()}
    with backend.connected() as jobs:
        details = jobs.fetch(order.job_id, file) if order.is_batch else jobs.compute(request, file)
        ends.answered(backend)
    paid = order.credits
    if not order.is_batch:
        told_credits = number(details.get("credits"))
        paid = SYNCHRONOUS_CREDITS if told_credits is None else told_credits
        accounts().learn(order.account, f"request {order.id}", order.run, paid, len(order.cells))
    if paid is not None:
        details = details | {"credits": f"{paid / len(order.cells):.4g}"}
    write_json(told, details | {"order": order.id})
    return details | {"order": order.id}


def _cut(order: Order, lease: Lease, request: CompositeRequest, result: Result) -> str:
    """Stage one cell's part; gives what became of it."""
    unit = lease.unit
    cell = pipeline().grid.cell(unit.grid_id)
    try:
        with pipeline().scratch(FETCH_PREFIX) as scratch:
            composite = result.composite(PixelGrid.of(cell))
            outcome = stage(pipeline(), cell, request, composite, scratch)
    except (SystemExit, KeyboardInterrupt):  # told to stop: not the cell's fault
        ledger().release(lease)
        tell_end(lease, "released")
        raise
    except EmptyCompositeError as error:
        return _empty(order, lease, error)
    except LeaseLostError as error:
        tell_end(lease, "lost", error)
        return "lost"
    except SourceUnavailableError as error:
        ledger().put_off(lease, "", 0)  # the file is broken, not the cell
        tell_end(lease, "put off", error)
        raise
    except Exception as error:
        failed(ledger(), lease, error)
        log.warning("cell not cut", extra={"unit": unit.id, "order": order.id, "error": describe(error)})
        return "failed"
    grid_year = GridYear(unit.grid_id, order.year)
    closed = ledger().finish(lease, is_skipped=outcome.is_skipped, followers=Followers(then=grid_year.store))
    clock(lease, outcome, closed)
    tell_end(lease, "lost" if closed is None else closed.state)
    if closed is not None:
        publish([grid_year.store])
        accounts().set_tried(unit.id, 0)
    return "completed"


def _empty(order: Order, lease: Lease, error: EmptyCompositeError) -> str:
    unit: Unit = lease.unit
    if (wider := ends.widened(order, [unit.grid_id], error)) is not None:
        orders().reorder(lease, wider)
        tell_end(lease, State.ORDERED, error)
        return "widened"
    ledger().find_empty(lease, describe(error), ends.empty_followers(unit))
    tell_end(lease, State.EMPTY, error)
    return "empty"


def _later(order: Order, error: Exception) -> None:
    """The account cannot be used now; the result waits."""
    delay_s = (error.retry_after_s or ends.BUSY_S) if isinstance(error, SourceBusyError) else ends.UNANSWERED_S
    orders().move(order, replace(order, due=time() + delay_s, sent=0, error=describe(error)))


def _put_away(order: Order, file: Path, error: Exception) -> None:
    """Drop a file that is not what it should be; one that stands for a failure to write is whole."""
    if not isinstance(error, StorageFullError):
        forget_file(order)
    log.warning("result not taken", extra={"order": order.id, "file": file.name, "error": describe(error)})
