"""What every store promises; a new store joins by its ``PipelineMode``."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from eo_tasks.change import ChangeMap
from eo_tasks.checksum import pixels_sha256
from eo_tasks.cog import write_composite
from eo_tasks.errors import StorageError
from eo_tasks.files import sha256
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.products.mask import MaskFiles, mask_tags, read_mask_layers, write_mask_files
from eo_tasks.raster import Composite, Origin, PixelGrid
from eo_tasks.settings import PipelineMode, load_settings
from eo_tasks.storage import FileStore, LocalStore, StagedImage, Staging, Store, open_store
from eo_tasks.storage.database.connection import Database, Login
from eo_tasks.storage.database.schema import upgrade
from eo_tasks.storage.database.store import DatabaseStore
from eo_tasks.storage.folder import Folder
from eo_tasks.storage.layout import staged_file
from eo_tasks.storage.place import record_of
from tests.archive import image_path, mask_path
from tests.postgres import database_settings

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rasterio's own


PIXELS = PixelGrid(32633, (500_000, 5_000_000, 500_060, 5_000_040))
CELL_YEAR = GridYear(463, 2022)
PAIR = YearPair(463, 2022, 2023)
RECIPE = {"checkpoint": "a/b", "threshold": 0.2, "stretch": {"B04": [0.0, 0.347]}}
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
BEFORE, AT, AFTER = (NOON.timestamp() + seconds for seconds in (-1, 0, 1))


BUCKET = "bucket"


@pytest.fixture(params=[*PipelineMode, BUCKET])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each mode, on a real database, and one in a bucket of a real object store."""
    if request.param == BUCKET:
        yield FileStore(request.getfixturevalue("bucket"))
        return
    here = {"pipeline_mode": request.param, "data_dir": tmp_path / "data"}
    if request.param is PipelineMode.LOCAL_ONLY:
        yield open_store(load_settings(**here), Folder(tmp_path / "data"))
        return
    settings = load_settings(**here, **database_settings(request.getfixturevalue("database")))
    database = Database(Login.of_admin(settings))
    upgrade(database)
    database.close()
    opened = open_store(settings, Folder(tmp_path / "data"))
    yield opened
    (opened if isinstance(opened, DatabaseStore) else opened.database).database.close()


@pytest.fixture
def image(tmp_path: Path) -> Callable[..., StagedImage]:
    """Make a checked composite on its way into the store."""

    def make(grid_year: GridYear = CELL_YEAR, value: int = 1000, made_at: datetime = NOON) -> StagedImage:
        dn = np.full((3, *PIXELS.shape), value, np.uint16)
        counts = np.full(PIXELS.shape, 4, np.uint16)
        cog = tmp_path / "made" / f"{grid_year.download_id}_{value}.tiff"
        write_composite(cog, Composite(PIXELS, ("B02", "B03", "B04"), dn, counts, Origin("stac", "c")))
        record = {
            "grid_id": grid_year.grid_id,
            "year": grid_year.year,
            "source": "stac",
            "collection": "c",
            "size_bytes": cog.stat().st_size,
            "sha256": sha256(cog),
            "pixels_sha256": pixels_sha256((*dn, counts)),
            "made_at": made_at.isoformat(timespec="milliseconds"),
        }
        return StagedImage(cog, record)

    return make


@pytest.fixture
def mask(tmp_path: Path) -> Callable[..., tuple[MaskFiles, dict[str, Any]]]:
    """Make the files and the record of a mask."""

    def make(
        pair: YearPair = PAIR, probability: float = 0.9, recipe: object = RECIPE, **more: object
    ) -> tuple[MaskFiles, dict[str, Any]]:
        files = MaskFiles.beside(tmp_path / "made" / f"{pair.btc.id}_{probability}.png")
        change = ChangeMap(PIXELS, np.full(PIXELS.shape, probability, np.float32), 0.2)
        write_mask_files(files, change, mask_tags(pair.before, pair.after))
        record = {
            "grid_id": pair.grid_id,
            "years": [pair.before, pair.after],
            "recipe": recipe,
            "model": {"checkpoint": "a/b"},
            "threshold": 0.2,
            "size_bytes": files.png.stat().st_size,
            "sha256": sha256(files.png),
            "pixels_sha256": read_mask_layers(files).checksum,
            "changed_ha": change.changed_ha,
            "seen_ha": change.seen_ha,
            "made_at": NOON.isoformat(timespec="milliseconds"),
            **more,
        }
        return files, record

    return make


