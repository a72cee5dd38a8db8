"""Composites on order, by real workers from a backend that fails on demand: each is paid for once."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openeo
import pytest
from redis import Redis

from eo_tasks.grid import Cell, GridYear
from eo_tasks.plan import Wanted
from eo_tasks.sources import CompositeRequest
from eo_tasks.sources.openeo.graph import composite_graph
from eo_tasks.state.accounts import Accounts
from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.runs import Run, Runs, RunState
from eo_tasks.storage.files import LocalStore
from eo_tasks.units import Stage
from tests.openeo_backend.faulty import PASSWORD, USER, Fault, FaultyBackend
from tests.openeo_backend.scenes import COLLECTION, SyntheticScene, write_catalog
from tests.ordering import BANDS, BOTTOM, EPSG, LEFT, SIDE_M, cell_box, check_images, ordering, request
from tests.painted import GOLDEN
from tests.system import BEAT, CONTROL, CPU, System, celery, system, this_process, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

DEADLINE_S = 60


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[FaultyBackend]:
    with FaultyBackend(tmp_path / "backend") as running:
        yield running


@pytest.fixture
def country(environment: dict[str, str], backend: FaultyBackend, tmp_path: Path) -> dict[str, str]:
    """8 × 4 cells: two blocks."""
    return ordering(environment, backend, tmp_path, 8, 4)


def start(running: System) -> None:
    for name, arguments in (("control", CONTROL), ("beat", BEAT), ("cpu", CPU)):
        running.start(name, arguments)


def enqueue(running: System, folder: Path, *years: int) -> None:
    asked = celery(running.environment, folder, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request(*years))
    assert asked.returncode == 0, asked.stderr


def wait_until_stored(redis: Redis, running: System, year: int, number: int) -> None:
    ledger = Ledger(redis, Limits())
    stored = (State.COMPLETED, State.SKIPPED)

    def is_done() -> bool:
        return sum(ledger.counts(Stage.STORE, str(year)).get(state, 0) for state in stored) == number

    wait_for(redis, is_done, DEADLINE_S, running.logs)


def test_a_run_that_began_a_moment_ago_wants_the_rest_of_the_block_too(
    country: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eo_tasks.settings import ImagerySource
    from eo_tasks.tasks.context import ledger, runs
    from eo_tasks.tasks.ordering.place import place

    with this_process(country, monkeypatch):
        assert runs().recently_active() == []  # as this process saw it a moment ago
        Runs(redis).add(run := Run(Wanted(tuple(range(32)), (2023,)), created_at=1.0))
        ledger().make_ready([GridYear(0, 2023).download], run.id)
        ledger().take(Stage.DOWNLOAD, run.id, 1)
        order = place(GridYear(0, 2023), ImagerySource.OPENEO)
        assert order is not None
        assert len(order.cells) == 16
        assert place(GridYear(1, 2023), ImagerySource.OPENEO) is None


def test_a_source_that_does_not_answer_for_long_is_given_up_where_there_is_another(
    country: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from eo_tasks.errors import SourceUnavailableError
    from eo_tasks.settings import ImagerySource
    from eo_tasks.tasks.context import accounts, pipeline
    from eo_tasks.tasks.ordering import ends

    two = {"IMAGERY_SOURCE": "openeo,openeo2", "OPENEO2_URL": "http://127.0.0.1:9", "OPENEO2_AUTH_METHOD": "none"}
    with this_process(country | two, monkeypatch):
        first, last = pipeline().backends[ImagerySource.OPENEO], pipeline().backends[ImagerySource.OPENEO2]
        for backend in (first, last):
            ends.account_failed(backend, SourceUnavailableError("no answer"))
            assert not accounts().standing(backend.account).out_until
        monkeypatch.setattr(ends, "OUTAGE_S", 0)
        for backend in (first, last):
            ends.account_failed(backend, SourceUnavailableError("no answer"))
        assert accounts().standing(first.account).out_until
        assert not accounts().standing(last.account).out_until, "there is no other one: it is asked again and again"


def wait_for_pause(redis: Redis, running: System) -> None:
    wait_for(redis, lambda: any(run.state is RunState.PAUSED for run in Runs(redis).all()), DEADLINE_S, running.logs)


def command(running: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eo_tasks.cli", *arguments],
        env=dict(running.environment), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["batch", "synchronous"])
def test_a_block_is_one_request_and_its_cells_are_cut_pixel_for_pixel(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path, mode: str
) -> None:
    with system(country | {"OPENEO_MODE": mode}, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2022, 2023)
        for year in (2022, 2023):
            wait_until_stored(redis, running, year, 32)
        wait_for(redis, lambda: not redis.hlen("eo-tasks:orders"), DEADLINE_S, running.logs)
    check_images(Path(country["DATA_DIR"]), 32, 8, (2022, 2023))
    assert len(backend.audit("created" if mode == "batch" else "synchronous")) == 4
    assert not redis.hlen("eo-tasks:order-of")
    assert not list((Path(country["DATA_DIR"]) / "orders").iterdir())


def counts(redis: Redis, year: int, stage: Stage = Stage.DOWNLOAD) -> dict[State, int]:
    return Ledger(redis, Limits()).counts(stage, str(year))


def test_a_block_that_is_too_large_is_split_in_four_until_it_does(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    backend.set_faults(Fault("POST", "/jobs", f"fail_if_larger_than:{64 * 64}", times=-1))
    with system(country, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2023)
        wait_until_stored(redis, running, 2023, 32)
    check_images(Path(country["DATA_DIR"]), 32, 8, (2023,))
    assert len(backend.audit("created")) == 2 + 2 * 4
    assert len(backend.audit("failed")) == 2


def test_a_full_account_means_later_and_is_no_failure(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    backend.set(max_active=1, job_s=1.0)
    with system(country | {"OPENEO_MAX_JOBS": "4"}, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2022, 2023)
        for year in (2022, 2023):
            wait_until_stored(redis, running, year, 32)
    assert any(each["code"] == "ConcurrentJobLimit" for each in backend.audit("refused"))
    assert len(backend.audit("created")) == 4
    entries = dict(Ledger(redis, Limits()).all_entries(Stage.DOWNLOAD, "2023"))
    assert {entry.attempts for entry in entries.values()} == {1}


def test_an_account_never_has_more_jobs_or_starts_than_it_may(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    backend.set(job_s=0.5, max_active=100)
    limits = {"OPENEO_BLOCK_KM": "0.64", "OPENEO_MAX_JOBS": "3"}
    with system(country | limits, tmp_path / "logs") as running:
        start(running)
        running.start("control2", ("-A", "beat", "worker", "-n", "control2@%h"))
        enqueue(running, tmp_path, 2023)
        wait_until_stored(redis, running, 2023, 32)
    at_work, most = 0, 0
    for each in backend.audit():
        at_work += {"started": 1, "finished": -1, "failed": -1}.get(each["event"], 0)
        most = max(most, at_work)
    assert most == 3
    assert len(backend.audit("created")) == 8
    assert not backend.audit("refused")


def test_exhausted_credits_pause_the_run_and_say_so_and_it_goes_on_when_they_are_there(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    backend.set(budget=2.1)
    with system(country, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2022, 2023)
        wait_for_pause(redis, running)
        (run,) = Runs(redis).all()
        assert "credits exhausted" in run.note
        assert f"eo-tasks runs resume {run.id}" in run.note
        backend.set(budget=None)
        resumed = command(running, "runs", "resume", run.id)
        assert resumed.returncode == 0, resumed.stderr
        for year in (2022, 2023):
            wait_until_stored(redis, running, year, 32)
    assert len(backend.created_by_title()) == len(backend.audit("created")) == 4


def test_a_run_stops_before_its_budget_is_spent_and_says_what_to_do(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    with system(country | {"OPENEO_MAX_CREDITS": "7.5"}, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2020, 2021, 2022, 2023)  # 8 jobs of 2.02 credits each
        wait_for_pause(redis, running)
        (run,) = Runs(redis).all()
        assert "OPENEO_MAX_CREDITS=7.5" in run.note
        assert re.search(r" (80|96|112|128) composites are left to do", run.note)
        wait_for(redis, lambda: not redis.hlen("eo-tasks:orders"), DEADLINE_S, running.logs)
        wait_for(redis, lambda: stored_in_all(redis, 2020, 2021, 2022, 2023) == 48, DEADLINE_S, running.logs)
    assert len(backend.audit("created")) == 3
    spent = sum(job["costs"] for job in backend.jobs())
    assert Accounts(redis).spent(run.id) == pytest.approx(spent)


def stored_in_all(redis: Redis, *years: int) -> int:
    return sum(counts(redis, year, Stage.STORE).get(State.COMPLETED, 0) for year in years)


def test_a_year_without_imagery_is_empty_at_once_for_the_whole_block(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    backend.set_faults(Fault("POST", "/jobs", "no_data", times=-1))
    with system(country, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2023)
        wait_for(redis, lambda: counts(redis, 2023).get(State.EMPTY) == 32, DEADLINE_S, running.logs)
    assert len(backend.audit("created")) == 2


def test_months_are_added_before_a_cell_counts_as_empty(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    backend.set_faults(Fault("POST", "/jobs", "no_data", times=2))
    with system(country | {"EXTRA_MONTHS": "2"}, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2023)
        wait_until_stored(redis, running, 2023, 32)
    record = json.loads((Path(country["DATA_DIR"]) / "images/2023/sentinel2_grid_0_2023_08.json").read_text())
    assert record["months"] == list(range(2, 12))


@pytest.mark.parametrize("fault", ["shift", "wrong_bands"])
def test_a_result_that_is_not_what_was_asked_for_fails_with_one_clear_message(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path, fault: str
) -> None:
    backend.set_faults(Fault("POST", "/jobs", fault, times=-1))
    with system(country, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2023)
        wait_for(redis, lambda: counts(redis, 2023).get(State.FAILED) == 32, DEADLINE_S, running.logs)
    errors = {entry.error for _, entry in Ledger(redis, Limits()).all_entries(Stage.DOWNLOAD, "2023")}
    assert all(error.startswith("SourceError: Cell ") for error in errors)
    assert len(Ledger(redis, Limits()).error_groups()) == 1


@pytest.mark.parametrize("fault", ["empty", "garbage", "cut:500", "drop"])
def test_a_broken_transfer_is_repeated_without_another_job(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path, fault: str
) -> None:
    backend.set_faults(Fault("GET", "/files/.*", fault, times=4))
    with system(country, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2023)
        wait_until_stored(redis, running, 2023, 32)
    check_images(Path(country["DATA_DIR"]), 32, 8, (2023,))
    assert len(backend.audit("created")) == 2


def test_a_finished_job_without_a_file_is_computed_again(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    backend.set_faults(Fault("POST", "/jobs", "no_assets", times=1))
    with system(country, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2023)
        wait_until_stored(redis, running, 2023, 32)
    assert len(backend.audit("created")) == 3


def test_a_refused_login_pauses_the_run_instead_of_failing_every_cell(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    with system(country | {"OPENEO_PASSWORD": "wrong"}, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2023)
        wait_for_pause(redis, running)
    (run,) = Runs(redis).all()
    assert "OPENEO" in run.note
    assert "wrong" not in run.note
    assert not counts(redis, 2023).get(State.FAILED)


def test_cells_go_to_the_next_source_when_the_first_one_fails_for_good(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    with FaultyBackend(tmp_path / "second") as second:
        backend.set_faults(Fault("POST", "/jobs", "fail_job:no such band", times=-1, title=r" cells .*\b0\b"))
        other = {
            "IMAGERY_SOURCE": "openeo,openeo2",
            "OPENEO2_URL": second.url,
            "OPENEO2_USERNAME": USER,
            "OPENEO2_PASSWORD": PASSWORD,
        }
        with system(country | other, tmp_path / "logs") as running:
            start(running)
            enqueue(running, tmp_path, 2023)
            wait_until_stored(redis, running, 2023, 32)
        titles = [job["title"] for job in second.jobs()]
    assert titles
    assert all(re.search(r" cells .*\b0\b", title) for title in titles)
    check_images(Path(country["DATA_DIR"]), 32, 8, (2023,))


def test_an_account_that_cannot_be_used_is_passed_over(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    backend.set(budget=0.0)
    with FaultyBackend(tmp_path / "second") as second:
        other = {
            "IMAGERY_SOURCE": "openeo,openeo2",
            "OPENEO2_URL": second.url,
            "OPENEO2_USERNAME": USER,
            "OPENEO2_PASSWORD": PASSWORD,
        }
        with system(country | other, tmp_path / "logs") as running:
            start(running)
            enqueue(running, tmp_path, 2023)
            wait_until_stored(redis, running, 2023, 32)
        assert 2 <= len(second.audit("finished")) <= 4, "a block that was about to be ordered may come in parts"
    check_images(Path(country["DATA_DIR"]), 32, 8, (2023,))
    assert not backend.audit("finished")


def test_a_canceled_run_stops_its_jobs(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    backend.set(job_s=60)
    with system(country, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2023)
        wait_for(redis, lambda: len(backend.audit("started")) == 2, DEADLINE_S, running.logs)
        (run,) = Runs(redis).all()
        assert command(running, "runs", "cancel", run.id).returncode == 0
        wait_for(redis, lambda: len(backend.audit("canceled")) == 2, DEADLINE_S, running.logs)
        wait_for(redis, lambda: not redis.hlen("eo-tasks:orders"), DEADLINE_S, running.logs)
    assert counts(redis, 2023) == {State.CANCELED: 32}


def test_pending_orders_take_no_worker(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    backend.set(job_s=600)
    with system(country | {"OPENEO_BLOCK_KM": "0.1"}, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2022, 2023)
        wait_for(redis, lambda: counts(redis, 2023).get(State.ORDERED) == 32, DEADLINE_S, running.logs)
        wait_for(redis, lambda: counts(redis, 2022).get(State.ORDERED) == 32, DEADLINE_S, running.logs)
        wait_for(redis, lambda: len(backend.audit("started")) == 2, DEADLINE_S, running.logs)
        assert not list(redis.scan_iter("eo-tasks:lease:download_*"))
    assert len(backend.audit("created")) == 2


def test_the_doctor_finds_what_nobody_needs_and_deletes_it(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    with system(country, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2023)
        wait_until_stored(redis, running, 2023, 32)
        wait_for(redis, lambda: not redis.hlen("eo-tasks:orders"), DEADLINE_S, running.logs)
        wait_for(redis, lambda: bool(redis.exists("eo-tasks:tick-ended:beat.sweep")), DEADLINE_S, running.logs)
        well = command(running, "doctor")
        assert well.returncode == 0, well.stdout + well.stderr
        assert "2 stored" in well.stdout
        connection = openeo.connect(backend.url).authenticate_basic(USER, PASSWORD)
        asked = CompositeRequest.of(Cell(0, EPSG, cell_box(0, 8)), 1999, BANDS, (4, 5), (3, 8))
        graph = composite_graph(asked, "SENTINEL2_L2A")
        for title in ("eo-tasks 0123456789 01234567 1999 cells 0-3", "someone else's"):
            connection.create_job(graph, title=title, validate=False)
        ill = command(running, "doctor")
        assert ill.returncode == 1, ill.stdout + ill.stderr
        assert "1 unwanted" in ill.stdout
        assert command(running, "doctor", "--delete").returncode == 0
    assert [job["title"].partition(" ")[0] for job in backend.jobs()] == ["eo-tasks", "eo-tasks", "someone"]


def test_a_dry_run_counts_requests_and_credits(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    with system(country, tmp_path / "logs") as running:
        before = json.loads(command(running, "enqueue", "--years", "2022-2024", "--dry-run", "--json").stdout)
        assert (before["requests"], before["credits"]) == (6, None)
        start(running)
        enqueue(running, tmp_path, 2022)
        wait_until_stored(redis, running, 2022, 32)
        after = json.loads(command(running, "enqueue", "--years", "2022-2024", "--dry-run", "--json").stdout)
    assert (after["requests"], after["units"]["download"]["done"]) == (4, 32)
    paid = sum(job["costs"] for job in backend.jobs())
    assert after["credits"] == pytest.approx(2 * paid)


def test_cells_come_from_a_stac_catalog_when_openeo_fails_for_good(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    backend.set_faults(Fault("POST", "/jobs", {"status": 400, "code": "ProcessUnsupported", "message": "no"}, times=-1))
    shape = (4 * SIDE_M // 10, 8 * SIDE_M // 10)
    layers = {band: np.full(shape, 1000 + number, np.uint16) for number, band in enumerate(BANDS)}
    layers["SCL"] = np.full(shape, 4, np.uint8)
    scene = SyntheticScene("S2A_1", "2023-06-01T10:00:00Z", layers, left=LEFT, top=BOTTOM + 4 * SIDE_M)
    catalog = write_catalog(tmp_path / "stac", [scene])
    other = {"IMAGERY_SOURCE": "openeo,stac", "STAC_URL": str(catalog), "STAC_COLLECTION": COLLECTION}
    with system(country | other, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2023)
        wait_until_stored(redis, running, 2023, 32)
    store = LocalStore(Path(country["DATA_DIR"]))
    assert {(store.image_record(GridYear(cell, 2023)) or {})["source"] for cell in range(32)} == {"stac"}
    assert store.get_image(GridYear(31, 2023)).dn[2, 5, 5] == 1002
    assert not redis.exists("eo-tasks:sources-tried"), "what was tried is forgotten when it is there"


@pytest.mark.parametrize("budget", [None, 0.0])
def test_a_local_run_orders_too_and_ends_where_a_person_is_needed(
    country: dict[str, str], backend: FaultyBackend, tmp_path: Path, budget: float | None
) -> None:
    backend.set(budget=budget)
    environment = country | {"BTC_MODEL_CHECKPOINT": str(GOLDEN), "BTC_DEVICE": "cpu"}

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "eo_tasks.cli", "run", "--years", "2023", "--no-flower"],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    if budget is not None:
        ended = run()
        assert ended.returncode == 1, ended.stdout + ended.stderr
        assert "credits exhausted" in ended.stderr
        assert "Traceback" not in ended.stderr
        backend.set(budget=None)
    ended = run()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    check_images(Path(country["DATA_DIR"]), 32, 8, (2023,))
    assert len(backend.audit("created")) == 2


def test_a_result_that_could_not_be_fetched_for_long_is_fetched_when_asked_for_again(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    backend.set_faults(Fault("GET", "/files/.*", {"status": 503}, times=-1))
    with system(country | {"MAX_ATTEMPTS": "2"}, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2023)
        wait_for(redis, lambda: counts(redis, 2023).get(State.FAILED) == 32, DEADLINE_S, running.logs)
        backend.set_faults()
        assert command(running, "retry").returncode == 0
        wait_until_stored(redis, running, 2023, 32)
    assert len(backend.audit("created")) == 2, "what is paid for is not made again"


def test_what_was_lost_here_is_cut_again_from_jobs_that_are_still_there(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path
) -> None:
    images = Path(country["DATA_DIR"]) / "images" / "2023"
    with system(country, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2023)
        wait_until_stored(redis, running, 2023, 32)
    redis.flushall()
    for cell in (0, 1, 9, 4):  # three of one block, one of the other
        (images / f"sentinel2_grid_{cell}_2023_08.json").unlink()
    with system(country, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2023)
        wait_until_stored(redis, running, 2023, 32)
    check_images(Path(country["DATA_DIR"]), 32, 8, (2023,))
    assert len(backend.audit("created")) == 2
