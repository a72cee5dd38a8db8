"""Units become messages, under their own names."""

from celery import chain, signature
from celery.canvas import Signature

from eo_tasks.celery import app
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.plan import pairs_of
from eo_tasks.tasks.context import ledger, pipeline, runs
from eo_tasks.units import Stage, Unit

TASKS = {Stage.DOWNLOAD: "eo_tasks.download", Stage.STORE: "eo_tasks.store", Stage.BTC: "eo_tasks.btc"}


def send(unit: Unit, *, is_lost: bool = False) -> bool:
    """Send a unit, a download with its store chained to it; ``False`` if it is in flight, or not to be tried now.

    Args:
        unit: What to send.
        is_lost: Its last message, or the worker that had it, is gone.
    """
    if not ledger().enqueue(unit, is_lost=is_lost):
        return False
    if unit.stage is Stage.DOWNLOAD:
        chain(message(unit), message(Unit(Stage.STORE, unit.grid_id, unit.years))).apply_async()
    else:
        message(unit).apply_async()
    return True


def message(unit: Unit) -> Signature:
    """The message of a unit; the unit's name is the task's id."""
    args = (unit.grid_id, *unit.years)
    return signature(TASKS[unit.stage], args=args, immutable=True, app=app).set(task_id=unit.id)


def send_ready_pairs(stored: GridYear) -> tuple[YearPair, ...]:
    """Send every wanted pair that a stored composite completes; whichever year comes second sends it."""
    store, recipe = pipeline().store, pipeline().recipe
    wanted = {
        pair
        for run in runs().active()
        if stored.grid_id in run.wanted.grid_ids
        for pair in pairs_of(stored, run.wanted.years)
    }
    return tuple(
        pair
        for pair in sorted(wanted)
        if all(map(store.has_image, pair.grid_years)) and not store.has_mask(pair, recipe) and send(pair.btc)
    )
