"""What is worth an alert: pure functions of the situation."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from eo_tasks.alerts.situation import Counts, Limits, Situation
from eo_tasks.state.alerts import Alert
from eo_tasks.state.entry import State
from eo_tasks.state.history import Sample
from eo_tasks.state.order import Order
from eo_tasks.state.runs import RunState
from eo_tasks.state.workers import WorkerReport
from eo_tasks.units import Stage

LEAST_UNITS = 10  # of fewer units that ended a share says nothing
UNSERVED_S = 60.0  # a worker that starts takes a while

START = {
    "downloads": "celery -A workers.cpu worker",
    "stores": "celery -A workers.cpu worker",
    "btc": "celery -A workers.gpu worker",
    "control": "celery -A beat worker",
}

Rule = Callable[[Situation, Limits], Iterable[Alert]]


def stalled(seen: Situation, limits: Limits) -> Iterator[Alert]:
    """A run goes on, and none of its units ends."""
    for run in seen.runs:
        if run.state is not RunState.ACTIVE:
            continue
        quiet_s = seen.now - max(seen.moved_at.get(run.id, seen.now), run.since or run.created_at)
        if quiet_s > limits.stall_s:
            counts, orders = seen.counts[run.id], seen.orders.get(run.id, ())
            told = f"Run {run.id}: no unit ended for {_minutes(quiet_s)}; {_why(counts, orders)}"
            yield Alert("stalled", run.id, told)


def failing(seen: Situation, limits: Limits) -> Iterator[Alert]:
    """Too many units of a stage fail."""
    for stage in Stage:
        done, failed = _rises(seen.samples, stage)
        share = failed / max(done + failed, 1)
        if done + failed >= LEAST_UNITS and share > limits.failure_share:
            yield Alert(
                "failures",
                stage,
                f"{stage}: {failed} of the {done + failed} units that ended in the last hour failed "
                f"({share:.0%}, ALERT_FAILURE_SHARE={limits.failure_share:g}). Look at: eo-tasks errors",
            )


def silent(seen: Situation, limits: Limits) -> Iterator[Alert]:
    """A worker says nothing any more, and none was started in its place."""
    lost = sorted((one for one in seen.workers if not one.is_alive(seen.now)), key=lambda one: one.at)
    spare = sorted((one for one in seen.workers if one.is_alive(seen.now)), key=lambda one: one.started_at)
    for worker in lost:
        heir = next((one for one in spare if _kind(one) == _kind(worker) and one.started_at > worker.at), None)
        if heir is not None:
            spare.remove(heir)
            continue
        yield Alert(
            "worker",
            worker.name,
            f"Worker {worker.name}: silent since {_time(worker.at)}; it was killed, hangs, or is cut off. "
            f"Its units go to others. Start it again: {_start(worker.queues)}",
        )


def unserved(seen: Situation, limits: Limits) -> Iterator[Alert]:
    """Messages wait in a queue, and no living worker takes from it."""
    served = {queue for worker in seen.workers if worker.is_alive(seen.now) for queue in worker.queues}
    for queue, length in seen.queues.items():
        if length and queue not in served:
            yield Alert(
                "queue",
                queue,
                f"Queue {queue}: {length} messages and no living worker that takes them. Start one: {_start([queue])}",
                after_s=UNSERVED_S,
            )


def full_disk(seen: Situation, limits: Limits) -> Iterator[Alert]:
    """The disk of a worker has little room left."""
    hosts = {worker.host: worker for worker in seen.workers if worker.is_alive(seen.now)}
    for host, worker in sorted(hosts.items()):
        if worker.disk_free_gb < limits.free_gb:
            yield Alert(
                "disk",
                host,
                f"Host {host}: {worker.disk_free_gb:.1f} GB free where DATA_DIR is (ALERT_FREE_GB={limits.free_gb:g}). "
                "Make room; units that find none are put off until there is.",
            )


def few_credits(seen: Situation, limits: Limits) -> Iterator[Alert]:
    """Little is left of what a run may cost."""
    if limits.max_credits is None:
        return
    for run in seen.runs:
        left = limits.max_credits - seen.spent.get(run.id, 0)
        if left <= limits.credits:
            yield Alert(
                "credits",
                run.id,
                f"Run {run.id}: {max(left, 0):.1f} of OPENEO_MAX_CREDITS={limits.max_credits:g} credits are left "
                f"(ALERT_CREDITS={limits.credits:g}). It is paused when they are spent; raise OPENEO_MAX_CREDITS if "
                "it should go on.",
            )


def unusable_account(seen: Situation, limits: Limits) -> Iterator[Alert]:
    """An account at a remote source has no credits, is refused, or does not answer."""
    for account, standing in sorted(seen.accounts.items()):
        is_out = bool(standing.is_closed or standing.out_until)
        is_gone = bool(standing.failing_since) and seen.now - standing.failing_since > limits.stall_s
        if is_out or is_gone:
            yield Alert("account", account, f"Account {account}: {standing.reason}")


def halted(seen: Situation, limits: Limits) -> Iterator[Alert]:
    """A run is paused, and not by a person."""
    for run in seen.runs:
        if run.state is RunState.PAUSED and run.note:
            yield Alert("paused", run.id, f"Run {run.id} is paused: {run.note}")


RULES: Sequence[Rule] = (stalled, failing, silent, unserved, full_disk, few_credits, unusable_account, halted)


def find_alerts(seen: Situation, limits: Limits) -> list[Alert]:
    """What all rules find."""
    return [alert for rule in RULES for alert in rule(seen, limits)]


def _why(counts: Counts, orders: Sequence[Order]) -> str:
    in_flight = {state: number for state, number in counts.items() if state.is_in_flight}
    if orders and set(in_flight) <= {State.ORDERED}:
        states = ", ".join(f"{number} {state}" for state, number in Counter(str(one.state) for one in orders).items())
        oldest = _time(min(order.created_at for order in orders))
        return f"it only waits for its orders at openEO ({states}; the oldest of {oldest}). Look at: eo-tasks doctor"
    told = ", ".join(f"{number} {state}" for state, number in in_flight.items()) or "none is in flight"
    return f"{told}. Look at: eo-tasks doctor"


def _rises(samples: Sequence[Sample], stage: Stage) -> tuple[int, int]:
    """Units of a stage that were completed, and that failed, between the first sample and the last."""

    def risen(numbers: Sequence[int]) -> int:
        return sum(max(after - before, 0) for before, after in pairwise(numbers))

    return (
        risen([sample.done.get(stage, 0) for sample in samples]),
        risen([sample.failed.get(stage, 0) for sample in samples]),
    )


def _kind(worker: WorkerReport) -> tuple[str, ...]:
    return tuple(sorted(worker.queues))


def _start(queues: Iterable[str]) -> str:
    return next((START[queue] for queue in queues if queue in START), "as it was started")


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
