"""Real openEO server software on free ports of this machine.

rustac serves the scenes as a STAC API, titiler-openeo evaluates process graphs over it, and openeo-driver, the API
layer of the Copernicus Data Space Ecosystem's backend, adds batch jobs. Their requirements contradict each other and
ours, so each has its own virtual environment under ``.cache/openeo-backend``; making them takes minutes and is done
only with ``EO_TASKS_TEST_OPENEO=1``.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.openeo_backend.scenes import SyntheticScene, write_api_records

HERE = Path(__file__).resolve().parent
VENVS = HERE.parents[1] / ".cache" / "openeo-backend"
REQUIREMENTS = {
    "stac": ("rustac==0.9.18",),
    "titiler": ("titiler-openeo==0.19.0", "uvicorn==0.54.0"),
    "driver": ("openeo-driver==0.136.0a4", "gunicorn==27.0.1"),
}
USER, PASSWORD = "tester", "open sesame"
START_S = 120


@dataclass(frozen=True)
class OpenEOBackend:
    """Addresses of the running servers, and the file where the one with batch jobs writes down what counts."""

    stac_url: str
    synchronous_url: str
    batch_url: str
    audit: Path


def missing_environments() -> str | None:
    """Why the servers cannot be started here; ``None`` if they can."""
    if os.environ.get("EO_TASKS_TEST_OPENEO") == "1" or all(_is_made(name) for name in REQUIREMENTS):
        return None
    return "the openEO servers are not installed: set EO_TASKS_TEST_OPENEO=1 to install them (minutes, from PyPI)"


def make_environments() -> None:
    """Install the three servers where they are missing."""
    for name, requirements in REQUIREMENTS.items():
        if _is_made(name):
            continue
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENVS / name], check=True)
        pip = [VENVS / name / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *requirements], check=True)
        (VENVS / name / "complete").write_text("\n".join(requirements))


@contextlib.contextmanager
def running(
    folder: Path,
    scenes: Sequence[SyntheticScene],
    *,
    most_active: int = 2,
    job_delay_s: float = 0,
    page_size: int | None = None,
) -> Iterator[OpenEOBackend]:
    """Serve scenes from three processes until the block ends.

    Args:
        folder: Where the scenes, results and logs lie, and the audit: JSON lines with event, time, id, title, owner.
        scenes: What is served.
        most_active: Most batch jobs queued or running.
        job_delay_s: How much longer a batch job takes.
        page_size: Most jobs of one page of the list, however many were asked for.
    """
    make_environments()
    write_api_records(folder, scenes)
    stac, titiler, driver = (f"127.0.0.1:{port}" for port in _free_ports(3))
    host, port = titiler.split(":")
    commands: list[tuple[str, list[str | Path], dict[str, str]]] = [
        ("stac", ["rustac", "serve", "-a", stac, folder / "collection.json", folder / "items.json"], {}),
        (
            "titiler",
            ["uvicorn", "titiler.openeo.main:app", "--host", host, "--port", port],
            {
                "TITILER_OPENEO_STAC_API_URL": f"http://{stac}/",
                "TITILER_OPENEO_STORE_URL": str(folder / "services.json"),
                "TITILER_OPENEO_AUTH_METHOD": "basic",
                "TITILER_OPENEO_AUTH_USERS": f'{{"{USER}": {{"password": "{PASSWORD}", "roles": ["user"]}}}}',
            },
        ),
        (
            "driver",
            ["gunicorn", "--no-control-socket", "--workers=1", "--threads=8", f"--bind={driver}", "driver_app:app"],
            {
                "OPENEO_BACKEND_CONFIG": str(HERE / "driver_config.py"),
                "BACKEND_SYNCHRONOUS_URL": f"http://{titiler}",
                "BACKEND_COLLECTION": str(folder / "collection.json"),
                "BACKEND_RESULTS": str(folder / "results"),
                "BACKEND_AUDIT": str(folder / "audit.jsonl"),
                "BACKEND_MOST_ACTIVE": str(most_active),
                "BACKEND_JOB_DELAY_S": str(job_delay_s),
                "BACKEND_PAGE_SIZE": str(page_size or 0),
                "BACKEND_USER": USER,
                "BACKEND_PASSWORD": PASSWORD,
            },
        ),
    ]
    with contextlib.ExitStack() as stack:
        for name, command, variables in commands:
            stack.enter_context(_process(name, command, variables, folder / f"{name}.log"))
        for address in (stac, titiler, driver):
            _wait_until_answering(f"http://{address}/", folder)
        yield OpenEOBackend(f"http://{stac}", f"http://{titiler}", f"http://{driver}", folder / "audit.jsonl")


@contextlib.contextmanager
def _process(name: str, command: Sequence[str | Path], variables: Mapping[str, str], log: Path) -> Iterator[None]:
    program = VENVS / name / "bin" / str(command[0])
    quiet = {"PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [program, *command[1:]],
            cwd=HERE,
            env={**os.environ, **quiet, **variables},
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _is_made(name: str) -> bool:
    stamp = VENVS / name / "complete"
    return stamp.exists() and stamp.read_text() == "\n".join(REQUIREMENTS[name])


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _wait_until_answering(url: str, logs: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310  our own http address
                return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{url} does not answer after {START_S} s ({error}); see the logs in {logs}"
                ) from None
        time.sleep(0.1)
