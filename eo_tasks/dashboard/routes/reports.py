"""Alerts, the progress report, and numbers for Prometheus."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse, StreamingResponse

from eo_tasks.alerts import read_alerts
from eo_tasks.dashboard.asked import Looking, SharedViews, told
from eo_tasks.dashboard.views import Views
from eo_tasks.metrics import CONTENT_TYPE, exposition
from eo_tasks.report import Report, as_csv, as_html, as_json, make_report
from eo_tasks.tasks.control import find_run

router = APIRouter(tags=["reports"])
metrics_router = APIRouter(tags=["metrics"])

# The page has its style and its pictures in itself, and nothing that runs.
PAGE_POLICY = {"Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'"}
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}, "description": "The table."}}
RunName = Annotated[str | None, Query(max_length=100, description="Id of a run, or latest; everything if not given.")]


@dataclass(frozen=True)
class AlertNow:
    """Something that someone should know; ``until`` is set once it is over."""

    rule: str
    target: str
    message: str
    since: float
    until: float | None = None


@dataclass(frozen=True)
class AlertsNow:
    """Alerts that last, and those that ended lately."""

    active: Sequence[AlertNow]
    recent: Sequence[AlertNow]


@router.get("/alerts", responses=told(401))
def alerts(views: SharedViews, _: Looking) -> AlertsNow:
    """What someone should know."""
    read = read_alerts(views.known.ledger.redis)
    return AlertsNow([AlertNow(**one) for one in read.active], [AlertNow(**one) for one in read.recent])


@router.get("/report.html", response_class=HTMLResponse, responses=told(401, 404, 409))
def report_page(views: SharedViews, _: Looking, run: RunName = None) -> HTMLResponse:
    """The progress report as one page with pictures."""
    return HTMLResponse(as_html(_report(views, run)), headers=PAGE_POLICY)


@router.get("/report.csv", response_class=Response, responses=CSV | told(401, 404, 409))
def report_csv(views: SharedViews, _: Looking, run: RunName = None) -> StreamingResponse:
    """A row for every cell and year."""
    headers = {"Content-Disposition": 'attachment; filename="eo-tasks.csv"'}
    return StreamingResponse(as_csv(_report(views, run)), media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/report.json", responses=told(401, 404, 409))
def report_json(views: SharedViews, _: Looking, run: RunName = None) -> dict[str, Any]:
    """The numbers of the report."""
    content: dict[str, Any] = json.loads(as_json(_report(views, run)))
    return content


@metrics_router.get("/metrics", response_class=Response, include_in_schema=False)
def metrics(views: SharedViews, _: Looking) -> Response:
    """Numbers for Prometheus."""
    return Response(exposition(views.known), media_type=CONTENT_TYPE)


def _report(views: Views, run: str | None) -> Report:
    return make_report(views.known, views.pipeline, None if run is None else find_run(run))