def put_images(store: Store, image: Callable[..., StagedImage], pair: YearPair = PAIR, value: int = 1000) -> list[str]:
    """Store both composites of a pair; gives their fingerprints, as a mask's record holds them."""
    staged = [image(grid_year, value) for grid_year in pair.grid_years]
    for grid_year, made in zip(pair.grid_years, staged, strict=True):
        store.put_image(grid_year, made)
    return [str(made.record["pixels_sha256"]) for made in staged]


def put_mask(
    store: Store, image: Callable[..., StagedImage], pair: YearPair, files: MaskFiles, record: dict[str, Any]
) -> None:
    """Store a mask, and its composites before it where they are missing."""
    for grid_year in pair.grid_years:
        if not store.has_image(grid_year):
            store.put_image(grid_year, image(grid_year))
    store.put_mask(pair, files, record)


def is_absent(store: Store, grid_year: GridYear) -> bool:
    return (
        not store.has_image(grid_year)
        and store.image_record(grid_year) is None
        and grid_year.grid_id not in store.image_ids(grid_year.year)
    )


# Images


def test_an_empty_store_has_nothing(store):
    assert is_absent(store, CELL_YEAR)
    assert not store.image_ids(2022)
    assert not store.mask_ids(2022, 2023, RECIPE)
    assert not store.has_mask(PAIR, RECIPE)
    assert store.mask_record(PAIR) is None


def test_a_stored_image_is_read_as_it_was_put(store, image):
    staged = image()
    store.put_image(CELL_YEAR, staged)
    assert store.has_image(CELL_YEAR)
    assert store.image_record(CELL_YEAR) == staged.record
    stored = store.get_image(CELL_YEAR)
    assert (stored.pixels, stored.bands) == (PIXELS, ("B02", "B03", "B04"))
    assert (stored.dn == 1000).all()
    assert (stored.clear_count == 4).all()


def test_images_are_listed_by_year(store, image):
    for grid_year in (GridYear(0, 2022), GridYear(463, 2022), GridYear(1_000_000, 2022), GridYear(7, 2023)):
        store.put_image(grid_year, image(grid_year))
    assert set(store.image_ids(2022)) == {0, 463, 1_000_000}
    assert set(store.image_ids(2023)) == {7}
    assert set(store.image_ids(2021)) == set()


def test_an_image_put_twice_is_there_once(store, image):
    staged = image()
    store.put_image(CELL_YEAR, staged)
    store.put_image(CELL_YEAR, staged)
    assert set(store.image_ids(2022)) == {463}
    assert store.image_record(CELL_YEAR) == staged.record
    assert (store.get_image(CELL_YEAR).dn == 1000).all()


def test_an_image_put_again_replaces_the_first(store, image):
    store.put_image(CELL_YEAR, image(value=1000))
    second = image(value=2000)
    store.put_image(CELL_YEAR, second)
    assert (store.get_image(CELL_YEAR).dn == 2000).all()
    assert store.image_record(CELL_YEAR) == second.record


def test_a_stored_image_outlives_the_file_that_it_was_put_from(store, image):
    staged = image()
    store.put_image(CELL_YEAR, staged)
    staged.cog.unlink()
    assert (store.get_image(CELL_YEAR).dn == 1000).all()


def test_an_image_that_is_not_stored_is_told_with_what_to_do(store):
    with pytest.raises(StorageError, match=r"^Cell 463, 2022: .*Enqueue that year again to make it\.$"):
        store.get_image(CELL_YEAR)


def test_an_image_that_cannot_be_put_is_not_there(store, image):
    staged = image()
    staged.cog.unlink()
    with pytest.raises(OSError, match="No such file"):
        store.put_image(CELL_YEAR, staged)
    assert is_absent(store, CELL_YEAR)


def test_only_cells_that_are_asked_for_are_looked_up(store, image):
    for cell in (0, 7, 463):
        store.put_image(GridYear(cell, 2022), image(GridYear(cell, 2022)))
    assert set(store.image_ids(2022, [7, 463, 464])) == {7, 463}
    assert set(store.image_ids(2022, (464,))) == set()
    assert set(store.image_ids(2022, [])) == set()
    assert set(store.image_ids(2023, [7, 463])) == set()


