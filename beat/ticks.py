"""The ticks: short, locked, and harmless when they come twice or late."""

from redis.exceptions import LockError

from eo_tasks.celery import app
from eo_tasks.errors import EOTasksError
from eo_tasks.settings import current_settings
from eo_tasks.tasks.context import runs, state_redis
from eo_tasks.tasks.converge import converge, room_left

LOCK_S = 30  # a sweep that died holds up the next one for so long; two at once do no harm


@app.task(name="beat.sweep", throws=(EOTasksError,))
def sweep() -> dict[str, int]:
    """Converge every active run: send what is missing and what was lost, and forget what is complete."""
    sent = 0
    lock = state_redis().lock("eo-tasks:lock:sweep", timeout=LOCK_S, blocking=False)
    if not lock.acquire():
        return {"sent": 0}
    try:
        for run in runs().active():
            result = converge(run, room_left(current_settings().max_in_flight))
            sent += sum(result.sent.values())
            if result.plan.is_complete:
                runs().remove(run)
    finally:
        _release(lock)
    return {"sent": sent}


def _release(lock: object) -> None:
    try:
        lock.release()  # type: ignore[attr-defined]
    except LockError:  # it took longer than the lock lasts; nothing was done twice that matters
        return
