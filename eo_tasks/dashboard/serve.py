"""The server process."""

import uvicorn

from eo_tasks.dashboard.access import Access, is_loopback
from eo_tasks.dashboard.app import make_app
from eo_tasks.dashboard.views import Views
from eo_tasks.errors import SettingsError
from eo_tasks.logs import write_to_files
from eo_tasks.settings import Settings, current_settings
from eo_tasks.tasks.context import known, pipeline, state_redis

STOP_S = 5
BACKLOG = 256


def serve() -> None:
    """Serve until the process is told to stop.

    Raises:
        SettingsError: Others could reach it, and nothing keeps them out.
    """
    settings = current_settings()
    check_reach(settings)
    write_to_files(settings, "dashboard")
    print(f"Dashboard: http://{settings.monitoring_host}:{settings.monitoring_port}", flush=True)
    app = make_app(Views(known(), pipeline()), Access(state_redis(), settings))
    uvicorn.run(
        app,
        host=settings.monitoring_host,
        port=settings.monitoring_port,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=STOP_S,
    )


def check_reach(settings: Settings) -> None:
    """Refuse to serve other machines without a login.

    Raises:
        SettingsError: Neither a password nor a token is set.
    """
    if is_loopback(settings.monitoring_host) or settings.dashboard_password or settings.dashboard_token:
        return
    raise SettingsError(
        f"MONITORING_HOST={settings.monitoring_host}: other machines could reach the dashboard. Set DASHBOARD_PASSWORD "
        "(or DASHBOARD_PASSWORD_FILE), or listen on 127.0.0.1."
    )