@pytest.mark.parametrize(("not_before", "is_there"), [(0, True), (BEFORE, True), (AT, True), (AFTER, False)])
def test_an_image_made_before_a_fresh_start_does_not_count(store, image, not_before, is_there):
    store.put_image(CELL_YEAR, image())
    assert store.has_image(CELL_YEAR, not_before) is is_there
    for among in (None, [463, 464]):
        assert set(store.image_ids(2022, among, not_before)) == ({463} if is_there else set())


def test_an_image_without_a_time_of_making_counts_unless_a_fresh_start_is_asked_for(store, image):
    staged = image()
    store.put_image(CELL_YEAR, StagedImage(staged.cog, {**staged.record, "made_at": None}))
    assert store.has_image(CELL_YEAR)
    assert not store.has_image(CELL_YEAR, 1.0)


def test_an_image_is_still_read_when_it_is_too_old_for_a_fresh_start(store, image):
    store.put_image(CELL_YEAR, image())
    assert not store.has_image(CELL_YEAR, AFTER)
    assert (store.get_image(CELL_YEAR).dn == 1000).all()


# Masks


def test_a_stored_mask_is_there_for_its_recipe(store, image, mask):
    files, record = mask()
    put_mask(store, image, PAIR, files, record)
    assert store.has_mask(PAIR, RECIPE)
    assert store.mask_record(PAIR) == record
    assert set(store.mask_ids(2022, 2023, RECIPE)) == {463}


@pytest.mark.parametrize(
    "recipe",
    [{**RECIPE, "threshold": 0.3}, {**RECIPE, "checkpoint": "c/d"}, {**RECIPE, "stretch": {"B04": [0.0, 0.3]}}, {}],
)
def test_a_mask_of_another_recipe_is_stale(store, image, mask, recipe):
    put_mask(store, image, PAIR, *mask())
    assert not store.has_mask(PAIR, recipe)
    assert not store.mask_ids(2022, 2023, recipe)


def test_a_mask_made_again_by_another_recipe_replaces_the_stale_one(store, image, mask):
    put_mask(store, image, PAIR, *mask())
    other = {**RECIPE, "threshold": 0.3}
    put_mask(store, image, PAIR, *mask(probability=0.1, recipe=other))
    assert store.has_mask(PAIR, other)
    assert not store.has_mask(PAIR, RECIPE)


def test_a_mask_of_the_same_earlier_and_another_later_year_is_not_the_mask(store, image, mask):
    other = YearPair(463, 2022, 2024)
    put_mask(store, image, other, *mask(other))
    assert store.has_mask(other, RECIPE)
    assert not store.has_mask(PAIR, RECIPE)
    assert store.mask_record(PAIR) is None
    assert not store.mask_ids(2022, 2023, RECIPE)


def test_a_mask_put_twice_is_there_once(store, image, mask):
    files, record = mask()
    put_mask(store, image, PAIR, files, record)
    put_mask(store, image, PAIR, files, record)
    assert set(store.mask_ids(2022, 2023, RECIPE)) == {463}
    assert store.mask_record(PAIR) == record


def test_a_mask_that_cannot_be_put_whole_is_not_there(store, image, mask):
    _, old = made = mask()
    put_mask(store, image, PAIR, *made)
    files, record = mask(probability=0.1)
    files.png.unlink()
    with pytest.raises(OSError, match="No such file"):
        put_mask(store, image, PAIR, files, record)
    assert store.mask_record(PAIR) in (None, old)


def test_masks_are_listed_by_pair(store, image, mask):
    for pair in (YearPair(1, 2021, 2022), YearPair(2, 2022, 2023), YearPair(3, 2022, 2023)):
        put_mask(store, image, pair, *mask(pair))
    assert set(store.mask_ids(2021, 2022, RECIPE)) == {1}
    assert set(store.mask_ids(2022, 2023, RECIPE)) == {2, 3}


def test_only_masks_that_are_asked_for_are_looked_up(store, image, mask):
    for cell in (1, 2, 3):
        put_mask(store, image, YearPair(cell, 2022, 2023), *mask(YearPair(cell, 2022, 2023)))
    assert set(store.mask_ids(2022, 2023, RECIPE, [2, 3, 4])) == {2, 3}
    assert set(store.mask_ids(2022, 2023, RECIPE, [])) == set()
    assert set(store.mask_ids(2021, 2022, RECIPE, [2, 3, 4])) == set()


