"""What each stage does, with a source that paints composites, the local store and the tiny network."""

import json
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from shapely.geometry import box

from eo_tasks import steps
from eo_tasks.errors import (
    CheckpointError,
    EmptyCompositeError,
    GridError,
    RasterError,
    SettingsError,
    SourceUnavailableError,
    StorageError,
)
from eo_tasks.files import sha256
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.plan import Inventory, Wanted, plan
from eo_tasks.products.mask import MaskFiles
from eo_tasks.raster import Composite, Origin, PixelGrid
from eo_tasks.settings import load_settings
from eo_tasks.steps import Pipeline, download, infer, store, take_inventory
from eo_tasks.storage.layout import image_path, mask_path

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),  # rasterio's own
]

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden"
CELL_YEAR = GridYear(0, 2022)
PAIR = YearPair(0, 2022, 2023)


class PaintedSource:
    """Gives a composite of one value per year, and counts how often it was asked."""

    def __init__(self) -> None:
        self.requests = []
        self.clear = True
        self.pixels: PixelGrid | None = None
        self.error: Exception | None = None

    def composite(self, request, scratch: Path) -> Composite:
        self.requests.append(request)
        assert scratch.is_dir()
        (scratch / "half.tiff").write_text("in transit")
        if self.error:
            raise self.error
        pixels = self.pixels or request.pixels
        rng = np.random.default_rng(request.year)
        dn = rng.integers(100, 3000, (3, *pixels.shape)).astype(np.uint16) * np.uint16(self.clear)
        dn[:, 0, 0] = 0
        counts = np.full(pixels.shape, 4, np.uint16)
        origin = Origin("stac", "painted", ("S2A_1",), ("2022-06-01",), "applied", {"a": 1})
        return Composite(pixels, request.bands, dn, counts, origin)


@pytest.fixture
def pipeline(tmp_path) -> Pipeline:
    """A grid of two cells of 20 × 10 pixels, a painted source and the tiny network."""
    squares = [box(500_000, 5_000_000, 500_200, 5_000_100), box(500_200, 5_000_000, 500_400, 5_000_100)]
    frame = geopandas.GeoDataFrame({"grid_id": ["SI_0", "SI_1"]}, geometry=squares, crs=32633)
    frame.to_file(tmp_path / "grid.gpkg")
    return made(tmp_path)


def made(tmp_path, **changes) -> Pipeline:
    chosen = {
        "data_dir": tmp_path / "data",
        "grid_file": tmp_path / "grid.gpkg",
        "btc_model_checkpoint": str(GOLDEN),
        "btc_device": "cpu",
        "btc_window_px": 32,
        "btc_stride_px": 32,
    }
    pipeline = Pipeline(load_settings(**{**chosen, **changes}))
    pipeline.__dict__["source"] = PaintedSource()
    return pipeline


def make_images(pipeline: Pipeline, *grid_years: GridYear) -> None:
    for grid_year in grid_years or PAIR.grid_years:
        download(pipeline, grid_year)
        store(pipeline, grid_year)


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Download


def test_a_download_stages_a_composite_with_its_record(pipeline):
    outcome = download(pipeline, CELL_YEAR)
    staged = pipeline.staging.get(CELL_YEAR)
    assert not outcome.is_skipped
    assert outcome.facts == {"size_bytes": staged.cog.stat().st_size, "clear_share": 0.995}  # 199 of 200 pixels
    assert not pipeline.store.has_image(CELL_YEAR)
    assert files_in(pipeline.settings.data_dir) == [
        "staging/2022/sentinel2_grid_0_2022_08.json",
        "staging/2022/sentinel2_grid_0_2022_08.tiff",
    ]


def test_an_images_record_says_what_it_is_and_where_it_comes_from(pipeline):
    download(pipeline, CELL_YEAR)
    staged = pipeline.staging.get(CELL_YEAR)
    expected = {
        "grid_id": 0,
        "label": "SI_0",
        "year": 2022,
        "months": [4, 5, 6, 7, 8, 9],
        "bands": ["B02", "B03", "B04"],
        "dtype": "uint16",
        "scale": 1e-4,
        "nodata": 0,
        "epsg": 32633,
        "bounds": [500_000, 5_000_000, 500_200, 5_000_100],
        "width": 20,
        "height": 10,
        "resolution_m": 10,
        "source": "stac",
        "collection": "painted",
        "scenes": ["S2A_1"],
        "dates": ["2022-06-01"],
        "offset": "applied",
        "details": {"a": 1},
        "masked_scl": [3, 8, 9, 10, 11],
        "clear_share": 0.995,
        "clear_count_mean": 4.0,
        "sha256": sha256(staged.cog),
    }
    assert {key: staged.record[key] for key in expected} == expected
    assert staged.record["versions"]["gdal"] == rasterio.__gdal_version__


