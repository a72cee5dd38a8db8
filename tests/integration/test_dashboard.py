"""The dashboard's API, asked over HTTP of a real process, with a real Redis behind it."""

import json
import socket
from collections.abc import Callable, Iterator
from threading import Event
from time import monotonic
from typing import Any

import httpx
import pytest
from redis import Redis
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from eo_tasks.grid import GridYear, YearPair
from eo_tasks.state.entry import State
from eo_tasks.state.ledger import Ledger
from eo_tasks.units import Unit
from tests.dashboard import PASSWORD, TOKEN, Dashboard, dashboard, log_in
from tests.painted import paint
from tests.system import this_process

pytestmark = pytest.mark.integration

CELLS, YEARS = (0, 1, 2), (2021, 2022)
DOWNLOADS = [GridYear(cell, year).download for cell in CELLS for year in YEARS]
DOWNLOADS_2022 = "/map?stage=download&period=2022"
SOON_S = 30


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The settings of three cells whose composites are stored, but for the last one's of 2022."""
    folder = tmp_path_factory.mktemp("country")
    settings = paint({"DATA_DIR": str(folder / "data")}, folder / "grid.gpkg", len(CELLS), YEARS)
    for path in (folder / "data" / "images" / "2022").glob("sentinel2_grid_2_*"):
        path.unlink()
    return settings


@pytest.fixture
def country(environment: dict[str, str], painted: dict[str, str]) -> dict[str, str]:
    """The environment of everything in a test."""
    return {**environment, **painted, "IMAGERY_SOURCE": "stac", "STAC_URL": "nowhere/catalog.json"}