@pytest.mark.parametrize(("not_before", "is_there"), [(0, True), (BEFORE, True), (AT, True), (AFTER, False)])
def test_a_mask_made_before_a_fresh_start_does_not_count(store, image, mask, not_before, is_there):
    put_mask(store, image, PAIR, *mask())
    assert store.has_mask(PAIR, RECIPE, not_before) is is_there
    for among in (None, [463, 464]):
        assert set(store.mask_ids(2022, 2023, RECIPE, among, not_before)) == ({463} if is_there else set())


def test_a_mask_of_the_composites_that_are_stored_is_current(store, image, mask):
    put_mask(store, image, PAIR, *mask(images_sha256=put_images(store, image)))
    assert store.has_mask(PAIR, RECIPE)
    assert not store.stale_mask_ids(2022, 2023, RECIPE)


@pytest.mark.parametrize("which", [0, 1], ids=["earlier", "later"])
def test_a_mask_is_stale_when_one_of_its_composites_was_replaced(store, image, mask, which):
    put_mask(store, image, PAIR, *mask(images_sha256=put_images(store, image)))
    store.put_image(PAIR.grid_years[which], image(PAIR.grid_years[which], value=2000))
    assert not store.has_mask(PAIR, RECIPE)
    assert not store.mask_ids(2022, 2023, RECIPE)
    assert not store.mask_ids(2022, 2023, RECIPE, [463])
    assert set(store.stale_mask_ids(2022, 2023, RECIPE)) == {463}


def test_a_mask_is_current_again_when_the_same_composite_comes_back(store, image, mask):
    put_mask(store, image, PAIR, *mask(images_sha256=put_images(store, image)))
    store.put_image(PAIR.grid_years[0], image(PAIR.grid_years[0], value=2000))
    store.put_image(PAIR.grid_years[0], image(PAIR.grid_years[0]))
    assert store.has_mask(PAIR, RECIPE)


@pytest.mark.parametrize(
    ("known", "asked", "is_current"),
    [("aa", "aa", True), ("aa", "bb", False), (None, "bb", True), ("aa", None, True), (None, None, True)],
)
def test_a_mask_of_other_weights_is_stale_where_both_are_known(store, image, mask, known, asked, is_current):
    put_mask(store, image, PAIR, *mask(recipe=RECIPE | {"weights_sha256": known}))
    for recipe in [RECIPE | {"weights_sha256": asked}] + [RECIPE] * (asked is None):
        assert store.has_mask(PAIR, recipe) is is_current
        assert set(store.mask_ids(2022, 2023, recipe)) == ({463} if is_current else set())
        assert set(store.stale_mask_ids(2022, 2023, recipe)) == (set() if is_current else {463})


def test_a_mask_recorded_without_weights_is_of_a_recipe_that_knows_them(store, image, mask):
    put_mask(store, image, PAIR, *mask(recipe=RECIPE))
    assert store.has_mask(PAIR, RECIPE | {"weights_sha256": "aa"})
    assert not store.has_mask(PAIR, RECIPE | {"weights_sha256": "aa", "threshold": 0.3})


def test_stale_masks_are_listed_among_the_cells_asked_for(store, image, mask):
    other = {**RECIPE, "threshold": 0.3}
    for cell, recipe in ((1, RECIPE), (2, other), (3, other)):
        put_mask(store, image, YearPair(cell, 2022, 2023), *mask(YearPair(cell, 2022, 2023), recipe=recipe))
    assert set(store.stale_mask_ids(2022, 2023, RECIPE)) == {2, 3}
    assert set(store.stale_mask_ids(2022, 2023, RECIPE, [1, 3, 4])) == {3}
    assert set(store.stale_mask_ids(2022, 2023, other)) == {1}
    assert set(store.stale_mask_ids(2021, 2022, RECIPE)) == set()


def test_a_mask_that_is_only_too_old_for_a_fresh_start_is_not_stale(store, image, mask):
    put_mask(store, image, PAIR, *mask())
    assert not store.mask_ids(2022, 2023, RECIPE, None, AFTER)
    assert not store.stale_mask_ids(2022, 2023, RECIPE)


# Files of the local store, which readers outside this project rely on


