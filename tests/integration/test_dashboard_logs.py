"""Logs over the dashboard's API: lines that fit, page by page, and those that come."""

import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from redis import Redis
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from eo_tasks.logs import JsonLines, about
from eo_tasks.units import Stage, Unit
from tests.dashboard import Dashboard, dashboard

pytestmark = pytest.mark.integration

SOON_S = 30
STORE, PAIR = Unit(Stage.STORE, 463, (2022,)), Unit(Stage.BTC, 464, (2022, 2023))


@pytest.fixture
def log(environment: dict[str, str]) -> Iterator[logging.Logger]:
    """What a worker logs with."""
    logger = logging.getLogger("a.worker")
    handler = JsonLines(Path(environment["DATA_DIR"]) / "logs", "cpu@there", 1_000_000)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield logger
    logger.removeHandler(handler)
    handler.close()


@pytest.fixture
def board(environment: dict[str, str], redis: Redis, tmp_path: Path) -> Iterator[Dashboard]:
    """A dashboard that only this machine reaches."""
    with dashboard(environment, tmp_path / "dashboard") as running:
        yield running


def write(log: logging.Logger) -> None:
    for unit, level in ((STORE, logging.INFO), (PAIR, logging.INFO), (PAIR, logging.ERROR)):
        with about(unit):
            log.log(level, "unit ended", extra={"level_no": level})


def test_lines_are_filtered_and_come_page_by_page(board: Dashboard, log: logging.Logger) -> None:
    write(log)
    with board.client() as anyone:

        def units(**asked: object) -> list[object]:
            return [line["unit"] for line in anyone.get("/logs", params=asked | {"text": "unit ended"}).json()["lines"]]

        assert units() == [PAIR.id, PAIR.id, STORE.id]
        assert units(stage="store") == [STORE.id]
        assert units(cell=464, level="ERROR") == [PAIR.id]
        assert units(year=2023) == [PAIR.id, PAIR.id]
        first = anyone.get("/logs", params={"text": "unit ended", "most": 2}).json()
        second = anyone.get("/logs", params={"text": "unit ended", "most": 2, "before": first["before"]}).json()
        assert [len(page["lines"]) for page in (first, second)] == [2, 1]
        assert second["lines"][0] | {"at": "", "worker": "cpu@there"} == {
            "at": "", "level": "INFO", "logger": "a.worker", "event": "unit ended", "unit": STORE.id, "stage": "store",
            "grid_id": 463, "year": 2022, "worker": "cpu@there", "exception": None, "fields": {"level_no": 20},
        }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "status"),
    [({"before": "Li4vLi4vZXRjL3Bhc3N3ZA"}, 409), ({"before": "../../etc"}, 422), ({"level": "LOUD"}, 422)],
)
def test_what_is_no_place_in_the_logs_is_refused(board: Dashboard, asked: dict[str, str], status: int) -> None:
    with board.client() as anyone:
        assert anyone.get("/logs", params=asked).status_code == status


def test_the_dashboard_writes_its_own_log(board: Dashboard, environment: dict[str, str]) -> None:
    assert list((Path(environment["DATA_DIR"]) / "logs").glob("dashboard@*.jsonl"))


def test_a_client_is_told_the_lines_that_it_asked_for(board: Dashboard, log: logging.Logger) -> None:
    with connect(f"ws://127.0.0.1:{board.port}/api/v1/live") as listening:
        listening.send(json.dumps({"logs": {"cell": 464, "level": "ERROR"}}))
        told = next_lines(listening, log)
        assert {(line["unit"], line["level"]) for line in told} == {(PAIR.id, "ERROR")}


def next_lines(listening: ClientConnection, log: logging.Logger) -> list[dict[str, object]]:
    """The next lines, whatever else comes; written with each message, since the filter holds from some moment on."""
    while True:
        write(log)
        message = json.loads(listening.recv(timeout=SOON_S))
        if message["type"] == "logs":
            lines: list[dict[str, object]] = message["lines"]
            return lines


def test_a_client_that_says_something_else_is_left(board: Dashboard) -> None:
    with connect(f"ws://127.0.0.1:{board.port}/api/v1/live") as listening:
        listening.send('{"logs": {"level": "LOUD"}}')
        with suppress(ConnectionClosed):
            while True:
                listening.recv(timeout=SOON_S)
        assert listening.close_code == 1007


def test_who_may_not_look_reads_no_logs(environment: dict[str, str], redis: Redis, tmp_path: Path) -> None:
    with (
        dashboard(environment, tmp_path / "open", MONITORING_HOST="0.0.0.0") as running,  # noqa: S104
        running.client() as anyone,
    ):
        assert anyone.get("/logs").status_code == 401
        assert httpx.get(f"{running.url}/healthz").status_code == 200
