"""Logins of real processes at a real openEO API with OpenID Connect.

Two providers: ``oauth2-mock-server`` of npm, which gives a new refresh token every time, and for what it lacks (the
device flow, tokens that end) the tests' own, over HTTP.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from eo_tasks.grid import Cell
from eo_tasks.settings import ImagerySource, Settings
from eo_tasks.sources.openeo.account import account_of
from eo_tasks.sources.openeo.backend import Backend, disconnect
from eo_tasks.sources.openeo.job import JobStatus
from eo_tasks.sources.openeo.logging_in import logged_in
from eo_tasks.sources.openeo.login import Login
from eo_tasks.sources.openeo.result import read_result
from eo_tasks.sources.request import CompositeRequest
from tests.oidc import Provider, serving
from tests.openeo_backend.scenes import COLLECTION, EPSG, SyntheticScene
from tests.openeo_backend.servers import PASSWORD, USER, VENVS, OpenEOBackend, missing_environments, running

REASON = missing_environments()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),  # the first run may install the servers
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),  # rasterio
]
MOCK = "oauth2-mock-server@8.2.3"  # later ones want a newer node than Debian and Ubuntu have
DISCOVERY = "/.well-known/openid-configuration"
START_S = 60


@dataclass(frozen=True)
class Servers:
    """An openEO backend, and the providers that it trusts."""

    backend: OpenEOBackend
    provider: Provider
    mock_issuer: str | None


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with contextlib.ExitStack() as stack:
        provider = stack.enter_context(serving())
        mock = stack.enter_context(mock_server()) if missing_mock() is None else None
        issuers = {"people": provider.issuer} | ({"mock": mock} if mock else {})
        patched = stack.enter_context(pytest.MonkeyPatch.context())
        patched.setenv("BACKEND_OIDC_ISSUER", " ".join(f"{name}={issuer}" for name, issuer in issuers.items()))
        yield Servers(stack.enter_context(running(tmp_path_factory.mktemp("openeo"), scenes())), provider, mock)


@pytest.fixture
def provider(servers: Servers) -> Provider:
    """The tests' own provider, as new."""
    servers.provider.polls.clear()
    servers.provider.fresh.clear()
    servers.provider.expire()
    return servers.provider


@pytest.fixture
def environment(servers: Servers, tmp_path: Path) -> dict[str, str]:
    """A process's environment: the backend, and nothing of whoever runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "VIRTUAL_ENV") if name in os.environ}
    return kept | {
        "HOME": str(tmp_path),
        "OPENEO_URL": servers.backend.batch_url,
        "OPENEO_COLLECTION": COLLECTION,
        "OPENEO_TOKEN_FILE": str(tmp_path / "kept" / "tokens.json"),
        "PYTHONWARNINGS": "default",
    }


@pytest.fixture
def at_mock(servers: Servers, environment: dict[str, str]) -> dict[str, str]:
    """The same, at npm's provider."""
    if servers.mock_issuer is None:
        pytest.skip(str(missing_mock()))
    return environment | {"OPENEO_AUTH_PROVIDER_ID": "mock"}


def scenes() -> list[SyntheticScene]:
    random = np.random.default_rng(7)
    images = {band: random.integers(100, 9000, (60, 60)).astype(np.uint16) for band in ("B02", "B03", "B04")}
    days = ("2023-05-15", "2023-07-20")
    classes = np.full((60, 60), 4, np.uint8)
    return [SyntheticScene(f"S2A_{day}", f"{day}T10:00:00Z", {**images, "SCL": classes}) for day in days]


def missing_mock() -> str | None:
    """Why npm's provider cannot be started here; ``None`` if it can."""
    if shutil.which("node") is None:
        return "oauth2-mock-server needs node"
    if mock_program().exists() or (os.environ.get("EO_TASKS_TEST_OPENEO") == "1" and shutil.which("npm")):
        return None
    return "oauth2-mock-server is not installed: set EO_TASKS_TEST_OPENEO=1 to install it (npm)"


def mock_program() -> Path:
    return VENVS / "oidc" / "node_modules" / ".bin" / "oauth2-mock-server"


@contextlib.contextmanager
def mock_server() -> Iterator[str]:
    """Run npm's provider on a free port; gives its issuer."""
    if not mock_program().exists():
        quiet = ["--no-audit", "--no-fund", "--silent", "--prefix", str(VENVS / "oidc")]
        subprocess.run(["npm", "install", *quiet, MOCK], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    issuer = f"http://localhost:{port}"
    command = [str(mock_program()), "-a", "localhost", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: urllib.request.urlopen(issuer + DISCOVERY, timeout=5).close())  # noqa: S310  ours
            yield issuer
        finally:
            process.terminate()


def wait_for(action) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            return action()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "eo_tasks.cli", *arguments]


