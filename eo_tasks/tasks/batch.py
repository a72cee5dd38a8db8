"""A BTC message is a wake-up: its task infers its own pair and, beside it, pairs whose messages still wait.

The other messages stay where they are. Each is delivered in its turn, finds its unit done, and ends at once; if this
worker dies, they are still there. Why not a batching library: ``docs/decisions/0004-batches.md``.
"""

import logging
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from time import monotonic
from typing import Any

from celery import Task
from celery.exceptions import Ignore

from eo_tasks import logs, steps
from eo_tasks.celery import BTC
from eo_tasks.errors import DeviceError, PermanentError, TransientError
from eo_tasks.grid import YearPair
from eo_tasks.state.entry import Lease, State
from eo_tasks.state.heartbeat import Heartbeat
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.queues import next_ids
from eo_tasks.steps import Outcome
from eo_tasks.tasks.context import broker_redis, heartbeat, pipeline, runs
from eo_tasks.tasks.context import ledger as shared_ledger
from eo_tasks.tasks.send import dispatch
from eo_tasks.tasks.shell import answer, clock, failed, new_owner, tell_begin, tell_end
from eo_tasks.units import Stage, Unit

log = logging.getLogger(__name__)

CLAIM_S = 20.0  # a task takes more pairs on for so long; short enough for a soft shutdown and for Flower
COMPANIONS_AHEAD = 64  # messages looked at for other pairs of the same cell


def infer_batch(task: Task, pair: YearPair) -> dict[str, Any]:
    """Infer a pair and, while its task is at it, pairs that wait.

    Returns:
        The result of the task's own pair.

    Raises:
        Ignore: Another worker holds the pair, or it waits for a person.
        Retry: The pair failed for a passing reason.
        Exception: The pair failed for good.
    """
    ledger = shared_ledger()
    owner, worker = new_owner(task), str(task.request.hostname)
    lease = heartbeat().take(lambda: ledger.begin(pair.btc, owner, worker))
    if lease is None:
        return result_of_another_delivery(ledger, pair.btc)
    batch = Batch(ledger, heartbeat(), lease, worker)
    tell_begin(lease)
    try:
        with logs.about(None, pair.btc.id), closing(steps.infer_all(pipeline(), batch.groups())) as outcomes:
            for done, outcome in outcomes:
                batch.settle(done.btc, outcome)
    except (SystemExit, KeyboardInterrupt):  # told to stop: no unit's fault
        batch.release()
        raise
    except Exception as error:  # of the network, so that nothing is known of any unit in work
        batch.postpone(error)
        if isinstance(error, DeviceError):
            raise SystemExit(1) from error  # a new process gets a new context of the device
    finally:
        batch.drop()
    return batch.result()


def result_of_another_delivery(ledger: Ledger, unit: Unit) -> dict[str, Any]:
    """End as the unit did in another task's batch, so that its own task shows the same.

    Raises:
        Ignore: It has not ended.
        PermanentError: It failed.
    """
    entry = ledger.entry(unit)
    if entry.state.is_done:
        return {"unit": unit.id, "state": str(entry.state)}
    if entry.state is State.FAILED:
        raise PermanentError(entry.error)
    raise Ignore


