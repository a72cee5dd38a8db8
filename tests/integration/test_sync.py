"""Files and database brought together, on a real PostgreSQL."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from click.testing import CliRunner, Result
from redis import Redis

from eo_tasks.change import ChangeMap
from eo_tasks.checksum import pixels_sha256
from eo_tasks.cli.main import main
from eo_tasks.cog import write_composite
from eo_tasks.errors import StorageError, StoreUnavailableError
from eo_tasks.files import sha256, write_json
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.grid_file import read_grid
from eo_tasks.products.mask import MaskFiles, mask_tags, read_mask_layers, write_mask_files
from eo_tasks.raster import Composite, Origin, PixelGrid
from eo_tasks.sample import Sample
from eo_tasks.settings import PipelineMode, current_settings, load_settings
from eo_tasks.steps.sync import Copy, copy, copy_all, differences, newest_first
from eo_tasks.storage import LocalStore, StagedImage, Store
from eo_tasks.storage.database.connection import Database, Login
from eo_tasks.storage.database.schema import upgrade
from eo_tasks.storage.database.store import DatabaseStore
from eo_tasks.storage.hybrid import HybridStore
from eo_tasks.tasks import context, sync
from tests.archive import image_path, mask_path
from tests.postgres import PostgresServer, database_settings

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),  # rasterio's own
]

PIXELS = PixelGrid(32633, (500_000, 5_000_000, 500_060, 5_000_040))
CELL_YEAR = GridYear(463, 2022)
PAIR, LONG_PAIR = YearPair(463, 2022, 2023), YearPair(463, 2022, 2024)
YEARS = (2021, 2022, 2023, 2024)
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
FAR = float("inf")


class Maker:
    """Makes small composites and masks in a folder, and puts them into stores."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put_image(self, store: Store, grid_year: GridYear, value: int = 1000, minutes: int = 0) -> None:
        """A composite of one value, made so many minutes past noon."""
        dn = np.full((3, *PIXELS.shape), value, np.uint16)
        counts = np.full(PIXELS.shape, 4, np.uint16)
        cog = self.folder / f"{uuid4().hex}.tiff"
        write_composite(cog, Composite(PIXELS, ("B02", "B03", "B04"), dn, counts, Origin("stac", "c")))
        record = {
            "grid_id": grid_year.grid_id,
            "year": grid_year.year,
            "source": "stac",
            "collection": "c",
            "size_bytes": cog.stat().st_size,
            "sha256": sha256(cog),
            "pixels_sha256": pixels_sha256((*dn, counts)),
            "made_at": _past_noon(minutes),
        }
        store.put_image(grid_year, StagedImage(cog, record))

    def put_mask(
        self, store: Store, pair: YearPair, probability: float = 0.9, minutes: int = 0, **more: object
    ) -> None:
        """A mask of one probability, made so many minutes past noon; its composites have to be there."""
        files = MaskFiles.beside(self.folder / f"{uuid4().hex}.png")
        change = ChangeMap(PIXELS, np.full(PIXELS.shape, probability, np.float32), 0.2)
        write_mask_files(files, change, mask_tags(pair.before, pair.after))
        record: dict[str, Any] = {
            "grid_id": pair.grid_id,
            "years": [pair.before, pair.after],
            "recipe": {"checkpoint": "a/b", "threshold": 0.2},
            "model": {"checkpoint": "a/b"},
            "threshold": 0.2,
            "size_bytes": files.png.stat().st_size,
            "sha256": sha256(files.png),
            "pixels_sha256": read_mask_layers(files).checksum,
            "changed_ha": change.changed_ha,
            "seen_ha": change.seen_ha,
            "made_at": _past_noon(minutes),
            **more,
        }
        store.put_mask(pair, files, record)

    def fill(self, store: Store, cells: tuple[int, ...] = (463, 464)) -> None:
        """Composites of all years and masks of each two of them that follow each other."""
        for cell in cells:
            for year in YEARS:
                self.put_image(store, GridYear(cell, year), value=1000 + cell + year)
            for before in YEARS[:-1]:
                self.put_mask(store, YearPair(cell, before, before + 1), probability=0.9 if cell == 463 else 0.1)


