"""The sweep: units in flight that nobody has any more, or whose time has come."""

from collections import Counter
from collections.abc import Mapping
from time import monotonic, time

from eo_tasks.celery import UNIT_QUEUES
from eo_tasks.state.entry import Entry, State
from eo_tasks.state.queues import queued_ids
from eo_tasks.state.runs import Run
from eo_tasks.tasks.context import broker_redis, ledger, orders, runs, state_redis
from eo_tasks.tasks.send import publish
from eo_tasks.units import Stage, Unit

MOST = 5000  # units of a stage looked at in one step


def sweep(until: float) -> dict[str, int]:
    """Look after units in flight, until that time (of the monotonic clock).

    Returns:
        How many were sent again because they were lost or their time had come, and how many were taken back because
        no run wants them now.
    """
    active = runs().active()
    done: Counter[str] = Counter(sent=0, withdrawn=0)
    for stage in Stage:
        while monotonic() < until:
            due = ledger().active(stage, until=time(), most=MOST)
            if due:
                done.update(_look_after(due, active))
            if len(due) < MOST:
                break
    return dict(done)


def _look_after(units: list[Unit], active: list[Run]) -> dict[str, int]:
    entries = ledger().entries(units)
    free = set(units) - ledger().leased(units)
    waiting = {unit for unit in free if entries[unit].state is State.ENQUEUED}
    if waiting:
        ids = queued_ids(broker_redis(), UNIT_QUEUES)
        waiting = {unit for unit in waiting if unit.id in ids}
    ordered = [unit for unit in free if entries[unit].state is State.ORDERED]
    waiting |= orders().of(ordered).keys()
    if _redis_is_new():
        waiting |= {unit for unit in free if entries[unit].state is State.STARTED}
    gone = free - waiting
    unwanted = {unit for unit in gone if not _is_wanted(unit, entries, active)}
    withdrawn = ledger().withdraw(unwanted, is_canceled=False)
    sent = ledger().resend(sorted(gone - unwanted))
    publish(sent)
    limits, now = ledger().limits, time()
    ledger().look_again(waiting, now + limits.grace_s)
    ledger().look_again(set(units) - free, now + limits.lease_s)
    return {"sent": len(sent), "withdrawn": withdrawn}


def _redis_is_new() -> bool:
    """Whether Redis was away a moment ago: workers that live have not had the time to renew their leases."""
    return float(state_redis().info("server")["uptime_in_seconds"]) < ledger().limits.lease_s


def _is_wanted(unit: Unit, entries: Mapping[Unit, Entry], active: list[Run]) -> bool:
    """Whether a run wants the unit; a composite that is paid for is stored in any case, and a death is counted."""
    if unit.stage is Stage.STORE or entries[unit].state is State.STARTED:
        return True
    return any(run.wants(unit) for run in active)
