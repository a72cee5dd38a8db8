"""What a local run is watched with: the dashboard and Flower, each with a login of its own."""

import secrets
import shlex
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from pydantic import SecretStr

from eo_tasks.local.redis_server import free_port
from eo_tasks.local.services import Services, celery
from eo_tasks.settings import Settings

FLOWER = (
    "--tasks_columns=uuid,name,state,received,started,runtime,worker",  # a unit's name first
    "--max_tasks=20000",
    "--persistent=True",
    "--state_save_interval=600000",  # ms: what a killed Flower forgets
    "--purge_offline_workers=86400",
)


def open_dashboard(services: Services, settings: Settings, told: Path, announce: Callable[[str], None]) -> None:
    """Start the dashboard, if it is installed; its login is told in a file that only this user can read."""
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        announce("Dashboard: not installed; pip install 'eo-tasks[dashboard]'")
        return
    host, port = settings.monitoring_host, free_port(settings.monitoring_port)
    login = {
        "DASHBOARD_USER": settings.dashboard_user,
        "DASHBOARD_PASSWORD": _kept_or_made(settings.dashboard_password),
    }
    services.start(
        "dashboard",
        (sys.executable, "-m", "eo_tasks.dashboard"),
        {**login, "MONITORING_HOST": host, "MONITORING_PORT": str(port)},
        is_needed=False,
    )
    tell(told, login)
    announce(f"Dashboard: http://{host}:{port} (login in {told})")


def open_flower(services: Services, settings: Settings, told: Path, announce: Callable[[str], None]) -> None:
    """Start Flower, if it is installed; its login is told in a file that only this user can read."""
    if find_spec("flower") is None:
        announce("Flower: not installed; pip install 'eo-tasks[flower]'")
        return
    port, database = free_port(settings.flower_port), told.parent / "flower"
    login = {"FLOWER_BASIC_AUTH": _kept_or_made(settings.flower_basic_auth, before=f"{settings.dashboard_user}:")}
    argv = celery("-A", "eo_tasks", "flower", "--address=127.0.0.1", f"--port={port}", f"--db={database}", *FLOWER)
    services.start("flower", argv, login, is_needed=False)
    tell(told, login)
    announce(f"Flower: http://127.0.0.1:{port} (login in {told})")


def tell(told: Path, variables: Mapping[str, str]) -> None:
    """Add variables to a file for shells that only this user can read."""
    told.touch(mode=0o600)
    told.chmod(0o600)
    with told.open("a", encoding="utf-8") as file:
        file.writelines(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())


def _kept_or_made(secret: SecretStr | None, before: str = "") -> str:
    return before + secrets.token_urlsafe(16) if secret is None else secret.get_secret_value()
