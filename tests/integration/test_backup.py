"""``eo-tasks backup`` and ``restore``: from files, a bucket and the database, to files, a bucket and the database."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from eo_tasks.errors import StorageError
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.plan import Wanted
from eo_tasks.settings import load_settings
from eo_tasks.steps import Pipeline, download, store
from eo_tasks.steps.backup import MANIFEST, Copied, back_up, check_backup, restore, verify
from eo_tasks.steps.inventory import take_inventory
from eo_tasks.steps.masks import infer
from eo_tasks.storage import LocalStore, StagedImage
from eo_tasks.storage.database.connection import Database, Login
from eo_tasks.storage.database.schema import upgrade
from tests.archive import image_path, mask_path
from tests.bucket import ObjectStore
from tests.chaos.harness import until
from tests.painted import PaintedSource, paint
from tests.postgres import PostgresServer, database_settings

pytestmark = pytest.mark.integration

CELLS, YEARS = 2, (2021, 2022)
WANTED = Wanted(range(CELLS), YEARS)
PAIRS = [YearPair(cell, *YEARS) for cell in range(CELLS)]
STAGED = GridYear(1, 2023)
BUCKET = "bucket"
MODES = ["local_only", "hybrid", "database_only", BUCKET]
WAYS = [*zip(MODES, MODES, strict=True), ("database_only", BUCKET), ("local_only", "database_only")]
DEADLINE_S = 60

Archive = Callable[[str], dict[str, str]]


@pytest.fixture
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Archive]:
    """Makes an empty archive of a mode; gives its settings."""
    made: list[tuple[PostgresServer, str]] = []

    def make(mode: str) -> dict[str, str]:
        name = uuid4().hex
        if mode == BUCKET:
            server: ObjectStore = request.getfixturevalue("object_store_server")
            where = server.settings(server.make_bucket(f"test-{name}"), "country")
            return where | {"WORK_DIR": str(tmp_path / f"work-{name}")}
        where = {"PIPELINE_MODE": mode, "DATA_DIR": str(tmp_path / f"data-{name}")}
        if mode == "local_only":
            return where
        postgres: PostgresServer = request.getfixturevalue("postgres_server")
        postgres.create_database(f"test_{name}")
        made.append((postgres, f"test_{name}"))
        where |= postgres.admin_environment(f"test_{name}")
        database = Database(Login.of_admin(load_settings(**database_settings(where))))
        upgrade(database)
        database.close()
        return where

    yield make
    for postgres, name in made:
        postgres.drop_database(name)


@pytest.fixture
def painted(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A grid, and the network."""
    return paint(environment, tmp_path / "grid.gpkg", CELLS, ())


@pytest.fixture
def opened(painted: dict[str, str]) -> Iterator[Callable[[dict[str, str]], Pipeline]]:
    """Opens an archive."""
    databases: list[Database] = []

    def open_it(where: dict[str, str]) -> Pipeline:
        pipeline = Pipeline(load_settings(**{name.lower(): text for name, text in (painted | where).items()}))
        pipeline.__dict__["source"] = PaintedSource()
        held = getattr(pipeline.store, "database", None)
        if held is not None:
            databases.append(held if isinstance(held, Database) else held.database)
        return pipeline

    yield open_it
    for database in databases:
        database.close()


@pytest.fixture
def full(archive: Archive, opened: Callable[[dict[str, str]], Pipeline]) -> Callable[[str], Pipeline]:
    """Fills an archive of a mode: composites, a staged one, masks, a checkpoint file."""

    def fill(mode: str) -> Pipeline:
        pipeline = opened(archive(mode))
        pipeline.store.put_cells(pipeline.grid.cells)
        for cell in range(CELLS):
            for year in YEARS:
                download(pipeline, GridYear(cell, year))
                store(pipeline, GridYear(cell, year))
            infer(pipeline, YearPair(cell, *YEARS))
        download(pipeline, STAGED)
        with pipeline.scratch(".test-") as scratch:
            (scratch / "c.json").write_text('{"tasks": {}}')
            pipeline.place.put(scratch / "c.json", Path("checkpoints/btc_2021.json"))
        return pipeline

    return fill