def _past_noon(minutes: int) -> str:
    return (NOON + timedelta(minutes=minutes)).isoformat(timespec="milliseconds")


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Make composites and masks."""
    folder = tmp_path / "made"
    folder.mkdir()
    return Maker(folder)


@pytest.fixture
def files(tmp_path: Path) -> LocalStore:
    """An empty local store."""
    return LocalStore(tmp_path / "data")


@pytest.fixture
def rows(database: dict[str, str]) -> Iterator[DatabaseStore]:
    """An empty database with its tables."""
    yield from _opened(database)


@pytest.fixture
def other_database(postgres_server: PostgresServer) -> Iterator[dict[str, str]]:
    """A second database."""
    name = f"test_{uuid4().hex}"
    postgres_server.create_database(name)
    yield postgres_server.admin_environment(name)
    postgres_server.drop_database(name)


@pytest.fixture
def other_rows(other_database: dict[str, str]) -> Iterator[DatabaseStore]:
    """A second empty database with its tables."""
    yield from _opened(other_database)


def _opened(environment: dict[str, str]) -> Iterator[DatabaseStore]:
    database = Database(Login.of_admin(load_settings(**database_settings(environment))))
    upgrade(database)
    yield DatabaseStore(database)
    database.close()


def todo(files: Store, rows: Store, **directions: bool) -> list[Copy]:
    """All that has to be copied."""
    return [one for year in newest_first(files, rows) for one in differences(files, rows, year, **directions)]


def bring(files: LocalStore, rows: DatabaseStore) -> dict[str, int]:
    """Copy all of it, without a failure; afterwards nothing is left to copy, nor in scratch."""
    made = copy_all(todo(files, rows), files, rows, files.data_dir)
    assert made.failures == ()
    assert todo(files, rows) == []
    assert [path for path in files.data_dir.iterdir() if path.name.startswith(".")] == []
    return {kind: number for kind, number in made.copied.items() if number}


def content(folder: Path) -> dict[str, str]:
    """Checksums of all files in a folder."""
    return {str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def stored_bytes(environment: dict[str, str], server: PostgresServer) -> list[Any]:
    """What the database keeps of composites and masks, ids and times of insertion left out."""
    with server.connect(environment["DB_NAME"]) as connection:
        images = connection.execute(
            "SELECT grid_id, month, to_jsonb(eo) - 'id' FROM eo ORDER BY grid_id, month"
        ).fetchall()
        masks = connection.execute(
            "SELECT grid_id, period_start, period_end, mask, probability, checksum, record, ST_AsText(bbox), transform"
            " FROM eo_change ORDER BY 1, 2, 3"
        ).fetchall()
        patches = connection.execute(
            "SELECT grid_id, period_start, period_end, ST_AsText(geom), area_ha, mean_probability"
            " FROM eo_change_polygons ORDER BY 1, 2, 3, 4"
        ).fetchall()
    return [images, masks, patches]


def call(environment: dict[str, str], data_dir: Path, *arguments: object) -> Result:
    """Run the command on that database."""
    return CliRunner().invoke(
        main, [str(argument) for argument in arguments], env={**environment, "DATA_DIR": str(data_dir)}
    )


# Both ways


def test_what_files_have_comes_to_the_database(files, rows, make):
    make.fill(files)
    assert bring(files, rows) == {"composites → database": 8, "masks → database": 6}
    assert rows.image_record(CELL_YEAR) == files.image_record(CELL_YEAR)
    assert rows.mask_record(PAIR) == files.mask_record(PAIR)
    assert (rows.get_image(CELL_YEAR).dn == files.get_image(CELL_YEAR).dn).all()


def test_what_the_database_has_comes_to_files(files, rows, make):
    make.fill(rows)
    assert bring(files, rows) == {"composites → files": 8, "masks → files": 6}
    assert files.image_record(CELL_YEAR) == rows.image_record(CELL_YEAR)
    assert files.mask_record(PAIR) == rows.mask_record(PAIR)


def test_each_side_gets_what_it_lacks(files, rows, make):
    make.fill(files, (463,))
    make.fill(rows, (464,))
    assert len(bring(files, rows)) == 4
    assert set(files.image_ids(2022)) == set(rows.image_ids(2022)) == {463, 464}


@pytest.mark.parametrize("to_database", [True, False])
def test_of_two_that_differ_the_later_one_is_kept(files, rows, make, to_database):
    later, earlier = (files, rows) if to_database else (rows, files)
    for store in (files, rows):
        make.put_image(store, GridYear(463, 2023))
    for store, value, minutes in ((earlier, 1000, 0), (later, 2000, 1)):
        make.put_image(store, CELL_YEAR, value, minutes)
        make.put_mask(store, PAIR, 0.9 - value / 10_000, minutes)
    where = "database" if to_database else "files"
    assert bring(files, rows) == {f"composites → {where}": 1, f"masks → {where}": 1}
    assert (earlier.get_image(CELL_YEAR).dn == 2000).all()
    assert earlier.mask_record(PAIR) == later.mask_record(PAIR)


def test_two_that_differ_and_are_of_the_same_time_stay(files, rows, make):
    make.put_image(files, CELL_YEAR, 1000)
    make.put_image(rows, CELL_YEAR, 2000)
    assert bring(files, rows) == {}
    assert (files.get_image(CELL_YEAR).dn == 1000).all()
    assert (rows.get_image(CELL_YEAR).dn == 2000).all()


def test_a_mask_of_the_same_pixels_by_a_later_recipe_replaces_the_stale_one(files, rows, make):
    for store in (files, rows):
        for grid_year in PAIR.grid_years:
            make.put_image(store, grid_year)
    make.put_mask(rows, PAIR)
    make.put_mask(files, PAIR, minutes=1, recipe={"checkpoint": "a/b", "threshold": 0.3})
    assert bring(files, rows) == {"masks → database": 1}


def test_a_direction_that_is_not_wanted_is_left_out(files, rows, make):
    make.fill(files, (463,))
    make.fill(rows, (464,))
    assert {one.what.grid_id for one in todo(files, rows, to_files=False)} == {463}
    assert {one.what.grid_id for one in todo(files, rows, to_database=False)} == {464}
    assert {one.what.grid_id for one in differences(files, rows, 2022, [463])} == {463}


def test_copies_are_told_in_words():
    assert str(Copy(CELL_YEAR, to_database=True)) == "Cell 463, 2022: composite → database"
    assert str(Copy(PAIR, to_database=False)) == "Cell 463, 2022–2023: mask → files"


# Several masks from a year on


def test_several_masks_from_a_year_on_do_not_take_turns(files, rows, make):
    make.fill(files, (463,))
    bring(files, rows)
    make.put_mask(rows, LONG_PAIR, 0.5, minutes=1)
    assert bring(files, rows) == {"masks → files": 1}
    assert files.mask_record(PAIR) is None
    assert files.mask_record(LONG_PAIR) == rows.mask_record(LONG_PAIR)
    assert rows.mask_record(PAIR) is not None


def test_an_older_mask_of_the_database_does_not_replace_a_newer_one_of_another_later_year(files, rows, make):
    make.fill(files, (463,))
    bring(files, rows)
    make.put_mask(rows, LONG_PAIR, 0.5, minutes=-1)
    assert bring(files, rows) == {}
    assert files.mask_record(PAIR) is not None


def test_a_mask_comes_to_the_database_before_another_takes_its_place_in_files(files, rows, make):
    for year in YEARS:
        for store in (files, rows):
            make.put_image(store, GridYear(463, year))
    make.put_mask(files, PAIR)
    make.put_mask(rows, LONG_PAIR, 0.5, minutes=1)
    assert bring(files, rows) == {"masks → database": 1, "masks → files": 1}
    assert rows.mask_record(PAIR) is not None


def test_a_mask_that_cannot_come_to_the_database_keeps_its_place_in_files(files, rows, make):
    for year in (2022, 2024):
        make.put_image(rows, GridYear(463, year))
    make.put_mask(files, PAIR)  # without its later composite anywhere
    make.put_mask(rows, LONG_PAIR, 0.5, minutes=1)
    made = copy_all(todo(files, rows), files, rows, files.data_dir)
    assert len(made.failures) == 1
    assert "the composites of 2023 are not in the database" in made.failures[0]
    assert made.copied["composites → files"] == 2
    assert files.mask_record(PAIR) is not None


# Failures


def test_a_broken_file_does_not_stop_the_others(files, rows, make):
    make.fill(files)
    path = image_path(files.data_dir, GridYear(464, 2024))
    path.write_bytes(bytes(path.stat().st_size))
    made = copy_all(todo(files, rows), files, rows, files.data_dir)
    assert len(made.failures) == 2  # and the mask that needs it
    assert all(message.startswith("Cell 464, 202") for message in made.failures)
    assert (made.copied["composites → database"], made.copied["masks → database"]) == (7, 5)


def test_what_came_there_in_the_meantime_is_not_replaced(files, rows, make):
    make.put_image(rows, CELL_YEAR, 1000)
    (one,) = todo(files, rows)
    make.put_image(files, CELL_YEAR, 2000, minutes=1)
    assert not copy(one, files, rows, files.data_dir)
    assert (files.get_image(CELL_YEAR).dn == 2000).all()


def test_a_file_that_is_gone_is_told_with_its_cell(files, rows, make):
    make.put_image(files, CELL_YEAR)
    (one,) = todo(files, rows)
    image_path(files.data_dir, CELL_YEAR).unlink()
    with pytest.raises(StorageError, match=r"^Cell 463, 2022: "):
        copy(one, files, rows, files.data_dir)


def test_a_database_that_is_away_stops_all(files, rows, make, postgres_server):
    make.fill(files, (463,))
    copies = todo(files, rows)
    postgres_server.stop("immediate")
    with pytest.raises(StoreUnavailableError):
        copy_all(copies, files, rows, files.data_dir)


# While the database is away


@pytest.fixture
def clock() -> list[float]:
    """The time of the hybrid store, to be moved."""
    return [1000.0]


@pytest.fixture
def both(files: LocalStore, rows: DatabaseStore, clock: list[float]) -> HybridStore:
    """Files and database as one store."""
    return HybridStore(files, rows, lambda: clock[0])


def test_without_the_database_files_are_written_and_read(both, make, postgres_server, tmp_path):
    make.fill(both, (463,))
    postgres_server.stop("immediate")
    make.fill(both, (464,))
    there = GridYear(464, 2022)
    assert both.image_ids(2022) == {463, 464}
    assert set(both.mask_records(2022)) == {YearPair(463, 2022, 2023), YearPair(464, 2022, 2023)}
    assert both.years() == list(YEARS)
    assert both.image_record(there) == both.files.image_record(there)
    np.testing.assert_array_equal(both.get_image(there).dn, both.files.get_image(there).dn)
    with both.open_image(there) as image:
        assert image.pixels == PIXELS
    assert both.mask_files(YearPair(464, 2022, 2023), tmp_path)[1] == both.mask_record(YearPair(464, 2022, 2023))


def test_what_only_the_database_has_is_told_as_away_not_as_missing(both, rows, make, postgres_server):
    make.put_image(rows, CELL_YEAR)
    postgres_server.stop("immediate")
    with pytest.raises(StoreUnavailableError, match=r"^Cell 463, 2022: "):
        both.get_image(CELL_YEAR)


def test_a_database_that_was_away_is_asked_again_after_a_rest(both, rows, make, postgres_server, clock):
    make.put_image(rows, GridYear(464, 2022))
    postgres_server.stop("immediate")
    make.put_image(both, CELL_YEAR)
    postgres_server.start()
    clock[0] += 29
    make.put_image(both, GridYear(463, 2023))
    assert both.image_ids(2022) == {463}
    assert rows.image_ids(2023) == set()
    clock[0] += 1
    assert both.image_ids(2022) == {463, 464}
    make.put_image(both, GridYear(463, 2024))
    assert rows.image_ids(2024) == {463}


# Round trips


def test_files_survive_the_way_through_two_databases(tmp_path, database, other_database, rows, other_rows, files, make):
    make.fill(files)
    first, second, data = tmp_path / "first", tmp_path / "second", files.data_dir
    for environment, arguments in (
        (database, ("import", data)),
        (database, ("export", first)),
        (other_database, ("import", first)),
        (other_database, ("export", second)),
    ):
        result = call(environment, tmp_path / "unused", *arguments)
        assert result.exit_code == 0, result.output
    assert len(content(data)) == 8 * 2 + 6 * 4
    assert content(first) == content(data)
    assert content(second) == content(data)


def test_rows_survive_the_way_through_files(
    tmp_path, database, other_database, rows, other_rows, make, postgres_server
):
    make.fill(rows)
    folder = tmp_path / "exported"
    assert call(database, tmp_path / "unused", "export", folder).exit_code == 0
    assert call(other_database, tmp_path / "unused", "import", folder).exit_code == 0
    before = stored_bytes(database, postgres_server)
    assert [len(part) > 0 for part in before] == [True] * 3
    assert stored_bytes(other_database, postgres_server) == before


# The commands


def test_a_dry_run_names_the_copies_and_changes_nothing(database, rows, files, make):
    make.fill(files, (463,))
    before = content(files.data_dir)
    result = call(database, files.data_dir, "sync", "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[:5] == [
        "composites → database: 4 to copy",
        "masks → database: 3 to copy",
        "composites → files: 0 to copy",
        "masks → files: 0 to copy",
        "  Cell 463, 2024: composite → database",
    ]
    assert len(result.output.splitlines()) == 4 + 7
    assert rows.years() == []
    assert content(files.data_dir) == before


def test_a_dry_run_of_much_names_the_first_copies(database, rows, files, make):
    make.fill(files, (1, 2, 3, 4))
    lines = call(database, files.data_dir, "sync", "--dry-run").output.splitlines()
    assert len(lines) == 4 + 20 + 1
    assert lines[-1] == "  and 8 more"


def test_sync_tells_what_it_copied_and_has_nothing_to_do_after(database, rows, files, make):
    make.fill(files, (463,))
    make.fill(rows, (464,))
    for number, masks in ((4, 3), (0, 0)):
        result = call(database, files.data_dir, "sync")
        assert result.exit_code == 0, result.output
        assert result.output.splitlines() == [
            f"composites → database: {number} copied",
            f"masks → database: {masks} copied",
            f"composites → files: {number} copied",
            f"masks → files: {masks} copied",
        ]


def test_only_the_years_and_cells_that_are_asked_for_are_copied(database, rows, files, make):
    make.fill(files, (463, 464, 465))
    result = call(database, files.data_dir, "sync", "--years", "2021-2022", "--cells", "463,465")
    assert result.output.splitlines()[:2] == ["composites → database: 4 copied", "masks → database: 2 copied"]
    assert set(rows.image_ids(2021)) == {463, 465}
    assert rows.years() == [2021, 2022]


def test_sync_ends_with_three_when_some_cannot_be_copied(database, rows, files, make):
    make.put_mask(files, PAIR)
    result = call(database, files.data_dir, "sync")
    assert result.exit_code == 3
    assert result.stderr.startswith("Not copied: Cell 463, 2022–2023: mask → database: ")
    assert mask_path(files.data_dir, PAIR).exists()


def test_cells_that_are_no_numbers_are_refused(database, files):
    result = call(database, files.data_dir, "sync", "--cells", "SI_000463")
    assert result.exit_code == 2
    assert "give ids of cells as 463,464" in result.stderr


def test_a_database_without_tables_is_told_at_once(database, files, make):
    make.put_image(files, CELL_YEAR)
    result = call(database, files.data_dir, "sync")
    assert result.exit_code == 1
    assert "eo-tasks db upgrade" in result.stderr


# The tick


@pytest.fixture
def hybrid(
    monkeypatch: pytest.MonkeyPatch,
    sample_environment: dict[str, str],
    database: dict[str, str],
    rows: DatabaseStore,
    redis: Redis,
) -> Iterator[HybridStore]:
    """The store of this process, as a worker in hybrid mode has it, on the sample's grid of cells."""
    for name, value in (sample_environment | database | {"PIPELINE_MODE": str(PipelineMode.HYBRID)}).items():
        monkeypatch.setenv(name, value)
    current_settings.cache_clear()
    context.reopen()
    store = context.pipeline().store
    assert isinstance(store, HybridStore)
    yield store
    store.database.database.close()
    context.reopen()
    current_settings.cache_clear()


