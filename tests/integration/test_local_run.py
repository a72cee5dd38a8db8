"""``eo-tasks run``: everything on one machine, started, used and stopped by one command."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from time import monotonic

import psutil
import pytest

from eo_tasks.sample import Sample

pytestmark = pytest.mark.integration

RUN = (sys.executable, "-m", "eo_tasks.cli", "run", "--no-flower", "--no-dashboard", "--cells", "463,464")
DEADLINE_S = 240


@pytest.fixture
def local(sample_environment: dict[str, str]) -> dict[str, str]:
    """The sample's settings without any Redis: the command brings its own."""
    return {name: value for name, value in sample_environment.items() if not name.startswith("REDIS_")}


def run(environment: Mapping[str, str], cwd: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *more], env=dict(environment), cwd=cwd, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def children_of_data_dir(data_dir: str) -> list[str]:
    """Command lines of processes that still work for this DATA_DIR."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DATA_DIR") == data_dir and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_run_ends_with_masks_and_a_second_one_does_nothing_twice(
    local: dict[str, str], sample: Sample, tmp_path: Path
) -> None:
    first = run(local, tmp_path, "--years", "2021-2022")
    assert first.returncode == 0, first.stdout + first.stderr
    data = Path(local["DATA_DIR"])
    masks = sorted(data.glob("masks/2021/*.png"))
    assert [mask.name for mask in masks] == ["change_mask_grid_463_2021.png", "change_mask_grid_464_2021.png"]
    assert (data / "overview_2021_2022.png").stat().st_size > 10_000
    assert children_of_data_dir(local["DATA_DIR"]) == []

    before = {path: path.stat().st_mtime_ns for path in data.glob("[im]*/*/*")}
    second = run(local, tmp_path, "--years", "2021-2022")
    assert second.returncode == 0
    assert "Nothing to do" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in data.glob("[im]*/*/*")} == before

    year_added = run(local, tmp_path, "--years", "2021-2023")
    assert year_added.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(data.glob("images/2023/*.tiff"))) == 2
    assert len(list(data.glob("masks/2022/*.png"))) == 2


def test_output_that_was_deleted_is_made_again_although_the_ledger_calls_it_done(
    local: dict[str, str], tmp_path: Path
) -> None:
    assert run(local, tmp_path, "--years", "2021-2022").returncode == 0
    data = Path(local["DATA_DIR"])
    shutil.rmtree(data / "images")
    shutil.rmtree(data / "masks")
    again = run(local, tmp_path, "--years", "2021-2022")
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(list(data.glob("images/*/*.tiff"))) == 4
    assert len(list(data.glob("masks/2021/*.png"))) == 2


def test_interrupted_run_stops_everything_and_goes_on_later(local: dict[str, str], tmp_path: Path) -> None:
    with (tmp_path / "output").open("w") as output:
        command = subprocess.Popen(
            [*RUN, "--years", "2021-2022"],
            env=local,
            cwd=tmp_path,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    data = Path(local["DATA_DIR"])
    pause, end = Event(), monotonic() + DEADLINE_S
    while not list(data.glob("images/*/*.json")):
        assert monotonic() < end, (tmp_path / "output").read_text()
        assert command.poll() is None, (tmp_path / "output").read_text()
        pause.wait(0.05)
    os.kill(command.pid, signal.SIGINT)
    assert command.wait(timeout=60) == 130
    assert "Interrupted" in (tmp_path / "output").read_text()
    assert children_of_data_dir(local["DATA_DIR"]) == []

    resumed = run(local, tmp_path, "--years", "2021-2022")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert len(list(data.glob("masks/2021/*.png"))) == 2


def test_run_that_finds_no_imagery_at_all_names_the_units_and_exits_with_3(
    local: dict[str, str], tmp_path: Path
) -> None:
    ended = run(local, tmp_path, "--years", "2018-2019")
    assert ended.returncode == 3, ended.stdout + ended.stderr
    assert "No imagery for 4 cells and years" in ended.stdout
    assert "download_463_2018" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


def test_year_without_imagery_is_told_and_no_failure(local: dict[str, str], tmp_path: Path) -> None:
    for _ in range(2):  # the second time it is looked for again
        ended = run(local, tmp_path, "--years", "2020-2021")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "No imagery for 2 cells and years" in ended.stdout


def test_second_run_on_the_same_data_dir_is_refused(local: dict[str, str], tmp_path: Path) -> None:
    import fcntl

    runtime = Path(local["DATA_DIR"]) / "run"
    runtime.mkdir(parents=True)
    with (runtime / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = run(local, tmp_path, "--years", "2021-2022")
    assert refused.returncode == 1
    assert "another eo-tasks run works on this DATA_DIR" in refused.stderr


def test_run_with_a_wrong_checkpoint_says_so_and_stops(local: dict[str, str], tmp_path: Path) -> None:
    ended = run(local | {"BTC_MODEL_CHECKPOINT": str(tmp_path)}, tmp_path, "--years", "2021-2022")
    assert ended.returncode == 1
    assert f"BTC_MODEL_CHECKPOINT={tmp_path}: that folder has no model.safetensors" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert children_of_data_dir(local["DATA_DIR"]) == []
