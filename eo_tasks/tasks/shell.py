"""One unit, run under a lease and written into the ledger."""

import errno
import logging
import random
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from time import time
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Retry

from eo_tasks import logs
from eo_tasks.errors import EmptyCompositeError, EOTasksError, LeaseLostError, SourceBusyError, StorageFullError
from eo_tasks.settings import current_settings
from eo_tasks.state.entry import Followers, Lease, State
from eo_tasks.state.ledger import Closed, Ledger
from eo_tasks.steps import Outcome
from eo_tasks.tasks.context import durations, heartbeat
from eo_tasks.tasks.context import ledger as shared_ledger
from eo_tasks.tasks.retries import policy_of
from eo_tasks.units import Unit

log = logging.getLogger(__name__)

BUSY_S = 30.0  # when a source that is busy is asked again, if it does not say
LEVELS: dict[str, int] = {State.FAILED: logging.ERROR, State.RETRYING: logging.WARNING}  # of how a unit ended
FULL_BYTES = 32_000_000  # a write that failed with no more room than this failed for the lack of it


class UnitTask(Task):  # type: ignore[misc]
    """Base of the stage tasks: an expected failure is logged as one line, without a traceback.

    Their results are not stored: the ledger has them, and the result backend reads it.
    """

    abstract = True
    throws = (EOTasksError,)
    ignore_result = True


def perform(
    task: Task, unit: Unit, step: Callable[[], Outcome], follow: Callable[[State], Followers | None]
) -> tuple[dict[str, Any], Closed]:
    """Run one unit's step, unless another worker holds it or it is done.

    Args:
        task: The task that runs it.
        unit: Which.
        step: What to do.
        follow: What a state that it ends in sets in motion.

    Returns:
        The task's small JSON result, and how the ledger took it.

    Raises:
        Ignore: A second delivery, or a lease that was lost in the meantime.
        Retry: The step failed for a passing reason; the sweep sends it again when it is due.
        Exception: The step failed for good.
    """
    ledger = shared_ledger()
    lease = heartbeat().take(lambda: ledger.begin(unit, new_owner(task), str(task.request.hostname)))
    if lease is None:
        raise Ignore
    with ExitStack() as ending:
        ending.enter_context(logs.about(unit, str(task.request.id)))
        ending.callback(heartbeat().drop, lease)
        tell_begin(lease)
        try:
            outcome = step()
        except (SystemExit, KeyboardInterrupt):  # told to stop: not the unit's fault
            ledger.release(lease)
            tell_end(lease, "released")
            raise
        except EmptyCompositeError as error:
            closed = ledger.find_empty(lease, describe(error), follow(State.EMPTY))
            tell_end(lease, State.EMPTY, error)
            result = {"unit": unit.id, "state": "empty", "reason": str(error)}
        except Exception as error:
            raise failed(ledger, lease, error) from error
        else:
            closed = ledger.finish(lease, is_skipped=outcome.is_skipped, followers=follow(State.COMPLETED))
            clock(lease, outcome, closed)
            tell_end(lease, "lost" if closed is None else closed.state)
            result = answer(unit, outcome)
    if closed is None:
        raise Ignore
    return result, closed


def clock(lease: Lease, outcome: Outcome, closed: Closed | None) -> None:
    """Count what a completed unit took from its begin to its end, and the pixels that it made."""
    if closed is not None and not outcome.is_skipped:
        durations().add(lease.unit.stage, time() - float(lease.began), int(outcome.facts.get("pixels", 0)))


def tell_begin(lease: Lease) -> None:
    """Log that a unit begins."""
    with logs.about(lease.unit):
        log.info("unit begins", extra={"deaths": lease.deaths})


def tell_end(lease: Lease, state: str, error: Exception | None = None) -> None:
    """Log how a unit ended, and after how long."""
    facts: dict[str, object] = {"state": str(state), "duration_s": round(time() - float(lease.began), 3)}
    if error is not None:
        facts["error"] = describe(error)
    with logs.about(lease.unit):
        log.log(LEVELS.get(state, logging.INFO), "unit ended", extra=facts)


def new_owner(task: Task) -> str:
    """A name for one delivery of a message, unlike that of any other."""
    return f"{task.request.hostname}/{random.getrandbits(48):012x}"


def answer(unit: Unit, outcome: Outcome) -> dict[str, Any]:
    """The result of a unit's task."""
    return {"unit": unit.id, "state": "skipped" if outcome.is_skipped else "completed", **outcome.facts}


def failed(ledger: Ledger, lease: Lease, error: Exception) -> Exception:
    """Write down that a unit failed; gives what its task raises: a retry if the reason may pass, else the error."""
    if isinstance(error, LeaseLostError):
        tell_end(lease, "lost", error)
        return _nothing()
    if isinstance(error, SourceBusyError):  # nothing was tried
        ledger.put_off(lease, describe(error), error.retry_after_s or BUSY_S)
        tell_end(lease, "put off", error)
        return _nothing()
    error = explained(lease.unit, error)
    policy = policy_of(error)
    if policy is None:
        ledger.fail(lease, describe(error))
        tell_end(lease, State.FAILED, error)
        return error
    delay_s = policy.delay_s(ledger.entry(lease.unit).attempts)
    closed = ledger.retry(lease, describe(error), delay_s, policy.max_attempts)
    tell_end(lease, "lost" if closed is None else closed.state, error)
    if closed is None:
        return _nothing()
    again: Exception = Retry(str(error), exc=error, when=delay_s)
    return error if closed.state is State.FAILED else again


def _nothing() -> Exception:
    """What a task raises that has nothing to say of its unit: another worker answers for it."""
    ignore: Exception = Ignore()
    return ignore


def describe(error: BaseException) -> str:
    """Class and message of an error, as the ledger keeps them."""
    return f"{type(error).__name__}: {error}"


def explained(what: object, error: Exception) -> Exception:
    """A full disk under its own name; libraries tell of it in many ways, or only that writing failed."""
    folder = current_settings().folder
    is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if not is_full and policy_of(error) is None and folder.exists():
        is_full = shutil.disk_usage(folder).free < FULL_BYTES
    if not is_full:
        return error
    told = StorageFullError(f"{what}: the disk of {folder} is full. Make room; it is tried again by itself.")
    told.__cause__ = error
    return told
