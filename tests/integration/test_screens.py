"""The dashboard and Flower beside a local run: who may look, and what they show."""

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from time import monotonic

import psutil
import pytest
import requests
from redis import Redis

from eo_tasks.grid import GridYear
from eo_tasks.local.screens import open_dashboard, open_flower
from eo_tasks.local.services import Services
from eo_tasks.settings import Settings
from eo_tasks.state.entry import State
from eo_tasks.tasks.context import ledger
from eo_tasks.tasks.send import publish
from tests.monitoring import FLOWERS
from tests.system import system, this_process, wait_for

pytestmark = pytest.mark.integration

DEADLINE_S = 90
STUB_CPU = ("-A", "tests.stubs.cpu", "worker", "-n", "cpu@%h")
LOGIN = "me:it's a secret"


@pytest.fixture
def stubbed(
    sample_environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The environment of this process and its children, at an empty Redis; no step takes long."""
    environment = sample_environment | {"STUB_SECONDS": "0", "PYTHONPATH": str(Path(__file__).parents[2])}
    with this_process(environment, monkeypatch):
        yield environment


def fetched(url: str, login: str | None = None) -> tuple[int, str]:
    """What a server answers, waited for until it is there."""
    user, _, password = (login or "").partition(":")
    answers: list[requests.Response] = []

    def has_answered() -> bool:
        try:
            answers.append(requests.get(url, auth=(user, password) if login else None, timeout=30))
        except requests.ConnectionError:
            return False
        return True

    wait_until(has_answered)
    return answers[0].status_code, answers[0].text


def wait_until(condition: Callable[[], bool]) -> None:
    end, pause = monotonic() + DEADLINE_S, Event()
    while not condition():
        assert monotonic() < end, f"not within {DEADLINE_S} s"
        pause.wait(0.2)


def told_in(file: Path) -> dict[str, str]:
    """The variables that a shell gets from the file."""
    words = [shlex.split(line) for line in file.read_text().splitlines()]
    return dict(word.split("=", 1) for export, word in words if export == "export")


def command_lines(folder: Path) -> str:
    pids = json.loads((folder / "processes.json").read_text())
    return " ".join(" ".join(psutil.Process(int(pid)).cmdline()) for pid in pids)


def opened(start: Callable[..., None], services: Services, settings: Settings, folder: Path) -> str:
    """Start a screen; gives its address as it is announced."""
    lines: list[str] = []
    start(services, settings, folder / "environment", lines.append)
    (line,) = lines
    assert line.endswith(f" (login in {folder / 'environment'})")
    return line.split()[1]


@pytest.mark.usefixtures("stubbed")
def test_flower_of_a_local_run_has_a_login_that_only_its_user_can_read(tmp_path: Path) -> None:
    with Services(tmp_path / "run") as services:
        url = opened(open_flower, services, Settings(), tmp_path / "run")
        login = told_in(tmp_path / "run" / "environment")["FLOWER_BASIC_AUTH"]
        assert (tmp_path / "run" / "environment").stat().st_mode & 0o777 == 0o600
        user, _, password = login.partition(":")
        assert user == "operator"
        assert len(password) >= 20
        assert fetched(url + "/healthcheck") == (200, "OK")
        for page in ("/", "/tasks", "/api/workers", "/api/tasks"):
            assert fetched(url + page)[0] == 401
            assert fetched(url + page, f"{user}:wrong")[0] == 401
            assert fetched(url + page, login)[0] == 200
        assert password not in command_lines(tmp_path / "run")


@pytest.mark.usefixtures("stubbed")
def test_flower_takes_the_login_that_is_set(tmp_path: Path) -> None:
    with Services(tmp_path / "run") as services:
        url = opened(open_flower, services, Settings(flower_basic_auth=LOGIN), tmp_path / "run")
        assert told_in(tmp_path / "run" / "environment") == {"FLOWER_BASIC_AUTH": LOGIN}
        assert fetched(url + "/api/workers", LOGIN)[0] == 200


def test_flower_lists_units_by_name_and_knows_them_after_it_was_stopped(
    stubbed: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    unit, run = GridYear(463, 2021).download, tmp_path / "run"
    settings = Settings(flower_basic_auth=LOGIN)
    with Services(run) as services, system(stubbed, tmp_path / "logs") as running:
        url = opened(open_flower, services, settings, run)
        running.start("cpu", STUB_CPU)
        wait_until(lambda: 'flower_worker_online{worker="cpu@' in fetched(url + "/metrics")[1])
        ledger().make_ready([unit], "test")
        publish(ledger().take(unit.stage, "test", 1))
        wait_for(redis, lambda: ledger().entry(unit).state is State.COMPLETED, DEADLINE_S, running.logs)
        wait_until(lambda: state_of(url, unit.id) == "SUCCESS")

        page = fetched(url + "/tasks", LOGIN)[1]
        assert 0 < page.index('data-column="uuid"') < page.index('data-column="name"')
        asked = "draw=1&start=0&length=10&search[value]=download_463&order[0][column]=0&columns[0][data]=uuid"
        (row,) = json.loads(fetched(f"{url}/tasks/datatable?{asked}", LOGIN)[1])["data"]
        assert row["uuid"] == unit.id

        wait_until(lambda: metrics_at(url) == FLOWERS)
    with Services(run) as services:
        url = opened(open_flower, services, settings, run)
        assert state_of(url, unit.id) == "SUCCESS"


def metrics_at(url: str) -> set[str]:
    """Names of Flower's own metrics, which Prometheus reads without a login; some come with a worker's heartbeat."""
    status, metrics = fetched(url + "/metrics")
    names = {line.split("{")[0] for line in metrics.splitlines() if line.startswith("flower_")}
    assert status == 200
    return {name for name in names if not name.endswith("_created")}


def state_of(url: str, unit_id: str) -> str | None:
    code, text = fetched(f"{url}/api/task/info/{unit_id}", LOGIN)
    return json.loads(text)["state"] if code == 200 else None


@pytest.mark.usefixtures("stubbed")
def test_dashboard_of_a_local_run_has_a_login_that_only_its_user_can_read(tmp_path: Path) -> None:
    with Services(tmp_path / "run") as services:
        url = opened(open_dashboard, services, Settings(), tmp_path / "run")
        assert fetched(url + "/healthz")[0] == 200
        told = told_in(tmp_path / "run" / "environment")
        assert told["DASHBOARD_USER"] == "operator"
        assert told["DASHBOARD_PASSWORD"] not in command_lines(tmp_path / "run")
        login = {"user": told["DASHBOARD_USER"], "password": told["DASHBOARD_PASSWORD"]}
        answer = requests.post(f"{url}/api/v1/login", json=login, headers={"Origin": url}, timeout=30)
        assert answer.json()["can_control"] is True