@pytest.fixture
def cells(sample: Sample) -> tuple[int, ...]:
    """Two cells of the sample's grid."""
    return tuple(sorted(cell.grid_id for cell in read_grid(sample.grid_file).cells)[:2])


def test_what_a_database_that_was_away_missed_is_brought(hybrid, rows, make, cells, postgres_server, caplog):
    postgres_server.stop("immediate")
    make.fill(hybrid, cells)
    caplog.clear()
    assert sync.synchronise(FAR) == {}
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("WARNING", None)]
    postgres_server.start()
    assert sync.synchronise(FAR) == {"composites → database": 8, "masks → database": 6}
    assert sync.synchronise(FAR) == {}
    assert todo(hybrid.files, rows) == []


def test_a_tick_copies_no_more_than_it_may_and_the_next_goes_on(hybrid, make, cells, monkeypatch):
    monkeypatch.setattr(sync, "MOST", 4)
    make.fill(hybrid.files, cells)
    ticks = [sum(sync.synchronise(FAR).values()) for _ in range(5)]
    assert ticks == [4, 4, 4, 2, 0]


def test_a_tick_goes_on_after_the_cells_that_were_compared(hybrid, make, cells, monkeypatch, redis):
    monkeypatch.setattr(sync, "PART", 1)
    monkeypatch.setattr(sync, "MOST", 1)
    make.put_image(hybrid.files, GridYear(cells[0], 2022))
    make.put_image(hybrid.files, GridYear(cells[1], 2022))
    assert sync.synchronise(FAR) == {"composites → database": 1}
    at = json.loads(redis.get(sync.ROUND_KEY))
    assert (at["year"], at["cell"], at["ended_at"]) == (2022, cells[0], 0)
    assert sync.synchronise(FAR) == {"composites → database": 1}
    sync.synchronise(FAR)
    assert json.loads(redis.get(sync.ROUND_KEY))["ended_at"] > 0