def test_the_source_is_asked_for_the_cell_and_the_season_of_the_settings(tmp_path, pipeline):
    pipeline = made(tmp_path, composite_months="6-8", max_cloud_cover=70, masked_scl="9,10")
    download(pipeline, GridYear(1, 2022))
    (request,) = pipeline.source.requests
    assert (request.cell.grid_id, request.year, request.months) == (1, 2022, (6, 7, 8))
    assert (request.masked_scl, request.max_cloud_cover) == ((9, 10), 70)
    assert request.pixels == PixelGrid(32633, (500_200, 5_000_000, 500_400, 5_000_100))


def test_a_second_download_of_a_staged_or_stored_composite_is_skipped(pipeline):
    download(pipeline, CELL_YEAR)
    assert download(pipeline, CELL_YEAR).is_skipped
    store(pipeline, CELL_YEAR)
    assert download(pipeline, CELL_YEAR).is_skipped
    assert len(pipeline.source.requests) == 1


def test_a_truncated_staged_composite_is_downloaded_again(pipeline):
    download(pipeline, CELL_YEAR)
    cog = pipeline.staging.cog(CELL_YEAR)
    cog.write_bytes(cog.read_bytes()[:100])
    assert not download(pipeline, CELL_YEAR).is_skipped
    assert pipeline.staging.get(CELL_YEAR) is not None


def test_a_composite_without_a_clear_observation_is_told_and_leaves_nothing(pipeline):
    pipeline.source.clear = False
    with pytest.raises(
        EmptyCompositeError, match=r"^Cell 0, 2022: no clear observation in months \(4, 5, 6, 7, 8, 9\)"
    ):
        download(pipeline, CELL_YEAR)
    assert files_in(pipeline.settings.data_dir) == []


def test_a_source_that_fails_leaves_nothing(pipeline):
    pipeline.source.error = SourceUnavailableError("Cell 0, 2022: later")
    with pytest.raises(SourceUnavailableError):
        download(pipeline, CELL_YEAR)
    assert files_in(pipeline.settings.data_dir) == []


def test_a_composite_on_other_pixels_than_asked_for_is_refused(pipeline):
    pipeline.source.pixels = PixelGrid(32633, (500_010, 5_000_000, 500_210, 5_000_100))
    with pytest.raises(RasterError, match=r"^Cell 0, 2022: "):
        download(pipeline, CELL_YEAR)


def test_a_cell_that_the_grid_lacks_is_told(pipeline):
    with pytest.raises(GridError, match="Cell 99: "):
        download(pipeline, GridYear(99, 2022))


# Store


def test_storing_moves_a_staged_composite_into_the_store(pipeline):
    download(pipeline, CELL_YEAR)
    record = pipeline.staging.get(CELL_YEAR).record
    assert not store(pipeline, CELL_YEAR).is_skipped
    assert pipeline.store.image_record(CELL_YEAR) == record
    assert files_in(pipeline.settings.data_dir) == [
        "images/2022/sentinel2_grid_0_2022_08.json",
        "images/2022/sentinel2_grid_0_2022_08.tiff",
    ]


def test_a_second_store_is_skipped_and_cleans_the_staging(pipeline, monkeypatch):
    download(pipeline, CELL_YEAR)
    pipeline.store.put_image(CELL_YEAR, pipeline.staging.get(CELL_YEAR))  # stored, then killed before cleaning
    monkeypatch.setattr(pipeline.store, "put_image", None)  # not to be called again
    assert store(pipeline, CELL_YEAR).is_skipped
    assert pipeline.staging.get(CELL_YEAR) is None
    assert store(pipeline, CELL_YEAR).is_skipped


def test_storing_nothing_is_told_with_what_to_do(pipeline):
    with pytest.raises(StorageError, match=r"^Cell 0, 2022: no staged composite to store\. Enqueue that year again"):
        store(pipeline, CELL_YEAR)


def test_a_store_that_fails_keeps_the_staged_composite(pipeline, monkeypatch):
    download(pipeline, CELL_YEAR)

    def refuse(*_: object) -> None:
        raise StorageError("no room")

    monkeypatch.setattr(pipeline.store, "put_image", refuse)
    with pytest.raises(StorageError, match="no room"):
        store(pipeline, CELL_YEAR)
    assert pipeline.staging.get(CELL_YEAR) is not None


# BTC


def test_a_pairs_mask_is_stored_with_its_record(pipeline):
    make_images(pipeline)
    outcome = infer(pipeline, PAIR)
    record = pipeline.store.mask_record(PAIR)
    assert not outcome.is_skipped
    assert outcome.facts == {"changed_ha": record["changed_ha"]}
    assert record["years"] == [2022, 2023]
    assert record["recipe"] == pipeline.recipe
    assert record["model"] == {
        "checkpoint": str(GOLDEN),
        "revision": "local",
        "weights_sha256": sha256(GOLDEN / "model.safetensors"),
    }
    assert record["images_sha256"] == [
        sha256(image_path(pipeline.settings.data_dir, grid_year)) for grid_year in PAIR.grid_years
    ]
    assert (record["width"], record["height"], record["epsg"]) == (20, 10, 32633)
    assert record["seen_ha"] == 1.99  # 199 pixels of a hundredth hectare