@pytest.fixture
def ledger(country: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """The ledger, as workers have it."""
    with this_process(country, monkeypatch) as made:
        yield made


@pytest.fixture
def board(country: dict[str, str], ledger: Ledger, tmp_path) -> Iterator[Dashboard]:
    """A dashboard that only this machine reaches."""
    with dashboard(country, tmp_path / "dashboard") as running:
        yield running


@pytest.fixture
def anyone(board: Dashboard) -> Iterator[httpx.Client]:
    """Who is not logged in."""
    with board.client() as client:
        yield client


@pytest.fixture
def operator(board: Dashboard) -> Iterator[httpx.Client]:
    """Who is."""
    with board.client() as client:
        assert log_in(client).status_code == 200
        yield client


def enqueue(years: tuple[int, ...] = YEARS) -> str:
    from eo_tasks.tasks.enqueue import enqueue_years

    return str(enqueue_years(list(years), None)["run"])


def fail(ledger: Ledger, unit: Unit, error: str) -> None:
    lease = ledger.begin(unit, "me", "cpu@here")
    assert lease is not None
    ledger.fail(lease, error)


def soon(client: httpx.Client, path: str, holds: Callable[[Any], bool]) -> Any:
    """What is answered as soon as this holds of it: states that are shown may be a second old."""
    deadline, pause = monotonic() + SOON_S, Event()
    while not holds(shown := client.get(path).json()):
        assert monotonic() < deadline, shown
        pause.wait(0.1)
    return shown


def letters(matrix: dict[str, Any], stage: str, period: str) -> str:
    columns = {(column["stage"], column["period"]): column["states"] for column in matrix["columns"]}
    return str(columns.get((stage, period), ""))


# Looking


def test_the_summary_counts_what_is_wanted_and_what_is_done(anyone: httpx.Client, ledger: Ledger) -> None:
    run = enqueue()
    summary = anyone.get("/summary").json()
    downloads, stores, btc = summary["stages"]
    assert (downloads["stage"], downloads["total"], downloads["states"]) == (
        "download", 6, {"skipped": 5, "enqueued": 1},
    )  # fmt: skip
    assert stores["total"] == 6
    assert btc["total"] == 3
    assert btc["states"] == {"enqueued": 2, "waiting": 1}
    assert [(one["id"], one["state"], one["cells"]) for one in summary["runs"]] == [(run, "active", 3)]
    assert summary["queues"] == {"downloads": 1, "stores": 0, "btc": 2, "control": 0}


def test_the_matrix_has_a_letter_for_every_unit(anyone: httpx.Client, ledger: Ledger) -> None:
    enqueue()
    fail(ledger, DOWNLOADS[-1], "SourceError: no such scene")
    matrix = soon(anyone, "/matrix", lambda shown: letters(shown, "download", "2022").endswith("f"))
    assert [(row["first_id"], row["cells"]) for row in matrix["rows"]] == [(0, 1), (1, 1), (2, 1)]
    assert letters(matrix, "download", "2021") == "kkk"
    assert letters(matrix, "download", "2022") == "kkf"
    assert letters(matrix, "btc", "2021_2022") == "eew"
    assert matrix["codes"]["f"] == "failed"


def test_a_part_of_the_matrix_is_given_alone(anyone: httpx.Client, ledger: Ledger) -> None:
    enqueue()
    assert [row["first_id"] for row in anyone.get("/matrix?first=1&rows=1").json()["rows"]] == [1]
    assert [row["first_id"] for row in anyone.get("/matrix?of=1-2").json()["rows"]] == [1, 2]
    assert anyone.get("/matrix?of=7-9").json()["rows"] == []


def test_the_map_has_an_outline_and_a_value_for_every_cell(anyone: httpx.Client, ledger: Ledger) -> None:
    enqueue()
    grid = anyone.get("/grid").json()
    assert [shape["id"] for shape in grid["shapes"]] == ["0", "1", "2"]
    west, south, east, north = grid["bounds"]
    assert all(west <= lon <= east and south <= lat <= north for shape in grid["shapes"] for lon, lat in shape["ring"])
    assert (15.0 - west, east - 15.06) == (pytest.approx(0, abs=0.01), pytest.approx(0, abs=0.01))
    states = soon(anyone, DOWNLOADS_2022, lambda shown: shown["values"]["2"] == "e")
    assert states == {"level": 0, "values": {"0": "k", "1": "k", "2": "e"}}
    changed = anyone.get("/map", params={"measure": "changed", "period": "2021_2022"}).json()
    assert changed["values"] == {"0": None, "1": None, "2": None}
    assert anyone.get("/map", params={"measure": "changed", "period": "2021"}).status_code == 422


def test_the_map_is_a_second_old_though_nobody_watches(anyone: httpx.Client, ledger: Ledger) -> None:
    enqueue()
    soon(anyone, DOWNLOADS_2022, lambda shown: shown["values"]["2"] == "e")
    fail(ledger, DOWNLOADS[-1], "SourceError: no such scene")
    soon(anyone, DOWNLOADS_2022, lambda shown: shown["values"]["2"] == "f")


def test_a_box_shows_only_the_cells_that_it_touches(anyone: httpx.Client, ledger: Ledger) -> None:
    ring = anyone.get("/grid").json()["shapes"][0]["ring"]
    lon, lat = (sum(values) / 5 for values in zip(*ring, strict=True))
    box = f"{lon - 0.001},{lat - 0.001},{lon + 0.001},{lat + 0.001}"
    assert [shape["id"] for shape in anyone.get("/grid", params={"bbox": box}).json()["shapes"]] == ["0"]


def test_a_cell_shows_its_units_and_records(anyone: httpx.Client, ledger: Ledger) -> None:
    enqueue()
    cell = anyone.get("/cells/2").json()
    first, second = cell["years"]
    assert (first["year"], first["store"]["state"], first["image"]["clear_share"] > 0.9) == (2021, "skipped", True)
    assert (second["download"]["id"], second["download"]["state"], second["image"]) == (
        "download_2_2022", "enqueued", None,
    )  # fmt: skip
    assert [(pair["before"], pair["after"], pair["mask"]) for pair in cell["pairs"]] == [(2021, 2022, None)]
    assert cell["centre"] == [pytest.approx(15.05, abs=0.01), pytest.approx(45.15, abs=0.03)]


def test_a_cell_that_is_not_there_is_told(anyone: httpx.Client) -> None:
    answer = anyone.get("/cells/77")
    assert answer.status_code == 404
    assert answer.json()["detail"].startswith("Cell 77: ")


def test_cells_are_found_by_the_beginning_of_their_id(anyone: httpx.Client) -> None:
    assert [cell["grid_id"] for cell in anyone.get("/cells", params={"q": "1"}).json()] == [1]


def test_a_composite_is_a_picture_that_is_sent_once(anyone: httpx.Client) -> None:
    answer = anyone.get("/cells/0/images/2021.png")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")
    again = anyone.get("/cells/0/images/2021.png", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/cells/2/images/2022.png", "/cells/0/masks/2021-2022.png", "/cells/0/probability/2021-2022.png"]
)
def test_a_picture_of_what_is_not_stored_is_not_found(anyone: httpx.Client, path: str) -> None:
    assert anyone.get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/%2fetc/passwd"]
)
def test_no_path_leads_out_of_the_static_files(board: Dashboard, path: str) -> None:
    with _raw(board) as client:
        assert client.get(httpx.URL(board.url, raw_path=path.encode())).status_code == 404


def _raw(board: Dashboard) -> httpx.Client:
    return httpx.Client(base_url=board.url, timeout=30)


def test_the_report_is_a_page_a_table_and_numbers(anyone: httpx.Client, ledger: Ledger) -> None:
    run = enqueue()
    page = anyone.get("/report.html")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src" not in page.headers["content-security-policy"]
    assert run in page.text
    lines = anyone.get("/report.csv").text.splitlines()
    assert len(lines) == 1 + 6
    assert anyone.get("/report.json", params={"run": run}).json()
    assert anyone.get("/report.json", params={"run": "none"}).status_code == 409


