"""The result backend: Celery's Redis backend for tasks in general, the ledger for units.

So a unit's state is kept once: ``AsyncResult("download_463_2023").state`` is what ``eo-tasks status`` shows, and a
million units leave no result keys behind.
"""

from datetime import UTC, datetime
from typing import Any

from celery import states
from celery.backends.base import SyncBackendMixin
from celery.backends.redis import RedisBackend
from celery.exceptions import TaskRevokedError

from eo_tasks.errors import PermanentError
from eo_tasks.state.entry import Entry, Limits, State
from eo_tasks.state.lookups import Lookups
from eo_tasks.units import Unit

CELERY_STATES = {
    State.PENDING: states.PENDING,
    State.ENQUEUED: states.PENDING,
    State.ORDERED: states.PENDING,
    State.STARTED: states.STARTED,
    State.RETRYING: states.RETRY,
    State.COMPLETED: states.SUCCESS,
    State.SKIPPED: states.SUCCESS,
    State.EMPTY: states.SUCCESS,
    State.FAILED: states.FAILURE,
    State.QUARANTINED: states.FAILURE,
    State.CANCELED: states.REVOKED,
}


class LedgerBackend(RedisBackend):  # type: ignore[misc]
    """Stores what tasks return, and reads the state of units from the ledger."""

    wait_for = SyncBackendMixin.wait_for

    def _get_task_meta_for(self, task_id: str) -> dict[str, Any]:
        try:
            unit = Unit.parse(task_id)
        except PermanentError:  # any other task
            return dict(super()._get_task_meta_for(task_id))
        return self._meta(unit, Lookups(self.client, Limits()).entry(unit))

    def wait_for_pending(self, result: Any, *args: Any, **options: Any) -> Any:
        """Look at a unit again and again: nobody tells when the ledger changes."""
        try:
            Unit.parse(result.id)
        except PermanentError:
            return super().wait_for_pending(result, *args, **options)
        return SyncBackendMixin.wait_for_pending(self, result, *args, **options)

    def _meta(self, unit: Unit, entry: Entry) -> dict[str, Any]:
        status = CELERY_STATES[entry.state]
        result: Any = {"unit": unit.id, "state": str(entry.state)}
        if status == states.REVOKED:
            result = TaskRevokedError(f"{unit}: canceled.")
        elif status in states.EXCEPTION_STATES:
            error_class, _, message = entry.error.partition(": ")
            result = self.exception_to_python(
                {"exc_type": error_class or "PermanentError", "exc_message": [message], "exc_module": "eo_tasks.errors"}
            )
        done_at = datetime.fromtimestamp(entry.since, UTC).isoformat() if status in states.READY_STATES else None
        return {
            "task_id": unit.id,
            "status": status,
            "result": result,
            "traceback": None,
            "children": [],
            "date_done": done_at,
        }
