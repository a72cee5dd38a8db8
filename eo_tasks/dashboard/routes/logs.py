"""Lines of all workers' logs."""

from typing import Annotated

from fastapi import APIRouter, Query

from eo_tasks.dashboard.asked import Looking, SharedViews, told
from eo_tasks.logbook import LEVELS, Filter, Page, read_lines
from eo_tasks.logs import folder_of
from eo_tasks.units import Stage

router = APIRouter(tags=["logs"])

MOST = 1000


@router.get("/logs", responses=told(401, 409))
def logs(
    views: SharedViews,
    _: Looking,
    stage: Stage | None = None,
    cell: Annotated[int | None, Query(ge=0, le=2**31 - 1)] = None,
    year: Annotated[int | None, Query(ge=1900, le=9999)] = None,
    level: Annotated[str | None, Query(pattern=f"^({'|'.join(LEVELS)})$")] = None,
    text: Annotated[str | None, Query(max_length=200)] = None,
    unit: Annotated[str | None, Query(max_length=100)] = None,
    most: Annotated[int, Query(ge=1, le=MOST)] = 200,
    before: Annotated[str | None, Query(max_length=200, pattern="^[A-Za-z0-9_-]+$")] = None,
) -> Page:
    """Lines that fit, the newest first; ``before`` of a page leads to the one before it."""
    wanted = Filter(stage, cell, year, level, text, unit)
    return read_lines(folder_of(views.pipeline.settings.folder), wanted, most, before)