def test_alerts_and_workers_are_lists(anyone: httpx.Client) -> None:
    assert anyone.get("/alerts").json() == {"active": [], "recent": []}
    assert anyone.get("/workers").json() == []


def test_prometheus_reads_the_numbers(board: Dashboard, ledger: Ledger) -> None:
    enqueue()
    text = httpx.get(f"{board.url}/metrics").text
    assert 'eo_tasks_units{stage="download",state="enqueued"} 1.0' in text


# Acting


def test_nobody_acts_without_logging_in(anyone: httpx.Client, ledger: Ledger) -> None:
    run = enqueue()
    for path, given in (("/runs", {"years": [2021]}), (f"/runs/{run}/pause", None), ("/retry", {})):
        answer = anyone.post(path, json=given)
        assert (answer.status_code, answer.json()["detail"]) == (401, "Log in first.")
    assert anyone.get("/session").json() == {
        "user": None, "csrf": None, "can_control": False, "can_log_in": True, "must_log_in": False,
    }  # fmt: skip


def test_a_run_is_started_paused_and_resumed_and_all_of_it_is_written_down(operator: httpx.Client) -> None:
    planned = operator.post("/runs/plan", json={"years": [2021, 2022]}).json()
    assert planned["units"]["download"]["todo"] == 1
    started = operator.post("/runs", json={"years": [2021, 2022]})
    assert (started.status_code, started.json()["cells"]) == (201, 3)
    run = started.json()["run"]
    paused = operator.post(f"/runs/{run}/pause").json()
    assert (paused["run"]["state"], paused["withdrawn"]) == ("paused", 3)
    assert operator.post(f"/runs/{run}/resume").json()["run"]["state"] == "active"
    assert operator.post(f"/runs/{run}/stop").json()["run"]["state"] == "stopped"
    again = operator.post(f"/runs/{run}/stop")
    assert (again.status_code, "has ended" in again.json()["detail"]) == (409, True)
    deeds = operator.get("/audit").json()
    assert [deed["action"] for deed in deeds] == ["stop", "stop", "resume", "pause", "start"]
    assert {deed["who"] for deed in deeds} == {"operator (dashboard)"}
    assert deeds[0]["outcome"].startswith("not done: ")


def test_one_kind_of_failure_is_shown_and_tried_again(operator: httpx.Client, ledger: Ledger) -> None:
    enqueue()
    fail(ledger, DOWNLOADS[-1], "SourceError: Cell 2, 2022: no such scene")
    fail(ledger, YearPair(0, 2021, 2022).btc, "RasterError: Cell 0, 2021–2022: torn")
    first, second = sorted(operator.get("/errors").json(), key=lambda group: str(group["error_class"]))
    assert (first["error_class"], first["number"], first["cells"]) == ("RasterError", 1, [0])
    assert second["units"] == ["download_2_2022"]
    assert operator.post("/retry", json={"error": second["id"]}).json() == {"sent": 1, "ready": 0, "unwanted": 0}
    assert ledger.entry(DOWNLOADS[-1]).state is State.ENQUEUED
    assert ledger.entry(YearPair(0, 2021, 2022).btc).state is State.FAILED
    assert operator.post("/retry", json={"cell": 1}).status_code == 404


def test_programs_act_with_a_token(board: Dashboard) -> None:
    with board.client(TOKEN) as program, board.client("wrong") as stranger:
        assert program.post("/runs", json={"years": [2021]}).status_code == 201
        assert stranger.post("/runs", json={"years": [2021]}).status_code == 401


@pytest.mark.parametrize(
    "wrong", [{}, {"years": []}, {"years": ["x"]}, {"years": [2021], "more": 1}, {"years": [2021], "grid_ids": [-1]}]
)
def test_a_request_that_is_wrong_is_refused(operator: httpx.Client, wrong: dict[str, object]) -> None:
    assert operator.post("/runs", json=wrong).status_code == 422


@pytest.mark.parametrize(
    ("years", "ids", "message"), [([2013], None, "Year 2013"), ([2021], [99], "Cell 99"), ([2021], [], "No cells")]
)
def test_years_and_cells_that_do_not_exist_are_told(
    operator: httpx.Client, years: list[int], ids: list[int] | None, message: str
) -> None:
    answer = operator.post("/runs", json={"years": years, "grid_ids": ids})
    assert answer.status_code in (404, 409)
    assert message in answer.json()["detail"]


# Safety


def test_a_session_needs_its_second_secret_to_act(operator: httpx.Client) -> None:
    del operator.headers["X-CSRF-Token"]
    assert operator.post("/runs", json={"years": [2021]}).status_code == 403
    assert operator.get("/session").json()["user"] == "operator"


