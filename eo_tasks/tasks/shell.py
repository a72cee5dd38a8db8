"""One unit, run under a lease and written into the ledger."""

import random
from collections.abc import Callable
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Retry, SoftTimeLimitExceeded

from eo_tasks.errors import EOTasksError, TransientError
from eo_tasks.state.heartbeat import Heartbeat
from eo_tasks.state.ledger import Lease, Ledger
from eo_tasks.steps import Outcome
from eo_tasks.tasks.context import ledger as shared_ledger
from eo_tasks.units import Unit

FIRST_DELAY_S = 5.0
LONGEST_DELAY_S = 600.0


class UnitTask(Task):  # type: ignore[misc]
    """Base of the stage tasks: an expected failure is logged as one line, without a traceback."""

    abstract = True
    throws = (EOTasksError,)


def perform(task: Task, unit: Unit, step: Callable[[], Outcome]) -> dict[str, Any]:
    """Run one unit's step, unless another worker holds it or it is done.

    Returns:
        The task's small JSON result.

    Raises:
        Ignore: A second delivery; the result of the first one stays.
        Retry: The step failed for a passing reason; the sweep sends it again when it is due.
        EOTasksError: The step failed for good.
    """
    ledger = shared_ledger()
    lease = ledger.begin(unit, new_owner(task), str(task.request.hostname))
    if lease is None:
        raise Ignore
    try:
        with Heartbeat(ledger, lease):
            outcome = step()
    except (SystemExit, KeyboardInterrupt):  # told to stop: not the unit's fault
        ledger.release(lease)
        raise
    except Exception as error:
        raise failed(ledger, lease, error) from error
    return finished(ledger, lease, outcome)


def new_owner(task: Task) -> str:
    """A name for one delivery of a message, unlike that of any other."""
    return f"{task.request.hostname}/{random.getrandbits(48):012x}"


def finished(ledger: Ledger, lease: Lease, outcome: Outcome) -> dict[str, Any]:
    """Write down that a unit is done; gives its task's result.

    Raises:
        Ignore: The lease was lost, and another worker answers for the unit.
    """
    if not ledger.finish(lease, is_skipped=outcome.is_skipped):
        raise Ignore
    return answer(lease.unit, outcome)


def answer(unit: Unit, outcome: Outcome) -> dict[str, Any]:
    """The result of a unit's task."""
    return {"unit": unit.id, "state": "skipped" if outcome.is_skipped else "completed", **outcome.facts}


def failed(ledger: Ledger, lease: Lease, error: Exception) -> Exception:
    """Write down that a unit failed; gives what its task raises: a retry if the reason may pass, else the error."""
    if not isinstance(error, TransientError | SoftTimeLimitExceeded):
        ledger.fail(lease, describe(error))
        return error
    delay_s = backoff_s(ledger, lease.unit)
    if not ledger.retry(lease, describe(error), delay_s):
        return error
    again: Exception = Retry(str(error), exc=error, when=delay_s)
    return again


def backoff_s(ledger: Ledger, unit: Unit) -> float:
    """Seconds until the next try: doubling, capped, with jitter so that units do not return in step."""
    tries = max(ledger.entry(unit).attempts, 1)
    return min(FIRST_DELAY_S * 2.0 ** (tries - 1), LONGEST_DELAY_S) * random.uniform(0.5, 1.0)  # noqa: S311


def describe(error: BaseException) -> str:
    """Class and message of an error, as the ledger keeps them."""
    return f"{type(error).__name__}: {error}"