@pytest.fixture
def local(tmp_path: Path) -> LocalStore:
    """An empty local store."""
    return LocalStore(tmp_path / "data")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_files_have_the_names_that_readers_expect(local, image, mask):
    local.put_image(CELL_YEAR, image())
    local.put_mask(PAIR, *mask())
    assert names(local.data_dir / "images" / "2022") == [
        "sentinel2_grid_463_2022_08.json",
        "sentinel2_grid_463_2022_08.tiff",
    ]
    assert names(local.data_dir / "masks" / "2022") == [
        "change_mask_grid_463_2022.json",
        "change_mask_grid_463_2022.png",
        "change_mask_grid_463_2022.tiff",
        "change_mask_grid_463_2022_probability.tiff",
    ]
    with rasterio.open(mask_path(local.data_dir, PAIR)) as png:
        assert (png.read(1) == 255).all()


def test_a_mask_whose_composites_are_not_stored_is_current(local, mask):
    local.put_mask(PAIR, *mask(images_sha256=["aa", "bb"]))
    assert local.has_mask(PAIR, RECIPE)
    assert not local.stale_mask_ids(2022, 2023, RECIPE)


def test_a_mask_that_was_half_replaced_is_not_there(local, mask):
    local.put_mask(PAIR, *mask())
    files, record = mask(probability=0.1)
    files.png.unlink()
    with pytest.raises(OSError, match="No such file"):
        local.put_mask(PAIR, files, record)
    assert not local.has_mask(PAIR, RECIPE)


def test_an_image_without_its_record_is_half_written_and_not_there(local, image):
    local.put_image(CELL_YEAR, image())
    image_path(local.data_dir, CELL_YEAR).with_suffix(".json").unlink()
    assert is_absent(local, CELL_YEAR)


def test_a_record_without_its_image_is_half_written_and_not_there(local, image):
    local.put_image(CELL_YEAR, image())
    image_path(local.data_dir, CELL_YEAR).unlink()
    assert is_absent(local, CELL_YEAR)
    with pytest.raises(StorageError):
        local.get_image(CELL_YEAR)


def test_a_record_that_is_cut_short_does_not_count(local, image):
    local.put_image(CELL_YEAR, image())
    record = image_path(local.data_dir, CELL_YEAR).with_suffix(".json")
    record.write_text(record.read_text()[:-3])
    assert is_absent(local, CELL_YEAR)


def test_a_truncated_image_does_not_count(local, image):
    local.put_image(CELL_YEAR, image())
    path = image_path(local.data_dir, CELL_YEAR)
    path.write_bytes(path.read_bytes()[:-1])
    assert is_absent(local, CELL_YEAR)


def test_an_image_of_the_right_size_that_is_broken_is_told(local, image):
    local.put_image(CELL_YEAR, image())
    path = image_path(local.data_dir, CELL_YEAR)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(StorageError, match=r"^Cell 463, 2022: the stored composite is broken: "):
        local.get_image(CELL_YEAR)


def test_a_truncated_mask_does_not_count(local, mask):
    local.put_mask(PAIR, *mask())
    path = mask_path(local.data_dir, PAIR)
    path.write_bytes(path.read_bytes()[:-1])
    assert not local.has_mask(PAIR, RECIPE)
    assert not local.mask_ids(2022, 2023, RECIPE)


@pytest.mark.parametrize("which", ["cog", "probability"])
def test_a_mask_without_one_of_its_rasters_does_not_count(local, mask, which):
    local.put_mask(PAIR, *mask())
    getattr(MaskFiles.beside(mask_path(local.data_dir, PAIR)), which).unlink()
    assert not local.has_mask(PAIR, RECIPE)


def test_files_of_others_in_the_folders_are_left_out(local, image, mask):
    local.put_image(CELL_YEAR, image())
    local.put_mask(PAIR, *mask())
    for name in (".sentinel2_grid_8_2022_08.json.0a1b.part", "sentinel2_grid_9_2021_08.json", "notes.txt"):
        (local.data_dir / "images" / "2022" / name).write_text("{}")
    for name in ("change_mask_grid_9_2022.json", "change_mask_grid_x_2022.json"):
        (local.data_dir / "masks" / "2022" / name).write_text("{}")
    assert set(local.image_ids(2022)) == {463}
    assert set(local.mask_ids(2022, 2023, RECIPE)) == {463}
    assert set(local.stale_mask_ids(2022, 2023, {})) == {463}


