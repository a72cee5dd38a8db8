"""A batch job as a backend tells of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self


class JobStatus(StrEnum):
    """Where a batch job is, https://api.openeo.org/#tag/Batch-Jobs."""

    CREATED = "created"
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    ERROR = "error"
    CANCELED = "canceled"


@dataclass(frozen=True)
class Job:
    """A batch job as the backend tells it.

    Attributes:
        created_at: Seconds since 1970; ``None`` where it does not say.
        credits: What it has cost; ``None`` where it does not say (yet).
        progress: Percent.
    """

    id: str
    title: str
    status: JobStatus
    created_at: float | None = None
    credits: float | None = None
    progress: float | None = None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """A job from the backend's record of it."""
        return cls(
            id=str(told.get("id", "")),
            title=str(told.get("title") or ""),
            status=_status(told.get("status")),
            created_at=_seconds(told.get("created")),
            credits=number(told.get("costs")),
            progress=number(told.get("progress")),
        )


def _status(told: object) -> JobStatus:
    try:
        return JobStatus(str(told).lower())
    except ValueError:
        # A word that the specification does not know: nothing may be concluded but that it has not ended.
        return JobStatus.RUNNING


def _seconds(told: object) -> float | None:
    try:
        made = datetime.fromisoformat(str(told))
    except ValueError:
        return None
    return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()


def number(told: object) -> float | None:
    """A finite number; ``None`` for anything else."""
    try:
        value = float(told)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None
