"""The web application: the API, the pages, what keeps both safe."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from eo_tasks import __version__
from eo_tasks.dashboard import live
from eo_tasks.dashboard.access import Access
from eo_tasks.dashboard.headers import Guard
from eo_tasks.dashboard.live import Live
from eo_tasks.dashboard.routes import cells, control, logs, numbers, reports, session
from eo_tasks.dashboard.troubles import answer_errors
from eo_tasks.dashboard.views import Views

API = "/api/v1"
STATIC = Path(__file__).parent / "static"
ABOUT = "Watch and control eo-tasks: the dashboard uses nothing else."


def make_app(views: Views, access: Access) -> FastAPI:
    """Put everything together.

    Args:
        views: What is shown.
        access: Who may see it, and who may act.
    """
    app = FastAPI(
        title="eo-tasks", version=__version__, description=ABOUT, openapi_url=f"{API}/openapi.json",
        docs_url=None, redoc_url=None, lifespan=_living,
    )  # fmt: skip
    app.state.views, app.state.access = views, access
    api = APIRouter(prefix=API)
    for routes in (session, numbers, cells, control, reports, logs, live):
        api.include_router(routes.router)
    app.include_router(api)
    app.include_router(reports.metrics_router)
    answer_errors(app)
    app.add_api_route("/healthz", _health, include_in_schema=False)
    app.add_api_route("/", _page, include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False), name="static")
    app.add_middleware(Guard, is_local=access.is_open_to_look)
    return app


@asynccontextmanager
async def _living(app: FastAPI) -> AsyncIterator[None]:
    app.state.live = Live(app.state.views)
    tasks = [asyncio.create_task(app.state.live.run()), asyncio.create_task(asyncio.to_thread(app.state.views.warm))]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _health() -> dict[str, str]:
    return {"status": "ok"}


def _page() -> FileResponse:
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})
