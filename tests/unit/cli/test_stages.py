"""``download``, ``store`` and ``btc --years``, with a source that paints composites."""

import json
from pathlib import Path

import geopandas
import pytest
from shapely.geometry import box

from eo_tasks.errors import SourceError
from tests.command_line import MISUSED, call, complaint
from tests.painted import GOLDEN, PaintedSource

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]

SOME_FAILED = 3


@pytest.fixture(autouse=True)
def painted(monkeypatch, tmp_path) -> PaintedSource:
    """Settings for two cells of 40 × 40 pixels; nothing of Redis."""
    squares = [box(500_000 + n * 400, 5_000_000, 500_400 + n * 400, 5_000_400) for n in range(2)]
    geopandas.GeoDataFrame({"grid_id": ["A", "B"]}, geometry=squares, crs=32633).to_file(tmp_path / "grid.gpkg")
    chosen = {
        "DATA_DIR": "data",
        "GRID_FILE": "grid.gpkg",
        "IMAGERY_SOURCE": "stac",
        "BTC_MODEL_CHECKPOINT": str(GOLDEN),
        "BTC_DEVICE": "cpu",
        "BTC_WINDOW_PX": "32",
        "BTC_STRIDE_PX": "32",
        "REDIS_URL": "redis://127.0.0.1:9/0",
    }
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    source = PaintedSource()
    monkeypatch.setattr("eo_tasks.steps.pipeline.open_source", lambda settings: source)
    return source


def test_a_year_is_mapped_by_three_commands_without_redis():
    assert call("download", "--years", "2022-2023").output == (
        "download: 4 made, 0 there already, 0 no imagery, 0 failed.\n"
    )
    assert (
        call("store", "--years", "2022-2023").output == "store: 4 made, 0 there already, 0 nothing staged, 0 failed.\n"
    )
    done = call("btc", "--years", "2022-2023", "--cells", "B", "--threshold", "0.3")
    assert (done.exit_code, done.output) == (0, "btc: 1 made, 0 there already, 0 without both composites, 0 failed.\n")
    record = json.loads(Path("data/masks/2022/change_mask_grid_1_2022.json").read_text())
    assert (record["years"], record["threshold"]) == ([2022, 2023], 0.3)


def test_what_was_done_is_json_too():
    told = json.loads(call("download", "--years", "2022", "--json").output)
    assert told == {"stage": "download", "done": 2, "skipped": 0, "empty": 0, "failed": 0, "failures": {}}


def test_failures_are_told_as_they_come_and_the_code_is_3(monkeypatch, painted):
    def fail(request, scratch):
        if request.name == "Cell 0, 2022":
            raise SourceError("Cell 0, 2022: refused")
        return PaintedSource.composite(painted, request, scratch)

    monkeypatch.setattr(painted, "composite", fail)
    done = call("download", "--years", "2022")
    assert done.exit_code == SOME_FAILED
    assert done.stderr == "download_0_2022 failed: SourceError: Cell 0, 2022: refused\n"
    assert done.stdout == "download: 1 made, 0 there already, 0 no imagery, 1 failed.\n"


@pytest.mark.parametrize("command", ["store", "btc"])
def test_nothing_to_work_on_at_all_is_code_3(command):
    done = call(command, "--years", "2022-2023")
    assert (done.exit_code, done.stderr) == (SOME_FAILED, "")


def test_a_year_alone_has_no_change():
    assert complaint("btc", "--years=2022", code=MISUSED) == "--years: give two or more, such as 2022-2023."


def test_cells_that_do_not_exist_are_told():
    assert complaint("download", "--years", "2022", "--cells", "9").startswith("Cell 9: grid.gpkg has no such cell.")


def test_jobs_that_nobody_would_look_after_are_refused(monkeypatch):
    monkeypatch.setenv("IMAGERY_SOURCE", "openeo")
    assert complaint("download", "--years", "2022").startswith("IMAGERY_SOURCE=openeo: batch jobs take a running")