def test_a_store_on_another_file_system_copies(local, image, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    staged = image()
    local.put_image(CELL_YEAR, staged)
    assert image_path(local.data_dir, CELL_YEAR).read_bytes() == staged.cog.read_bytes()
    assert len(names(local.data_dir / "images" / "2022")) == 2


def test_making_a_staged_file_again_leaves_the_stored_one_alone(local, image):
    staged = image()
    local.put_image(CELL_YEAR, staged)
    before = image_path(local.data_dir, CELL_YEAR).read_bytes()
    dn = np.full((3, *PIXELS.shape), 7, np.uint16)
    again = Composite(PIXELS, ("B02", "B03", "B04"), dn, dn[0], Origin("stac", "c"))
    write_composite(staged.cog, again)
    assert image_path(local.data_dir, CELL_YEAR).read_bytes() == before


# Staging


@pytest.fixture(params=["folder", BUCKET])
def staging(request: pytest.FixtureRequest, tmp_path: Path) -> Staging:
    """Nothing staged, in a folder and in a bucket."""
    return Staging(request.getfixturevalue("bucket") if request.param == BUCKET else Folder(tmp_path / "data"))


def stage(staging: Staging, staged: StagedImage, grid_year: GridYear = CELL_YEAR) -> None:
    staging.add(grid_year, staged.cog, staged.record)


def test_a_staged_composite_is_found_until_it_is_removed(staging, image, tmp_path):
    assert staging.record(CELL_YEAR) is None
    assert staging.get(CELL_YEAR, tmp_path) is None
    assert not staging.grid_ids(2022)
    staged = image()
    stage(staging, staged)
    assert staging.record(CELL_YEAR) == staged.record
    found = staging.get(CELL_YEAR, tmp_path)
    assert (found.record, found.cog.read_bytes()) == (staged.record, staged.cog.read_bytes())
    assert set(staging.grid_ids(2022)) == {463}
    assert not staging.grid_ids(2023)
    staging.remove(CELL_YEAR)
    assert staging.record(CELL_YEAR) is None
    assert list(staging.place.names(Path("staging/2022"))) == []
    staging.remove(CELL_YEAR)  # twice is as once


def test_a_staged_composite_outlives_the_file_that_it_was_staged_from(staging, image, tmp_path):
    staged = image()
    stage(staging, staged)
    content = staged.cog.read_bytes()
    staged.cog.unlink()
    assert staging.get(CELL_YEAR, tmp_path).cog.read_bytes() == content


def test_a_composite_staged_again_replaces_the_first(staging, image, tmp_path):
    stage(staging, image())
    second = image(value=2000)
    stage(staging, second)
    found = staging.get(CELL_YEAR, tmp_path)
    assert (found.record, found.cog.read_bytes()) == (second.record, second.cog.read_bytes())


def test_a_staged_file_without_its_record_does_not_count(staging, image):
    stage(staging, image())
    staging.place.remove([record_of(staged_file(CELL_YEAR))])
    assert staging.record(CELL_YEAR) is None
    assert not staging.grid_ids(2022)


def test_a_truncated_staged_file_does_not_count(staging, image, tmp_path):
    staged = image()
    stage(staging, staged)
    short = tmp_path / "short.tiff"
    short.write_bytes(staged.cog.read_bytes()[:-1])
    staging.place.put(short, staged_file(CELL_YEAR))
    assert staging.record(CELL_YEAR) is None
    assert not staging.grid_ids(2022)


@pytest.mark.parametrize(("not_before", "is_there"), [(0, True), (BEFORE, True), (AT, True), (AFTER, False)])
def test_a_composite_staged_before_a_fresh_start_does_not_count(staging, image, not_before, is_there):
    stage(staging, image())
    assert (staging.record(CELL_YEAR, not_before) is not None) is is_there
    for among in (None, [463, 464]):
        assert set(staging.grid_ids(2022, among, not_before)) == ({463} if is_there else set())


def test_only_staged_cells_that_are_asked_for_are_looked_up(staging, image):
    for cell in (7, 463):
        stage(staging, image(GridYear(cell, 2022)), GridYear(cell, 2022))
    assert set(staging.grid_ids(2022, [463, 464])) == {463}
    assert set(staging.grid_ids(2022, [])) == set()
    assert set(staging.grid_ids(2023, [463])) == set()
