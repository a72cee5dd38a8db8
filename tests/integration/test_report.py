"""The progress report of a real system: its numbers are the store's."""

import csv
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path

import geopandas
import pytest
import rasterio
from redis import Redis
from shapely.geometry import box

from eo_tasks import BTCProcessor, ImageStore, SentinelDownloader
from eo_tasks.overview.known import Known
from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges
from eo_tasks.report import Report, as_csv, as_html, as_json, make_report
from eo_tasks.settings import PipelineMode, Settings, load_settings
from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.runs import Run, Runs
from eo_tasks.state.workers import WorkerReport, Workers
from eo_tasks.steps import Pipeline
from eo_tasks.storage.database.connection import Database, Login
from eo_tasks.storage.database.schema import upgrade
from eo_tasks.units import Stage, Unit
from tests.painted import GOLDEN, SIDE_M, PaintedSource
from tests.postgres import database_settings
from tests.system import BEAT, CONTROL, CPU, GPU, system, wait_for

pytestmark = pytest.mark.integration

CELLS = (463, 464)
YEARS = (2022, 2023)
DEADLINE_S = 180
PIXEL_HA = 0.01


def report(environment: Mapping[str, str], cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eo_tasks.cli", "report", *arguments],
        env=dict(environment), cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


class Page(HTMLParser):
    """What a page refers to, and the text of its table cells."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.references += [str(value) for name, value in attrs if name in ("src", "href", "action", "data")]

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(html: str) -> Page:
    page = Page()
    page.feed(html)
    return page


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # the PNG
def test_report_of_a_run_has_the_numbers_of_its_files(
    sample_environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    ledger = Ledger(redis, Limits())
    data = Path(sample_environment["DATA_DIR"])
    with system(sample_environment, tmp_path / "logs") as running:
        for name, arguments in (("control", CONTROL), ("cpu", CPU), ("gpu", GPU), ("beat", BEAT)):
            running.start(name, arguments)
        asked = subprocess.run(
            [sys.executable, "-m", "eo_tasks.cli", "enqueue", "--years", "2022-2023", "--cells", "463,464"],
            env=sample_environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert asked.returncode == 0, asked.stderr
        wait_for(
            redis,
            lambda: ledger.counts(Stage.BTC, "2022_2023").get(State.COMPLETED) == len(CELLS),
            DEADLINE_S,
            running.logs,
        )

    for kind in ("html", "csv", "json"):
        made = report(sample_environment, tmp_path, "--run", "latest", "-o", f"made.{kind}")
        assert (made.returncode, made.stdout) == (0, f"Report: made.{kind}\n"), made.stderr
    with (tmp_path / "made.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = json.loads((tmp_path / "made.json").read_text())
    page = page_of((tmp_path / "made.html").read_text())

    changed = {}
    for cell in CELLS:
        with rasterio.open(data / "masks" / "2022" / f"change_mask_grid_{cell}_2022.png") as png:
            changed[cell] = float((png.read(1) == 255).sum()) * PIXEL_HA
    assert [(int(row["grid_id"]), int(row["year"]), row["year_after"]) for row in rows] == [
        (463, 2022, "2023"), (463, 2023, ""), (464, 2022, "2023"), (464, 2023, ""),
    ]  # fmt: skip
    for row in rows:
        image = data / "images" / row["year"] / f"sentinel2_grid_{row['grid_id']}_{row['year']}_08.json"
        record = json.loads(image.read_text())
        assert (row["download"], row["store"]) == ("completed", "completed")
        assert float(row["clear_share"]) == record["clear_share"]
        assert int(row["scenes"]) == len(record["scenes"]) > 2
        if row["year"] == "2022":
            assert row["btc"] == "completed"
            assert float(row["changed_ha"]) == pytest.approx(changed[int(row["grid_id"])])
            assert row["model"] == sample_environment["BTC_MODEL_CHECKPOINT"]
        else:
            assert (row["btc"], row["changed_ha"]) == ("", "")

    (pair,) = told["changes"]
    assert (pair["before"], pair["after"], pair["masks"]) == (2022, 2023, 2)
    assert pair["changed_ha"] == pytest.approx(sum(changed.values()))
    assert pair["changed_ha"] > 0
    assert told["progress"]["btc"] == [
        {"period": "2022_2023", "years": [2022, 2023], "total": 2, "states": {"completed": 2}}
    ]
    assert [(one["year"], one["stored"]) for one in told["images"]] == [(2022, 2), (2023, 2)]
    assert len(told["rows"]) == len(rows)
    assert f"{sum(changed.values()):,.2f}" in page.text
    assert page.tags["img"] == 2
    assert all(address.startswith("data:image/png;base64,") for address in page.references)  # it needs nothing else
    assert page.tags["script"] == page.tags["link"] == 0


# Every store


def squares(count: int) -> list[object]:
    return [box(500_000 + n * SIDE_M, 5_000_000, 500_000 + (n + 1) * SIDE_M, 5_001_600) for n in range(count)]


@pytest.fixture
def known(redis: Redis, broker: Redis) -> Known:
    """What the real Redis knows."""
    return Known.of(redis, broker)


@pytest.fixture(params=PipelineMode)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """A grid of three cells, and a store of each mode."""
    geopandas.GeoDataFrame({"grid_id": ["A", "B", "C"]}, geometry=squares(3), crs=32633).to_file(tmp_path / "grid.gpkg")
    chosen = {
        "pipeline_mode": request.param,
        "data_dir": tmp_path / "data",
        "grid_file": tmp_path / "grid.gpkg",
        "imagery_source": "stac",
        "btc_model_checkpoint": str(GOLDEN),
        "btc_device": "cpu",
    }
    if request.param is PipelineMode.LOCAL_ONLY:
        return load_settings(**chosen)
    made = load_settings(**chosen, **database_settings(request.getfixturevalue("database")))
    database = Database(Login.of_admin(made))
    upgrade(database)
    database.close()
    return made


@pytest.fixture
def pipeline(settings: Settings) -> Iterator[Pipeline]:
    """Composites and masks of two of the cells, made without any queue."""
    opened = Pipeline(settings)
    opened.__dict__["source"] = PaintedSource()
    for stage in (SentinelDownloader(settings), ImageStore(settings), BTCProcessor(settings)):
        stage.pipeline = opened
        made = stage.process(YEARS, [0, 1])
        assert (made.failed, made.empty) == (0, 0), made.failures
    yield opened
    database = getattr(opened.store, "database", None)
    if database is not None:
        getattr(database, "database", database).close()


def rows_of(made: Report) -> list[dict[str, str]]:
    return list(csv.DictReader("".join(as_csv(made)).splitlines()))


@pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rasterio's own
def test_report_of_what_is_stored_needs_no_ledger(pipeline: Pipeline, known: Known) -> None:
    made = make_report(known, pipeline)
    records = pipeline.store.mask_records(YEARS[0])
    assert [(row["grid_id"], row["label"], row["year"], row["download"], row["btc"]) for row in rows_of(made)] == [
        ("0", "A", "2022", "skipped", "skipped"),
        ("0", "A", "2023", "skipped", ""),
        ("1", "B", "2022", "skipped", "skipped"),
        ("1", "B", "2023", "skipped", ""),
    ]
    (pair,) = made.changes
    assert pair.masks == len(records) == 2
    assert pair.changed_ha == pytest.approx(sum(record["changed_ha"] for record in records.values()))
    assert pair.seen_ha == pytest.approx(sum(record["seen_ha"] for record in records.values()))
    assert [picture.changed_ha for picture in made.pictures] == sorted(
        (record["changed_ha"] for record in records.values()), reverse=True
    )
    assert json.loads(as_json(made))["changes"][0]["changed_ha"] == pair.changed_ha
    assert "Nothing failed." in page_of(as_html(made)).text


# What is told, and what is not


@pytest.fixture
def empty(tmp_path: Path) -> Pipeline:
    """A grid of four thousand cells of which nothing is stored."""
    geopandas.GeoDataFrame(geometry=squares(4000), crs=32633).to_file(tmp_path / "grid.gpkg")
    secrets = {"redis_password": "hunter2", "db_password": "hunter3", "openeo_auth_client_secret": "hunter4"}
    return Pipeline(load_settings(data_dir=tmp_path / "data", grid_file=tmp_path / "grid.gpkg", **secrets))


def ask(redis: Redis, cells: range, years: tuple[int, ...] = (2022, 2023)) -> Run:
    return Runs(redis).add(Run(Wanted(Ranges([cells]), years), created_at=float(len(cells)), since=1.0))


def fail(redis: Redis, run: Run, unit: Unit, error: str) -> None:
    ledger = Ledger(redis, Limits())
    ledger.make_ready([unit], run.id)
    ledger.take(unit.stage, run.id, 1)
    ledger.fail(ledger.begin(unit, "me", "cpu@host"), error)


def test_sums_are_of_so_many_cells_and_the_table_of_all(empty: Pipeline, known: Known, redis: Redis) -> None:
    ask(redis, range(3000))
    made = make_report(known, empty, most_cells=100)
    parts = as_csv(made)
    next(parts)
    assert len(next(parts).splitlines()) == 1000  # a part at a time
    assert sum(len(part.splitlines()) for part in parts) == 5000
    assert [(period.total, dict(period.states)) for period in made.progress[Stage.DOWNLOAD]] == [
        (3000, {"waiting": 3000})
    ] * 2  # of all: a summary is cheap
    assert "summed over the first 100 cells of 4,000" in page_of(as_html(made)).text
    assert json.loads(as_json(made))["has_more_rows"] is False


def test_page_shows_the_first_rows_and_says_so(empty: Pipeline, known: Known, redis: Redis) -> None:
    ask(redis, range(3000))
    page = page_of(as_html(make_report(known, empty)))
    assert "These are the first 200; the CSV has all." in page.text
    assert page.tags["tr"] < 400


def test_report_of_a_run_tells_of_nothing_else(empty: Pipeline, known: Known, redis: Redis) -> None:
    run, other = ask(redis, range(2)), ask(redis, range(2, 5))
    fail(redis, run, Unit(Stage.DOWNLOAD, 1, (2022,)), "SourceError: Cell 1, 2022: refused")
    fail(redis, other, Unit(Stage.DOWNLOAD, 3, (2022,)), "SourceError: Cell 3, 2022: refused")
    made = make_report(known, empty, run)
    assert {row["grid_id"] for row in rows_of(made)} == {"0", "1"}
    assert [(group.number, group.units) for group in made.failures] == [(1, ["download_1_2022"])]
    assert [one.id for one in made.runs] == [run.id]
    assert [(period.period, period.states) for period in made.progress[Stage.DOWNLOAD]] == [
        ("2022", {"waiting": 1, "failed": 1}),
        ("2023", {"waiting": 2}),
    ]
    assert [group.number for group in make_report(known, empty).failures] == [2]


def test_report_tells_no_secret_and_runs_no_text_of_others(empty: Pipeline, known: Known, redis: Redis) -> None:
    run = ask(redis, range(2))
    fail(redis, run, Unit(Stage.DOWNLOAD, 1, (2022,)), "=HYPERLINK: <script>alert(1)</script> & more")
    Workers(redis).put(
        WorkerReport("cpu@<b>host</b>", "host", 1, ("downloads",), 2, (), 1.0, 1.0, 0.5, 2, 1.0, 8.0, 0.5, 100.0, 200.0)
    )
    made = make_report(known, empty)
    html, table, told = as_html(made), "".join(as_csv(made)), as_json(made)
    for text in (html, table, told):
        assert not re.search("hunter[234]", text)
    page = page_of(html)
    assert page.tags["script"] == page.tags["b"] == 0
    assert "<script>alert(1)</script> & more" in page.text
    (row,) = (row for row in rows_of(made) if row["error"])
    assert row["error"].startswith("'=HYPERLINK")  # a spreadsheet takes it for text
    assert "Content-Security-Policy" in html


def test_report_of_nothing_at_all_is_a_page_too(tmp_path: Path, known: Known) -> None:
    made = make_report(known, Pipeline(load_settings(data_dir=tmp_path)))  # not even a grid
    assert (made.cells, "".join(as_csv(made)).count("\n")) == (0, 1)
    assert "Nothing was asked for, and nothing is stored." in page_of(as_html(made)).text
    assert json.loads(as_json(made))["rows"] == []
