"""plan, then send what is missing: enqueueing, resuming, retrying and sweeping are all this."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from time import time

from eo_tasks.celery import UNIT_QUEUES
from eo_tasks.plan import Plan, plan
from eo_tasks.state.ledger import Entry, State
from eo_tasks.state.queues import queued_ids
from eo_tasks.state.runs import Run
from eo_tasks.steps import take_inventory
from eo_tasks.tasks.context import broker_redis, ledger, pipeline
from eo_tasks.tasks.send import send
from eo_tasks.units import Stage, Unit

MESSAGE_GRACE_S = 15  # a message on its way is for a moment neither in a queue nor with a worker


@dataclass(frozen=True)
class Convergence:
    """What one pass over a run found and did.

    Attributes:
        plan: What is missing.
        sent: How many units were sent, by stage.
        stuck: Missing units that wait for a person, and why.
    """

    plan: Plan
    sent: Mapping[Stage, int]
    stuck: Mapping[Unit, Entry]


def converge(run: Run, room: int) -> Convergence:
    """Send a run's missing units.

    A unit in flight is left alone while its message or its worker lives, and sent again when both are gone.

    Args:
        run: What is wanted.
        room: Most units to send beside those that were lost, which count as in flight already.
    """
    todo = plan(run.wanted, take_inventory(pipeline(), run.wanted))
    entries = ledger().entries(heads(todo))
    stuck = {unit: entry for unit, entry in entries.items() if entry.state.needs_a_person}
    lost = lost_units(entries)
    sent = Counter(unit.stage for unit in lost if send(unit, is_lost=True))
    waiting = (unit for unit in heads(todo) if unit not in stuck and not entries[unit].state.is_in_flight)
    for unit in waiting:
        if room <= 0:
            break
        if send(unit):
            sent[unit.stage] += 1
            room -= 1
    return Convergence(todo, sent, stuck)


def heads(todo: Plan) -> tuple[Unit, ...]:
    """The units that can be sent, what is nearly done first: ready pairs, then stores, then downloads."""
    stores = (grid_year.store for grid_year in todo.stores)
    downloads = (grid_year.download for grid_year in todo.downloads)
    return (*(pair.btc for pair in todo.pairs), *stores, *downloads)


def lost_units(entries: Mapping[Unit, Entry]) -> set[Unit]:
    """Units that count as in flight although no message and no worker has them any more."""
    in_flight = [unit for unit, entry in entries.items() if entry.state.is_in_flight]
    unheld = set(in_flight) - ledger().leased(in_flight)
    started = {unit for unit in unheld if entries[unit].state is State.STARTED}
    old = {unit for unit in unheld - started if time() - entries[unit].since > MESSAGE_GRACE_S}
    if old:
        ids = queued_ids(broker_redis(), UNIT_QUEUES)
        old = {unit for unit in old if unit.id not in ids}
    return started | old


def room_left(max_in_flight: int) -> int:
    """How many more units may be in flight."""
    counted = (ledger().counts(stage, period) for stage, period in ledger().periods())
    busy = sum(number for counts in counted for state, number in counts.items() if state.is_in_flight)
    return max(max_in_flight - busy, 0)