def test_a_masks_rasters_agree_with_its_record_and_threshold(pipeline):
    make_images(pipeline)
    infer(pipeline, PAIR)
    files = MaskFiles.beside(mask_path(pipeline.settings.data_dir, PAIR))
    with rasterio.open(files.cog) as cog, rasterio.open(files.probability) as scaled:
        classes, probability = cog.read(1), scaled.read(1)
        assert cog.tags()["YEARS"] == "2022,2023"
    assert (classes == 255).sum() == 1
    assert classes[0, 0] == probability[0, 0] == 255
    record = pipeline.store.mask_record(PAIR)
    assert record["changed_ha"] == pytest.approx((classes == 1).sum() / 100)
    seen = classes != 255
    assert (classes[seen & (probability > 51)] == 1).all()  # 0.2 × 254 = 50.8
    assert (classes[seen & (probability < 50)] == 0).all()


def test_a_second_inference_is_skipped_without_loading_the_network(tmp_path, pipeline):
    make_images(pipeline)
    infer(pipeline, PAIR)
    again = made(tmp_path)
    assert infer(again, PAIR).is_skipped
    assert "checkpoint" not in again.__dict__


@pytest.mark.parametrize("change", [{"btc_threshold": 0.4}, {"btc_stretch": "B04:0:0.3,B03:0:0.3,B02:0:0.3"}])
def test_a_mask_is_made_again_when_the_recipe_changes(tmp_path, pipeline, change):
    make_images(pipeline)
    infer(pipeline, PAIR)
    other = made(tmp_path, **change)
    assert not infer(other, PAIR).is_skipped
    assert other.store.has_mask(PAIR, other.recipe)
    assert not other.store.has_mask(PAIR, pipeline.recipe)


def test_a_recipe_tells_which_band_is_shown_as_red(tmp_path, pipeline):
    swapped = made(tmp_path, btc_stretch="B02:0:0.213,B03:0:0.296,B04:0:0.347")
    assert swapped.recipe != pipeline.recipe


def test_a_recipe_survives_being_stored_as_json(pipeline):
    assert json.loads(json.dumps(pipeline.recipe)) == pipeline.recipe


def test_a_pair_without_a_composite_is_told(pipeline):
    make_images(pipeline, CELL_YEAR)
    with pytest.raises(StorageError, match=r"^Cell 0, 2023: no whole composite"):
        infer(pipeline, PAIR)
    assert not pipeline.store.has_mask(PAIR, pipeline.recipe)


def test_a_pair_whose_network_cannot_be_loaded_is_told_by_cell_and_years(tmp_path, pipeline):
    make_images(pipeline)
    with pytest.raises(CheckpointError, match=r"^Cell 0, 2022–2023: BTC_MODEL_CHECKPOINT=/none: no such folder"):
        infer(made(tmp_path, btc_model_checkpoint="/none"), PAIR)


def test_inference_leaves_no_scratch(pipeline):
    make_images(pipeline)
    infer(pipeline, PAIR)
    assert sorted(path.name for path in pipeline.settings.data_dir.iterdir()) == ["images", "masks", "staging"]


# Inventory


def test_the_inventory_and_the_plan_follow_what_is_stored(pipeline):
    wanted = Wanted((0, 1), (2022, 2023))
    make_images(pipeline)
    download(pipeline, GridYear(1, 2022))
    infer(pipeline, PAIR)
    inventory = take_inventory(pipeline, wanted)
    assert inventory == Inventory({2022: {0}, 2023: {0}}, {2022: {1}, 2023: set()}, {(2022, 2023): {0}})
    todo = plan(wanted, inventory)
    assert (todo.downloads, todo.stores) == ((GridYear(1, 2023),), (GridYear(1, 2022),))
    assert todo.waiting == (YearPair(1, 2022, 2023),)


# What a pipeline opens


def test_without_a_grid_file_the_one_in_the_data_folder_is_taken(tmp_path, pipeline):
    alone = made(tmp_path, grid_file=None)
    with pytest.raises(
        GridError, match=r"^No grid: set GRID_FILE, or make .*/data/grid\.gpkg with eo-tasks grid make\.$"
    ):
        _ = alone.grid
    alone.settings.data_dir.mkdir(exist_ok=True)
    (tmp_path / "grid.gpkg").rename(alone.settings.data_dir / "grid.gpkg")
    assert len(alone.grid.cells) == 2


@pytest.mark.parametrize("mode", ["database_only", "hybrid"])
def test_a_store_that_is_not_there_yet_is_told(tmp_path, pipeline, mode):
    with pytest.raises(SettingsError, match=f"^PIPELINE_MODE={mode}: this version stores in local files only"):
        _ = made(tmp_path, pipeline_mode=mode).store


def test_a_pipeline_opens_what_the_settings_name(tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "open_source", lambda settings: settings.imagery_source)
    assert Pipeline(load_settings(imagery_source="stac")).source == "stac"
