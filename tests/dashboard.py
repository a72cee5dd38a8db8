"""A real dashboard process, and clients of it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from time import monotonic

import httpx

from eo_tasks.local.redis_server import free_port

START_S = 60
PASSWORD = "of this test"
TOKEN = "for programs of this test"


@dataclass
class Dashboard:
    """One dashboard; it may be killed and started again on the same port."""

    environment: Mapping[str, str]
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "dashboard.log"

    def start(self) -> None:
        """Start it and return once it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "eo_tasks.dashboard"],
                env={**self.environment, "MONITORING_PORT": str(self.port)},
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        deadline, pause = monotonic() + START_S, Event()
        while not self._answers():
            assert self.process.poll() is None, self.log.read_text()
            assert monotonic() < deadline, self.log.read_text()
            pause.wait(0.05)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=START_S).status_code == 200
        except httpx.TransportError:
            return False

    def client(self, token: str | None = None) -> httpx.Client:
        """A client of its API, logged in with a token or not at all."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=f"{self.url}/api/v1", headers=headers, timeout=60)


@contextmanager
def dashboard(environment: Mapping[str, str], folder: Path, **settings: str) -> Iterator[Dashboard]:
    """A dashboard that is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    secrets = {"DASHBOARD_PASSWORD": PASSWORD, "DASHBOARD_TOKEN": TOKEN}
    running = Dashboard({**environment, **secrets, **settings}, folder)
    try:
        running.start()
        yield running
    finally:
        running.kill()


def log_in(client: httpx.Client, password: str = PASSWORD) -> httpx.Response:
    """Log a client in; its further requests carry the session's second secret."""
    answer = client.post("/login", json={"user": "operator", "password": password})
    if answer.status_code == 200:
        client.headers["X-CSRF-Token"] = answer.json()["csrf"]
    return answer
