"""The main job through a real Redis and real worker processes."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from redis import Redis
from rio_cogeo import cog_validate

from eo_tasks.grid import GridYear
from eo_tasks.sample import Sample
from eo_tasks.score import score
from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.runs import Runs, RunState
from eo_tasks.units import Stage
from tests.system import BEAT, CONTROL, CPU, GPU, celery, system, wait_for

pytestmark = pytest.mark.integration

CELLS = (463, 464)
YEARS = (2021, 2022, 2023)
DEADLINE_S = 180


def enqueue(environment: dict[str, str], folder: Path, years: tuple[int, ...], grid_ids: tuple[int | str, ...]) -> str:
    """Ask for cells × years on the command line, as a user does; gives the task's id."""
    request = json.dumps({"years": list(years), "grid_ids": list(grid_ids)})
    done = celery(environment, folder, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def state(redis: Redis, run_id: str) -> RunState | None:
    """Where a run stands."""
    run = Runs(redis).get(run_id)
    return None if run is None else run.state


def answer(redis: Redis, task_id: str) -> dict[str, object]:
    """The stored result of a task."""
    return dict(json.loads(redis.get(f"celery-task-meta-{task_id}")))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # the PNG
def test_grid_and_years_become_georeferenced_masks(
    sample_environment: dict[str, str], sample: Sample, redis: Redis, tmp_path: Path
) -> None:
    ledger = Ledger(redis, Limits())
    data = Path(sample_environment["DATA_DIR"])
    with system(sample_environment, tmp_path / "logs") as running:
        for name, arguments in (("control", CONTROL), ("cpu", CPU), ("gpu", GPU), ("beat", BEAT)):
            running.start(name, arguments)
        task_id = enqueue(sample_environment, tmp_path, YEARS, CELLS)

        def masks_are_done() -> bool:
            done = [ledger.counts(Stage.BTC, period).get(State.COMPLETED, 0) for period in ("2021_2022", "2022_2023")]
            return done == [len(CELLS)] * 2

        wait_for(redis, masks_are_done, DEADLINE_S, running.logs)

        first = answer(redis, task_id)
        assert first["status"] == "SUCCESS"
        assert {key: first["result"][key] for key in ("planned", "skipped")} == {"planned": 16, "skipped": 0}

        again = enqueue(sample_environment, tmp_path, YEARS, CELLS)
        wait_for(redis, lambda: redis.exists(f"celery-task-meta-{again}") == 1, DEADLINE_S, running.logs)
        second = answer(redis, again)["result"]
        assert {key: second[key] for key in ("planned", "skipped", "enqueued")} == {
            "planned": 0, "skipped": 16, "enqueued": 0,
        }  # fmt: skip

        wait_for(redis, lambda: state(redis, first["result"]["run"]) is RunState.COMPLETE, DEADLINE_S, running.logs)

    assert sorted(redis.keys("celery-task-meta-*")) == sorted(f"celery-task-meta-{each}" for each in (task_id, again))
    assert not redis.keys("eo-tasks:lease:*")
    assert [key for key in redis.keys("eo-tasks:ready:*") if redis.llen(key)] == []
    masks, truths = [], []
    for year in YEARS:
        for cell in CELLS:
            image = data / "images" / str(year) / f"sentinel2_grid_{cell}_{year}_08.tiff"
            assert cog_validate(image, quiet=True)[0]
            record = json.loads(image.with_suffix(".json").read_text())
            assert (record["source"], record["year"], record["bands"]) == ("stac", year, ["B02", "B03", "B04"])
            assert len(record["scenes"]) > 2
    for before, after in ((2021, 2022), (2022, 2023)):
        for cell in CELLS:
            png = data / "masks" / str(before) / f"change_mask_grid_{cell}_{before}.png"
            record = json.loads(png.with_suffix(".json").read_text())
            assert (record["years"], record["threshold"]) == ([before, after], 0.2)
            with (
                rasterio.open(png.with_suffix(".tiff")) as mask,
                rasterio.open(sample.truth_file(cell, before, after)) as truth,
            ):
                assert (mask.crs, mask.transform) == (truth.crs, truth.transform)
                masks.append(mask.read(1))
                truths.append(truth.read(1))
            assert record["changed_ha"] == pytest.approx((masks[-1] == 1).sum() * 0.01)
            with rasterio.open(png) as picture:
                assert np.array_equal(picture.read(1) == 255, masks[-1] == 1)
    assert score(masks, truths).f1 > 0.8
    assert not list((data / "staging").rglob("*.tiff"))


def test_unknown_cell_gives_one_clear_failure_and_enqueues_nothing(
    sample_environment: dict[str, str], redis: Redis, broker: Redis, tmp_path: Path
) -> None:
    with system(sample_environment, tmp_path / "logs") as running:
        running.start("control", CONTROL)
        task_id = enqueue(sample_environment, tmp_path, YEARS, ("SI_000463",))
        key = f"celery-task-meta-{task_id}"
        wait_for(redis, lambda: redis.exists(key) == 1, DEADLINE_S, running.logs)
        log = running.logs()
    failure = answer(redis, task_id)
    assert failure["status"] == "FAILURE"
    assert Runs(redis).all() == []
    assert failure["result"]["exc_message"][0].startswith("Cell SI_000463: ")
    assert "Traceback" not in log
    assert broker.llen("downloads") == 0


def test_worker_killed_in_mid_task_loses_nothing_and_does_nothing_twice(
    sample_environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    ledger = Ledger(redis, Limits())
    data = Path(sample_environment["DATA_DIR"])
    with system(sample_environment, tmp_path / "logs") as running:
        running.start("control", CONTROL)
        running.start("cpu", CPU)
        enqueue(sample_environment, tmp_path, YEARS[:2], CELLS)

        def is_started() -> bool:
            return any(ledger.counts(Stage.DOWNLOAD, str(year)).get(State.STARTED) for year in YEARS[:2])

        wait_for(redis, is_started, DEADLINE_S, running.logs)
        running.kill("cpu")
        running.start("cpu-2", CPU)
        running.start("beat", BEAT)

        def composites_are_stored() -> bool:
            stored = [ledger.counts(Stage.STORE, str(year)).get(State.COMPLETED, 0) for year in YEARS[:2]]
            return stored == [len(CELLS)] * 2

        wait_for(redis, composites_are_stored, DEADLINE_S, running.logs)
    images = sorted(data.glob("images/*/*.tiff"))
    assert len(images) == 4
    assert all(cog_validate(image, quiet=True)[0] for image in images)
    assert not list(data.rglob("*.part"))
    downloads = [GridYear(cell, year).download for cell in CELLS for year in YEARS[:2]]
    assert max(entry.deaths for entry in ledger.entries(downloads).values()) <= 1


def test_wrong_checkpoint_ends_the_worker_before_it_takes_a_task(
    sample_environment: dict[str, str], tmp_path: Path
) -> None:
    wrong = sample_environment | {"BTC_MODEL_CHECKPOINT": str(tmp_path / "nothing")}
    ended = celery(wrong, tmp_path, *GPU)
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1].startswith("eo-tasks: BTC_MODEL_CHECKPOINT=")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"STAC_URL": ""}, "eo-tasks: IMAGERY_SOURCE=stac needs STAC_URL"),
        (
            {"IMAGERY_SOURCE": "openeo", "OPENEO_TOKEN_FILE": "none.json"},
            "eo-tasks: No login for the openEO backend https://openeo.dataspace.copernicus.eu: set OPENEO_AUTH",
        ),
        (
            {"PIPELINE_MODE": "database_only", "DB_PORT": "1"},
            "eo-tasks: PostgreSQL: database eo_tasks at 127.0.0.1:1 does not answer",
        ),
    ],
)
def test_incomplete_settings_end_the_cpu_worker_before_it_takes_a_task(
    sample_environment: dict[str, str], tmp_path: Path, changes: dict[str, str], told: str
) -> None:
    ended = celery(sample_environment | changes, tmp_path, *CPU)
    assert ended.returncode == 1
    assert ended.stderr.strip().splitlines()[-1].startswith(told)
    assert "Traceback" not in ended.stderr


def test_wrong_setting_ends_celery_with_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    ended = celery(environment | {"BTC_THRESHOLD": "2"}, tmp_path, "-A", "eo_tasks", "call", "enqueue_years")
    assert ended.returncode == 1
    assert ended.stderr.strip() == (
        "eo-tasks: BTC_THRESHOLD=2: takes a value less than 1 (probability above which a pixel counts as changed)."
    )
