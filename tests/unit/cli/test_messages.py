"""Every wrong input gives one clear line, a non-zero exit and no traceback."""

import json
from pathlib import Path

import geopandas
import pytest
import redis
from shapely.geometry import box

from eo_tasks.state import connection
from eo_tasks.tasks import context
from tests.command_line import MISUSED, call, complaint


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Open everything anew, and let nothing that ``run`` sets outlive the test."""
    context.reopen()
    for variable in ("GRID_FILE", "GRID_LAYER", "IMAGERY_SOURCE", "STAC_URL", "BTC_MODEL_CHECKPOINT", "DATA_DIR"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)  # undone to "unset" afterwards
    yield
    context.reopen()


@pytest.fixture
def silent_redis(monkeypatch):
    """A Redis that refuses connections, at once."""

    def refuse(*_: object, **__: object) -> None:
        raise redis.exceptions.ConnectionError("Error 111 connecting to 127.0.0.1:6379. Connection refused.")

    monkeypatch.setattr(redis.connection.Connection, "connect", refuse)
    monkeypatch.setattr(connection, "connect", lambda url: redis.Redis.from_url(url, decode_responses=True))


@pytest.fixture
def grid_file(tmp_path) -> Path:
    """Two cells with labels."""
    squares = [box(500_000, 5_000_000, 500_100, 5_000_100), box(500_100, 5_000_000, 500_200, 5_000_100)]
    path = tmp_path / "grid.gpkg"
    geopandas.GeoDataFrame({"grid_id": ["SI_0", "SI_1"]}, geometry=squares, crs=32633).to_file(path)
    return path


# Settings


@pytest.mark.parametrize("arguments", [["config"], ["status"], ["retry"], ["run", "--years", "2022"]])
def test_a_wrong_setting_is_told_by_every_command(monkeypatch, arguments):
    monkeypatch.setenv("MAX_WORKERS", "many")
    assert complaint(*arguments).startswith("MAX_WORKERS=many: takes a valid integer")


def test_config_shows_every_setting_and_no_secret(monkeypatch):
    monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
    monkeypatch.setenv("REDIS_URL", "redis://user:hunter2@broker/0")
    monkeypatch.setenv("COLUMNS", "200")
    result = call("config")
    assert result.exit_code == 0
    assert "MAX_WORKERS" in result.output
    assert "hunter2" not in result.output


def test_config_for_programs_has_the_same(monkeypatch):
    monkeypatch.setenv("REDIS_PASSWORD", "hunter2")
    monkeypatch.setenv("MAX_WORKERS", "7")
    shown = json.loads(call("config", "--json").output)
    assert shown["MAX_WORKERS"] == "7"
    assert "hunter2" not in shown.values()


# Grids


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--cells", "7"],
            "Cell 7: {grid} has no such cell. It has 2 cells, with ids from 0 to 1; give one as 0 or SI_0.",
        ),
        (["--cells", "SI_9"], "Cell SI_9: {grid} has no such cell."),
        (["--bbox", "14,46,15,47"], "Bounding box (14.0, 46.0, 15.0, 47.0) looks like degrees"),
        (
            ["--bbox", "14,46,15,47", "--bbox-epsg", "4326"],
            "Bounding box (14.0, 46.0, 15.0, 47.0) touches no cell of {grid}",
        ),
        (
            ["--bbox", "14,46,15,47", "--bbox-epsg", "1"],
            "Bounding box (14.0, 46.0, 15.0, 47.0): EPSG:1 is no coordinate",
        ),
        (["--bbox", "5,5,1,1"], "Bounding box (5.0, 5.0, 1.0, 1.0): give xmin,ymin,xmax,ymax with xmin < xmax"),
        (["--inside", "none.geojson"], "none.geojson: no such file."),
        (["--layer", "tiles"], "{grid}: no layer 'tiles'; it has grid."),
    ],
)
def test_a_selection_that_cannot_be_made_is_told(grid_file, arguments, message):
    assert complaint("grid", "show", grid_file, *arguments).startswith(message.format(grid=grid_file))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bbox", "1,2,3"], "Invalid value for '--bbox': '1,2,3': give four numbers as xmin,ymin,xmax,ymax."),
        (["--bbox", "a,b,c,d"], "Invalid value for '--bbox': 'a,b,c,d': give four numbers as xmin,ymin,xmax,ymax."),
        (["--bbox", "1,2,3,4", "--bbox-epsg", "UTM"], "Invalid value for '--bbox-epsg': 'UTM' is not a valid integer."),
        (["--cells", "0", "--bbox", "1,2,3,4"], "Give one of --cells, --bbox and --inside."),
    ],
)
def test_a_selection_that_is_written_wrong_is_told(grid_file, arguments, message):
    assert complaint("grid", "show", grid_file, *arguments, code=MISUSED) == message


def test_a_grid_file_that_cannot_be_used_is_told(tmp_path):
    assert complaint("grid", "show", "none.gpkg") == "none.gpkg: no such file."
    (tmp_path / "notes.txt").write_text("no grid")
    assert complaint("grid", "show", "notes.txt").startswith("notes.txt: not a vector file that GDAL can read (")


def test_a_grid_that_cannot_be_made_is_told(grid_file):
    assert complaint("grid", "make", "--border", "none.geojson") == "none.geojson: no such file."
    assert complaint("grid", "make", "--border", grid_file, "--size", "15").startswith(
        "Cell size 15 m: give a multiple"
    )
    assert complaint("grid", "make", "--border", grid_file, "--epsg", "4326").startswith("EPSG:4326 is not in metres")
    assert complaint("grid", "make", code=MISUSED) == "Missing option '--border'."


def test_a_grid_is_made_and_shown(grid_file):
    made = call("grid", "make", "--border", grid_file, "--size", "50", "--out", "made.gpkg")
    assert made.exit_code == 0
    assert made.output.startswith("made.gpkg: ")
    shown = call("grid", "show", grid_file, "--cells", "SI_1")
    assert shown.output.splitlines() == [
        f"{grid_file}: 2 cells, ids 0 to 1, EPSG:32633",
        "1 SI_1 500100.00,5000000.00,500200.00,5000100.00",
    ]


# Runs


@pytest.mark.parametrize("years", ["soon", "2021-", "2021-x", "", ",", "2023-2021"])
def test_years_that_are_written_wrong_are_told(years):
    message = f"Invalid value for '--years': {years!r}: give years as 2021-2023 or 2021,2023."
    assert complaint("run", "--years", years, code=MISUSED) == message
    assert complaint("enqueue", "--years", years, code=MISUSED) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--years", "2014"], "Year 2014: Sentinel-2 has years 2015 to "),
        (["--years", "2022-2999"], "Year "),
        (["--years", "2022", "--cells", "7"], "Cell 7: "),
        (["--years", "2022", "--cells", "0", "--layer", "tiles"], "{grid}: no layer 'tiles'"),
        ([], "No years: give them with --years 2021-2023."),
    ],
)
def test_a_run_that_cannot_be_planned_is_told(grid_file, arguments, message):
    said = complaint("run", "--grid", grid_file, "--data-dir", "data", *arguments)
    assert said.startswith(message.format(grid=grid_file))
    assert not Path("data/run").exists()  # nothing was started


def test_a_run_whose_grid_is_missing_is_told():
    assert complaint("run", "--years", "2022", "--grid", "none.gpkg") == "none.gpkg: no such file."


def test_a_run_without_a_grid_is_told():
    assert complaint("run", "--years", "2022").startswith("No grid: set GRID_FILE, or make ")


def test_a_source_that_does_not_exist_is_told():
    assert complaint("run", "--source", "ftp").startswith("IMAGERY_SOURCE=ftp: takes 'openeo', 'openeo2' or 'stac'")


def test_enqueueing_without_years_is_told():
    assert complaint("enqueue", code=MISUSED) == "Missing option '--years'."


def test_a_stage_that_does_not_exist_is_told():
    assert complaint("retry", "--stage", "fetch", code=MISUSED).startswith(
        "Invalid value for '--stage': 'fetch' is not"
    )


def test_a_command_that_does_not_exist_is_told():
    assert complaint("fly", code=MISUSED).startswith("No such command 'fly'")


# Redis


@pytest.mark.parametrize(
    "arguments",
    [
        *(["status"], ["status", "--json"], ["retry"], ["errors"], ["runs"], ["enqueue", "--years", "2022"]),
        *(["plan", "--years", "2022"], ["pause", "latest"], ["report"]),
    ],
)
@pytest.mark.usefixtures("silent_redis")
def test_a_redis_that_does_not_answer_is_told_without_its_password(monkeypatch, arguments):
    for module in ("eo_tasks.cli.enqueue", "eo_tasks.tasks.context"):
        monkeypatch.setattr(f"{module}.connect", connection.connect)
    monkeypatch.setenv("REDIS_URL", "redis://:hunter2@broker:6379/0")
    said = complaint(*arguments)
    assert said.startswith("Redis at redis://:********@broker:6379/0 does not work (")
    assert "hunter2" not in said


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "-h"], ["grid", "make", "--help"], ["--version"]])
def test_help_and_version_need_no_settings(monkeypatch, arguments):
    monkeypatch.setenv("MAX_WORKERS", "many")
    assert call(*arguments).exit_code == 0