def pixels_of(pipeline: Pipeline) -> dict[object, object]:
    """Fingerprints of everything that is stored."""
    images = {gy: pipeline.store.get_image(gy).checksum for gy in (GridYear(c, y) for c in range(CELLS) for y in YEARS)}
    return images | {pair: (pipeline.store.mask_record(pair) or {}).get("pixels_sha256") for pair in PAIRS}


def eo_tasks(environment: dict[str, str], cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eo_tasks.cli", *arguments],
        env=environment, cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(("source", "target"), WAYS, ids=["-".join(way) for way in WAYS])
def test_what_was_stored_is_stored_again_after_everything_was_lost(full, archive, opened, tmp_path, source, target):
    lost, folder = full(source), tmp_path / "backup"
    made = back_up(lost, folder)
    assert made == Copied({"composites": 4, "masks": 2, "staged composites": 1, "checkpoint files": 1, "grid files": 1})
    assert verify(folder) == Copied({"composites": 4, "masks": 2})
    new = opened(archive(target))
    back = restore(new, folder)
    assert back == Copied({"composites": 4, "masks": 2, "staged composites": 1, "checkpoint files": 1})
    assert pixels_of(new) == pixels_of(lost)
    assert new.staging.record(STAGED) == lost.staging.record(STAGED)
    assert new.place.local(Path("checkpoints/btc_2021.json"), tmp_path) is not None
    assert take_inventory(new, WANTED).masks == {YEARS: {0, 1}}  # nothing is made again
    assert (folder / "grid" / "grid.gpkg").read_bytes() == (tmp_path / "grid.gpkg").read_bytes()


@pytest.mark.parametrize("mode", MODES)
def test_the_next_backup_copies_what_is_new(full, tmp_path, mode):
    pipeline, folder = full(mode), tmp_path / "backup"
    back_up(pipeline, folder)
    store(pipeline, STAGED)
    again = back_up(pipeline, folder)
    assert (again.counts["composites"], again.counts["masks"], again.failures) == (1, 0, [])
    assert LocalStore(folder).image_ids(2023) == {1}
    assert back_up(pipeline, folder).counts["composites"] == 0


def test_what_was_made_again_is_copied_again_and_a_restore_takes_nothing_back(full, opened, tmp_path):
    pipeline, folder = full("local_only"), tmp_path / "backup"
    back_up(pipeline, folder)
    old = pixels_of(pipeline)
    grid_year, other = GridYear(0, 2022), pipeline.store.image_file(GridYear(1, 2022), tmp_path)
    record = {**other.record, "grid_id": 0, "made_at": "2100-01-01T00:00:00+00:00"}
    pipeline.store.put_image(grid_year, StagedImage(other.cog, record))
    assert restore(pipeline, folder).counts["composites"] == 0
    assert pipeline.store.image_record(grid_year) == record
    assert pixels_of(pipeline) != old
    assert back_up(pipeline, folder).counts["composites"] == 1
    assert LocalStore(folder).image_record(grid_year) == record


def test_masks_whose_composites_were_removed_are_kept(full, archive, opened, tmp_path):
    pipeline, folder = full("local_only"), tmp_path / "backup"
    for cell in range(CELLS):
        for year in YEARS:
            image_path(pipeline.settings.data_dir, GridYear(cell, year)).with_suffix(".json").unlink()
            image_path(pipeline.settings.data_dir, GridYear(cell, year)).unlink()
    assert back_up(pipeline, folder).counts["masks"] == 2
    new = opened(archive("local_only"))
    assert restore(new, folder).counts["masks"] == 2
    assert [new.store.mask_record(pair) for pair in PAIRS] == [pipeline.store.mask_record(pair) for pair in PAIRS]


def test_a_file_that_broke_is_told_and_stops_no_other(full, archive, opened, tmp_path):
    pipeline, folder = full("local_only"), tmp_path / "backup"
    broken = image_path(pipeline.settings.data_dir, GridYear(0, 2021))
    broken.write_bytes(bytes(broken.stat().st_size))
    made = back_up(pipeline, folder)
    assert made.failures == [
        f"Cell 0, 2021: the composite in {pipeline.settings.data_dir} is broken: it is not what its record tells."
    ]
    assert (made.counts["composites"], made.counts["masks"]) == (3, 2)
    mask = mask_path(folder, PAIRS[1])
    mask.write_bytes(bytes(mask.stat().st_size))
    assert verify(folder).failures == [
        f"Cell 1, 2021–2022: the mask in {folder} is broken: it is not what its record tells."
    ]
    back = restore(opened(archive("local_only")), folder)
    assert back.failures == verify(folder).failures
    assert (back.counts["composites"], back.counts["masks"]) == (3, 1)


@pytest.mark.parametrize("mode", ["local_only", "database_only"])
def test_a_backup_that_was_cut_off_is_told_and_goes_on(full, archive, painted, opened, tmp_path, mode):
    pipeline, folder = full(mode), tmp_path / "backup"
    names = {"PIPELINE_MODE", "DATA_DIR", "DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD", "DB_ADMIN_USER"}
    where = {name: str(getattr(pipeline.settings, name.lower())) for name in names}
    if pipeline.settings.db_password is not None:
        where["DB_PASSWORD"] = pipeline.settings.db_password.get_secret_value()
    where = {name: text for name, text in where.items() if text != "None"}
    process = subprocess.Popen(
        [sys.executable, "-m", "eo_tasks.cli", "backup", str(folder)], env=painted | where, cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: any(folder.glob("images/*/*.tiff")), DEADLINE_S, lambda: "nothing copied", look_s=0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if (folder / MANIFEST).exists():
        pytest.fail("it had ended already")
    told = eo_tasks(painted | where, tmp_path, "restore", str(folder))
    assert told.returncode == 1
    assert "the last backup here did not end. Let it end (eo-tasks backup" in told.stderr
    assert not restore(opened(archive("local_only")), folder, unfinished=True).failures
    assert not back_up(pipeline, folder).failures
    assert verify(folder) == Copied({"composites": 4, "masks": 2})
    check_backup(folder)


def test_a_folder_without_a_backup_is_told(tmp_path):
    with pytest.raises(StorageError, match=r"no backup here\. Name the folder that eo-tasks backup wrote to\.$"):
        check_backup(tmp_path)


def test_both_commands_say_what_they_did(full, archive, painted, tmp_path):
    pipeline, folder = full("local_only"), tmp_path / "backup"
    where = {"DATA_DIR": str(pipeline.settings.data_dir)}
    made = eo_tasks(painted | where, tmp_path, "backup", str(folder), "--verify")
    assert made.returncode == 0, made.stderr
    assert made.stdout.splitlines() == [
        "composites: 4 copied", "masks: 2 copied", "staged composites: 1 copied", "checkpoint files: 1 copied",
        "grid files: 1 copied", "composites: 4 whole", "masks: 2 whole",
    ]  # fmt: skip
    assert json.loads((folder / MANIFEST).read_text())["years"] == [2021, 2022]
    new = painted | archive("local_only") | {"GRID_FILE": str(tmp_path / "gone.gpkg")}
    back = eo_tasks(new, tmp_path, "restore", str(folder))
    assert back.returncode == 0, back.stderr
    assert back.stdout.splitlines()[:2] == ["composites: 4 copied", "masks: 2 copied"]
    assert back.stderr.strip().endswith("set GRID_FILE to it, or to a copy.")


def test_a_backup_does_not_go_to_where_the_data_are(full, painted, tmp_path):
    data_dir = full("local_only").settings.data_dir
    told = eo_tasks(painted | {"DATA_DIR": str(data_dir)}, tmp_path, "backup", f"{data_dir}/../{data_dir.name}")
    assert told.returncode == 1
    assert told.stderr.endswith("that is where the data are. Name another folder, best on another disk.\n")
    assert not (data_dir / MANIFEST).exists()


def test_a_folder_that_cannot_be_written_to_is_told(painted, tmp_path):
    (tmp_path / "file").touch()
    told = eo_tasks(painted, tmp_path, "backup", str(tmp_path / "file" / "backup"))
    assert told.returncode == 1
    assert told.stderr.startswith(f"Error: {tmp_path}/file/backup: cannot be written to (Not a directory).")