def test_a_round_that_found_nothing_rests_ten_times_as_long_as_it_took():
    at = sync.Round(worked_s=6, ended_at=1000)
    assert (at.is_resting(1059), at.is_resting(1060)) == (True, False)


def test_a_round_that_copied_does_not_rest_nor_one_that_goes_on():
    assert not sync.Round(worked_s=6, copied=True, ended_at=1000).is_resting(1001)
    assert not sync.Round(year=2022, cell=5, worked_s=6).is_resting(1001)


def test_the_next_tick_after_a_quiet_round_compares_nothing(hybrid, rows, make, cells, redis):
    assert sync.synchronise(FAR) == {}
    make.put_image(hybrid.files, GridYear(cells[0], 2022))
    redis.set(sync.ROUND_KEY, json.dumps({"worked_s": 60, "ended_at": time()}))
    assert sync.synchronise(FAR) == {}
    redis.set(sync.ROUND_KEY, json.dumps({"worked_s": 60, "ended_at": time() - 601}))
    assert sync.synchronise(FAR) == {"composites → database": 1}


def test_a_tick_without_time_copies_nothing(hybrid, make, cells):
    make.fill(hybrid.files, cells)
    assert sync.synchronise(0) == {}


def test_what_cannot_be_copied_does_not_hold_up_the_cells_after_it(hybrid, rows, make, cells, monkeypatch, caplog):
    monkeypatch.setattr(sync, "PART", 1)
    monkeypatch.setattr(sync, "MOST", 1)
    make.put_mask(hybrid.files, YearPair(cells[0], 2022, 2023))
    make.put_image(hybrid.files, GridYear(cells[1], 2022))
    assert sync.synchronise(FAR) == {"failed": 1, "composites → database": 1}
    assert "not synchronised: " in caplog.text


def test_a_record_without_a_time_of_making_replaces_nothing(files, rows, make):
    make.put_image(files, CELL_YEAR, 1000)
    make.put_image(rows, CELL_YEAR, 2000, minutes=1)
    path = image_path(files.data_dir, CELL_YEAR).with_suffix(".json")
    record = dict(files.image_record(CELL_YEAR) or {})
    write_json(path, record | {"made_at": None})
    assert bring(files, rows) == {}