class Batch:
    """The units that one task works on: its own, and those it claims as it goes.

    A unit that ever took a worker down is run alone, as the task's own: it cannot take others down with it again.
    """

    def __init__(self, ledger: Ledger, heartbeat: Heartbeat, own: Lease, worker: str) -> None:
        self._ledger, self._heartbeat, self._own, self._worker = ledger, heartbeat, own, worker
        self._held = {own.unit: own}
        self._answer: dict[str, Any] | Exception = Ignore()

    def groups(self) -> Iterator[list[YearPair]]:
        """The task's own pair with others of its cell, then cell after cell of what waits.

        Taken by the thread that reads ahead, so that little more is leased than is being worked on.
        """
        own = _pair(self._own.unit)
        if self._own.deaths:
            yield [own]
            return
        waiting = _Waiting(own)
        until = monotonic() + CLAIM_S
        yield [own, *self._claimed(waiting.of_cell(own.grid_id))]
        while monotonic() < until and (group := self._next_group(waiting)):
            yield group

    def settle(self, unit: Unit, outcome: Outcome | Exception) -> None:
        """Write down how a unit ended."""
        lease = self._held.pop(unit)
        try:
            with logs.about(unit):
                ended = self._ended(lease, outcome)
        finally:  # where Redis does not answer the lease must end, or nobody ever takes the unit over
            self._heartbeat.drop(lease)
        if lease is self._own:
            self._answer = ended

    def release(self) -> None:
        """Give back what is not done, unblamed."""
        for lease in self._held.values():
            self._ledger.release(lease)
            tell_end(lease, "released")

    def drop(self) -> None:
        """Renew no lease any more."""
        for lease in self._held.values():
            self._heartbeat.drop(lease)

    def postpone(self, error: Exception) -> None:
        """Put off what is not done: the network failed, which may pass."""
        log.error("inference failed", exc_info=error)
        for unit in list(self._held):
            self.settle(unit, TransientError(f"{unit}: inference failed ({type(error).__name__}: {error})"))

    def result(self) -> dict[str, Any]:
        """The answer of the task's own unit."""
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    def _ended(self, lease: Lease, outcome: Outcome | Exception) -> dict[str, Any] | Exception:
        if isinstance(outcome, Exception):
            return failed(self._ledger, lease, outcome)
        closed = self._ledger.finish(lease, is_skipped=outcome.is_skipped)
        clock(lease, outcome, closed)
        tell_end(lease, "lost" if closed is None else closed.state)
        return Ignore() if closed is None else answer(lease.unit, outcome)

    def _next_group(self, waiting: "_Waiting") -> list[YearPair]:
        """Claim the next pair that waits, and others of its cell."""
        while (pair := waiting.pop() or self._refilled(waiting)) is not None:
            if claimed := self._claimed([pair]):
                return claimed + self._claimed(waiting.of_cell(pair.grid_id))
        return []

    def _refilled(self, waiting: "_Waiting") -> YearPair | None:
        """Have ready pairs sent that found no room before, and look for the first of them."""
        waiting_for_room = [run for run in runs().recently_active() if self._ledger.ready_length(run.id, Stage.BTC)]
        if not waiting_for_room or not dispatch(Stage.BTC, waiting_for_room):
            return None
        waiting.look_again()
        return waiting.pop()

    def _claimed(self, pairs: list[YearPair]) -> list[YearPair]:
        """Those of the pairs that could be leased."""
        claimed = []
        for pair in pairs:
            lease = self._heartbeat.take(partial(self._ledger.claim, pair.btc, self._own.owner, self._worker))
            if lease is not None:
                self._held[pair.btc] = lease
                tell_begin(lease)
                claimed.append(pair)
        return claimed


class _Waiting:
    """Pairs whose messages wait, in the order in which they will come."""

    def __init__(self, own: YearPair) -> None:
        self._ids = next_ids(broker_redis(), BTC)
        self._own = own
        self._pairs: list[YearPair] = []

    def look_again(self) -> None:
        """Start over with what waits now."""
        self._ids = next_ids(broker_redis(), BTC)

    def pop(self) -> YearPair | None:
        """The next one; ``None`` if there is none."""
        self._look(1)
        return self._pairs.pop(0) if self._pairs else None

    def of_cell(self, grid_id: int) -> list[YearPair]:
        """Take those of a cell out of the next few."""
        self._look(COMPANIONS_AHEAD)
        taken = [pair for pair in self._pairs if pair.grid_id == grid_id]
        self._pairs = [pair for pair in self._pairs if pair.grid_id != grid_id]
        return taken

    def _look(self, number: int) -> None:
        while len(self._pairs) < number and (unit_id := next(self._ids, None)) is not None:
            pair = _pair(Unit.parse(unit_id))
            if pair != self._own:
                self._pairs.append(pair)


def _pair(unit: Unit) -> YearPair:
    return YearPair(unit.grid_id, *unit.years)