def run(environment: dict[str, str], tmp_path: Path, *arguments: str) -> str:
    """Run the command in a process of its own; gives what it prints."""
    done = subprocess.run(
        command(*arguments), env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def check(environment: dict[str, str], tmp_path: Path) -> str:
    return run(environment, tmp_path, "openeo", "check", "--no-request")


def tokens_of(environment: dict[str, str]) -> dict[str, str]:
    """What the token file has, by issuer and client; checks that it is private and whole."""
    path = Path(environment["OPENEO_TOKEN_FILE"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]
    return {
        f"{issuer} {client}": kept["refresh_token"]
        for issuer, clients in json.loads(path.read_text()).items()
        for client, kept in clients.items()
    }


# npm's provider


def test_client_credentials_log_in(at_mock, tmp_path):
    said = check(at_mock | {"OPENEO_AUTH_CLIENT_ID": "robot", "OPENEO_AUTH_CLIENT_SECRET": "hush"}, tmp_path)
    assert "✓ account    johndoe, logged in with client credentials\n" in said
    assert not Path(at_mock["OPENEO_TOKEN_FILE"]).exists()


def test_a_given_refresh_token_logs_in_again_and_again(servers, at_mock, tmp_path):
    given = at_mock | {"OPENEO_AUTH_CLIENT_ID": "robot", "OPENEO_AUTH_REFRESH_TOKEN": "hush"}
    kept = []
    for _ in range(2):
        assert "johndoe, logged in with the refresh token of OPENEO_AUTH_REFRESH_TOKEN" in check(given, tmp_path)
        ((name, token),) = tokens_of(given).items()
        assert name.startswith(f"{servers.mock_issuer} robot ")  # beside what a person puts there
        kept.append(token)
    assert len({"hush", *kept}) == 3, "every process keeps the successor that it was given"


# A provider with the device flow


def test_a_person_logs_in_once_and_unattended_processes_from_then_on(provider, environment, tmp_path):
    provider.polls = ["authorization_pending"]
    said = run(environment, tmp_path, "login", "--no-browser")
    assert f"  Open   {provider.issuer}/page\n  Enter  ABCD-EFGH\n" in said
    assert f"Logged in at {environment['OPENEO_URL']} as ana, by {provider.issuer}, client people.\n" in said
    seen = [*tokens_of(environment).values()]
    for _ in range(2):
        assert "✓ account    ana, logged in with the refresh token of eo-tasks login\n" in check(environment, tmp_path)
        seen += tokens_of(environment).values()
        assert provider.fresh == {seen[-1]}
    assert len(set(seen)) == 3, "a rotated token is written back"
    assert all(token not in said for token in seen)


def test_processes_that_log_in_at_once_take_turns_with_the_one_token(provider, environment, tmp_path):
    run(environment, tmp_path, "login", "--no-browser")
    arguments = command("openeo", "check", "--no-request")
    started = [
        subprocess.Popen(arguments, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(5)
    ]
    ended = [(process.communicate(timeout=120)[0].decode(), process.returncode) for process in started]
    assert [code for _, code in ended] == [0] * 5, ended
    assert provider.fresh == set(tokens_of(environment).values())


def test_access_that_has_expired_is_renewed_unseen(provider, environment, tmp_path):
    run(environment, tmp_path, "login", "--no-browser")
    with logged_in(Login.from_settings(settings(environment))) as connection:
        provider.expire()  # the backend has not seen it yet, and so does not remember it as good
        assert account_of(connection)["user_id"] == "ana"
    assert provider.fresh == set(tokens_of(environment).values())


def test_a_revoked_token_is_told_with_what_to_do(provider, environment, tmp_path):
    run(environment, tmp_path, "login", "--no-browser")
    provider.fresh.clear()
    arguments = command("openeo", "check")
    done = subprocess.run(arguments, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: openEO login at ")
    assert done.stderr.endswith("Run: eo-tasks login\n")
    assert all(token not in done.stderr for token in tokens_of(environment).values())


def test_an_interrupted_login_leaves_nothing(provider, environment, tmp_path):
    provider.polls = ["authorization_pending"] * 100
    with subprocess.Popen(
        command("login", "--no-browser"),
        env=environment | {"PYTHONUNBUFFERED": "1"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert any(line.startswith("Waiting for ") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "Interrupted: no token was kept.\n")
    assert not Path(environment["OPENEO_TOKEN_FILE"]).parent.exists()


def test_a_batch_job_is_computed_with_a_kept_token(provider, environment, tmp_path):
    run(environment, tmp_path, "login", "--no-browser")
    cell = Cell(1, EPSG, (500_100, 5_149_700, 500_200, 5_149_800))
    request = CompositeRequest.of(cell, 2023, ("B02", "B03", "B04"), (4, 5, 6, 7, 8, 9), (3, 8, 9, 10, 11))
    backend = Backend.from_settings(settings(environment))
    try:
        with backend.connected() as jobs:
            job = jobs.create("login test", request)
            jobs.start(job)
            deadline = time.monotonic() + 120
            while (status := jobs.look(job).status) in (JobStatus.CREATED, JobStatus.QUEUED, JobStatus.RUNNING):
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert status is JobStatus.FINISHED
            assert [each.id for each in jobs.all()] == [job]
            details = jobs.fetch(job, tmp_path / "result.tiff")
    finally:
        disconnect()
    made = read_result(tmp_path / "result.tiff", request, backend.origin(details))
    assert made.clear_count.tolist() == [[2] * 10] * 10


# Basic auth


def test_the_whole_check_of_a_synchronous_backend(servers, environment, tmp_path):
    with_password = {"OPENEO_USERNAME": USER, "OPENEO_PASSWORD": PASSWORD}
    at_titiler = environment | with_password | {"OPENEO_URL": servers.backend.synchronous_url}
    lines = run(at_titiler, tmp_path, "openeo", "check").splitlines()
    assert [line.split()[1] for line in lines] == [
        "backend",
        "account",
        "limits",
        "credits",
        "collection",
        "jobs",
        "request",
    ]
    assert ", 2023, months 4–9: 10×10 px in " in lines[-1]
    assert lines[-1].endswith("; 2 to 2 clear observations")


def settings(environment: dict[str, str]) -> Settings:
    values = {name.lower(): value for name, value in environment.items() if name.startswith("OPENEO_")}
    return Settings(_env_file=None, imagery_source=ImagerySource.OPENEO, **values)