def test_a_request_of_another_site_is_refused(operator: httpx.Client) -> None:
    answer = operator.post("/runs", json={"years": [2021]}, headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 403


def test_a_session_ends_when_it_is_logged_out(operator: httpx.Client) -> None:
    cookies = dict(operator.cookies)
    assert operator.post("/logout").status_code == 204
    operator.cookies.update(cookies)
    assert operator.get("/session").json()["user"] is None


def test_wrong_passwords_are_counted(anyone: httpx.Client) -> None:
    answers = [log_in(anyone, "wrong").status_code for _ in range(6)]
    assert answers == [401] * 5 + [429]
    assert log_in(anyone, PASSWORD).status_code == 429


def test_the_cookie_is_kept_from_scripts_and_other_sites(anyone: httpx.Client) -> None:
    cookie = log_in(anyone).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert PASSWORD not in cookie


def test_neither_cookie_nor_password_is_kept_as_it_is(operator: httpx.Client, redis: Redis) -> None:
    kept = list(redis.scan_iter("eo-tasks:session:*"))
    values = " ".join([*kept, *(str(redis.get(key)) for key in kept)])
    assert kept
    assert PASSWORD not in values
    assert not any(cookie in values for cookie in dict(operator.cookies).values())


def test_every_answer_carries_the_headers_that_browsers_guard_by(anyone: httpx.Client, board: Dashboard) -> None:
    for answer in (anyone.get("/summary"), anyone.get("/nothing"), httpx.get(f"{board.url}/nothing")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert anyone.get("/summary").headers["cache-control"] == "no-store"


def test_a_name_that_was_made_to_lead_here_is_refused(anyone: httpx.Client) -> None:
    assert anyone.get("/summary", headers={"Host": "elsewhere.example"}).status_code == 421


def test_a_body_without_end_is_refused(board: Dashboard) -> None:
    head = f"POST /api/v1/retry HTTP/1.1\r\nHost: 127.0.0.1:{board.port}\r\nContent-Length: 99999999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", board.port), timeout=SOON_S) as raw:
        raw.sendall(head.encode())
        assert raw.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_other_machines_see_nothing_before_they_log_in(country: dict[str, str], ledger: Ledger, tmp_path) -> None:
    with dashboard(country, tmp_path / "open", MONITORING_HOST="0.0.0.0") as running, running.client() as client:  # noqa: S104
        assert [client.get(path).status_code for path in ("/summary", "/matrix", "/cells/0", "/audit")] == [401] * 4
        assert client.get("/session").json()["must_log_in"] is True
        with pytest.raises((InvalidStatus, ConnectionClosed)):
            listen(running)
        log_in(client)
        assert client.get("/summary").status_code == 200


def test_it_does_not_serve_other_machines_without_a_login(country: dict[str, str], ledger: Ledger, tmp_path) -> None:
    settings = {"MONITORING_HOST": "0.0.0.0", "DASHBOARD_PASSWORD": "", "DASHBOARD_TOKEN": ""}  # noqa: S104
    with pytest.raises(AssertionError, match="Set DASHBOARD_PASSWORD"), dashboard(country, tmp_path / "o", **settings):
        pass


# Live


def listen(board: Dashboard) -> dict[str, object]:
    with connect(f"ws://127.0.0.1:{board.port}/api/v1/live") as listening:
        return dict(json.loads(listening.recv(timeout=SOON_S)))


def test_numbers_and_states_come_by_themselves(board: Dashboard, ledger: Ledger) -> None:
    enqueue()
    with connect(f"ws://127.0.0.1:{board.port}/api/v1/live") as listening:
        seen: dict[str, dict[str, object]] = {}
        while not {"summary", "workers"} <= seen.keys():
            message = json.loads(listening.recv(timeout=SOON_S))
            seen[message["type"]] = message
        fail(ledger, DOWNLOADS[-1], "SourceError: no such scene")
        while "cells" not in seen:
            message = json.loads(listening.recv(timeout=SOON_S))
            seen[message["type"]] = message
        assert seen["cells"]["changes"] == [["download", "2022", 2, "f"]]
        while seen["summary"]["summary"]["stuck"] != 1:  # type: ignore[index]
            message = json.loads(listening.recv(timeout=SOON_S))
            seen[message["type"]] = message


def test_another_sites_page_cannot_listen(board: Dashboard) -> None:
    with (
        pytest.raises((InvalidStatus, ConnectionClosed)),
        connect(f"ws://127.0.0.1:{board.port}/api/v1/live", origin="https://elsewhere.example") as listening,  # type: ignore[arg-type]
    ):
        listening.recv(timeout=SOON_S)
