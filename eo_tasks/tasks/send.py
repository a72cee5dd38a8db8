"""Units become messages, under their own names."""

from collections.abc import Iterable, Sequence

from celery import signature
from celery.canvas import Signature

from eo_tasks.celery import BTC, DOWNLOADS, STORES, app
from eo_tasks.grid import GridYear
from eo_tasks.plan import pairs_of
from eo_tasks.state.runs import Run
from eo_tasks.tasks.context import ledger, runs
from eo_tasks.units import Stage, Unit

TASKS = {Stage.DOWNLOAD: "eo_tasks.download", Stage.STORE: "eo_tasks.store", Stage.BTC: "eo_tasks.btc"}
QUEUES = {Stage.DOWNLOAD: DOWNLOADS, Stage.STORE: STORES, Stage.BTC: BTC}


def dispatch(stage: Stage, wanting: Sequence[Run]) -> list[Unit]:
    """Send ready units as far as their queue has room, every run its share, the oldest first.

    Returns:
        What was sent.
    """
    sent: list[Unit] = []
    waiting = list(wanting)
    while waiting and (room := ledger().room(stage)):
        share = max(room // len(waiting), 1)
        for run in list(waiting):
            taken = ledger().take(stage, run.id, share)
            publish(taken)
            sent += taken
            if len(taken) < share:
                waiting.remove(run)
    return sent


def publish(units: Iterable[Unit]) -> None:
    """Send messages of units that the ledger calls enqueued, in few round trips."""
    units = list(units)
    if not units:
        return
    with app.producer_or_acquire() as producer, producer.batch():
        for unit in units:
            name, queue = TASKS[unit.stage], QUEUES[unit.stage]
            app.amqp.send_task_message(producer, name, _message(unit), queue=queue)


def signature_of(unit: Unit) -> Signature:
    """A unit's task; the unit's name is the task's id."""
    return signature(TASKS[unit.stage], args=_args(unit), immutable=True, app=app).set(task_id=unit.id)


def pairs_completed_by(stored: GridYear) -> tuple[tuple[str, Unit], ...]:
    """The pairs of years, with the runs that want them, that wait for a composite."""
    return tuple(
        (run.id, pair.btc)
        for run in runs().recently_active()
        if run.wants(stored.store)
        for pair in pairs_of(stored, run.wanted.years)
    )


def _message(unit: Unit) -> object:
    """A message as Celery's workers read it; that of a download has its store chained to it."""
    chained = (
        [dict(signature_of(Unit(Stage.STORE, unit.grid_id, unit.years)))] if unit.stage is Stage.DOWNLOAD else None
    )
    return app.amqp.as_task_v2(unit.id, TASKS[unit.stage], args=_args(unit), chain=chained, ignore_result=True)


def _args(unit: Unit) -> tuple[int, ...]:
    return (unit.grid_id, *unit.years)
