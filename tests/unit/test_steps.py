"""What each stage does, with a source that paints composites, the local store and the tiny network."""

import json
import shutil
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
from safetensors.torch import load_file, save_file
from shapely.geometry import box

from eo_tasks.cog import write_composite
from eo_tasks.errors import (
    CheckpointError,
    EmptyCompositeError,
    GridError,
    InferenceError,
    RasterError,
    SourceUnavailableError,
    StorageError,
)
from eo_tasks.files import sha256
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.plan import Inventory, Wanted, plan
from eo_tasks.products.mask import MaskFiles, MaskWriter
from eo_tasks.raster import Composite, Origin, PixelGrid
from eo_tasks.settings import load_settings
from eo_tasks.steps import Pipeline, download, infer, infer_all, store, take_inventory
from eo_tasks.storage import StagedImage
from eo_tasks.storage.layout import staged_file
from tests.archive import image_path, mask_path

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
        if len(request.months) > 6:
            dn[:, 0, 0] = 500  # seen in the months that were added
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


def test_a_download_stages_a_composite_with_its_record(pipeline, tmp_path):
    outcome = download(pipeline, CELL_YEAR)
    staged = pipeline.staging.get(CELL_YEAR, tmp_path)
    assert not outcome.is_skipped
    facts = {"size_bytes": staged.cog.stat().st_size, "clear_share": 0.995, "pixels": 200}  # 199 of them
    assert outcome.facts == facts
    assert not pipeline.store.has_image(CELL_YEAR)
    assert files_in(pipeline.settings.data_dir) == [
        "staging/2022/sentinel2_grid_0_2022_08.json",
        "staging/2022/sentinel2_grid_0_2022_08.tiff",
    ]


def test_an_images_record_says_what_it_is_and_where_it_comes_from(pipeline, tmp_path):
    download(pipeline, CELL_YEAR)
    staged = pipeline.staging.get(CELL_YEAR, tmp_path)
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
    assert (request.name, request.year, request.months) == ("Cell 1, 2022", 2022, (6, 7, 8))
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
    cog = pipeline.settings.data_dir / staged_file(CELL_YEAR)
    cog.write_bytes(cog.read_bytes()[:100])
    assert not download(pipeline, CELL_YEAR).is_skipped
    assert pipeline.staging.record(CELL_YEAR) is not None


def test_a_composite_without_a_clear_observation_is_told_and_leaves_nothing(pipeline):
    pipeline.source.clear = False
    with pytest.raises(EmptyCompositeError, match=r"^Cell 0, 2022: no clear observation in months 4–9"):
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


LATER = 4e9  # seconds since 1970: later than anything that a test makes


def from_then_on(tmp_path, not_before: float) -> Pipeline:
    """Pipeline of a run that was started afresh."""
    fresh = made(tmp_path)
    return replace(fresh, not_before=lambda _: not_before)


def test_a_fresh_start_downloads_again_what_is_stored_or_staged(tmp_path, pipeline):
    download(pipeline, CELL_YEAR)
    fresh = from_then_on(tmp_path, LATER)
    fresh.__dict__["source"] = PaintedSource()
    assert not download(fresh, CELL_YEAR).is_skipped
    store(pipeline, CELL_YEAR)
    assert not download(fresh, CELL_YEAR).is_skipped
    assert len(fresh.source.requests) == 2


def test_a_fresh_start_keeps_what_was_made_since(tmp_path, pipeline):
    download(pipeline, CELL_YEAR)
    made_at = datetime.fromisoformat(pipeline.staging.record(CELL_YEAR)["made_at"]).timestamp()
    assert download(from_then_on(tmp_path, made_at), CELL_YEAR).is_skipped
    store(pipeline, CELL_YEAR)
    assert download(from_then_on(tmp_path, made_at), CELL_YEAR).is_skipped


def test_each_step_is_told_how_old_its_own_unit_may_be(tmp_path, pipeline):
    asked = []
    asking = replace(made(tmp_path), not_before=lambda unit: asked.append(unit.id) or 0)
    asking.__dict__["source"] = PaintedSource()
    make_images(asking)
    infer(asking, PAIR)
    assert asked == ["download_0_2022", "store_0_2022", "download_0_2023", "store_0_2023", "btc_0_2022_2023"]


# Store


def test_a_fresh_start_replaces_a_stored_composite_and_refuses_an_old_staged_one(tmp_path, pipeline):
    make_images(pipeline, CELL_YEAR)
    first = pipeline.store.image_record(CELL_YEAR)
    made_at = datetime.fromisoformat(first["made_at"]).timestamp() + 0.001
    fresh = from_then_on(tmp_path, made_at)
    fresh.__dict__["source"] = PaintedSource()
    with pytest.raises(StorageError, match=r"^Cell 0, 2022: no staged composite to store"):
        store(fresh, CELL_YEAR)
    assert pipeline.store.image_record(CELL_YEAR) == first
    while datetime.now(UTC).timestamp() < made_at + 0.001:  # records tell milliseconds
        pass
    download(fresh, CELL_YEAR)
    assert not store(fresh, CELL_YEAR).is_skipped
    assert pipeline.store.image_record(CELL_YEAR)["made_at"] > first["made_at"]
    assert fresh.staging.record(CELL_YEAR) is None


def test_storing_moves_a_staged_composite_into_the_store(pipeline):
    download(pipeline, CELL_YEAR)
    record = pipeline.staging.record(CELL_YEAR)
    assert not store(pipeline, CELL_YEAR).is_skipped
    assert pipeline.store.image_record(CELL_YEAR) == record
    assert files_in(pipeline.settings.data_dir) == [
        "images/2022/sentinel2_grid_0_2022_08.json",
        "images/2022/sentinel2_grid_0_2022_08.tiff",
    ]


def test_a_second_store_is_skipped_and_cleans_the_staging(pipeline, tmp_path, monkeypatch):
    download(pipeline, CELL_YEAR)
    pipeline.store.put_image(
        CELL_YEAR, pipeline.staging.get(CELL_YEAR, tmp_path)
    )  # stored, then killed before cleaning
    monkeypatch.setattr(pipeline.store, "put_image", None)  # not to be called again
    assert store(pipeline, CELL_YEAR).is_skipped
    assert pipeline.staging.record(CELL_YEAR) is None
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
    assert pipeline.staging.record(CELL_YEAR) is not None


# BTC


def test_a_pairs_mask_is_stored_with_its_record(pipeline):
    make_images(pipeline)
    outcome = infer(pipeline, PAIR)
    record = pipeline.store.mask_record(PAIR)
    assert not outcome.is_skipped
    assert outcome.facts == {"changed_ha": record["changed_ha"], "pixels": 200}
    assert record["years"] == [2022, 2023]
    assert record["recipe"] == pipeline.recipe
    assert record["model"] == {
        "checkpoint": str(GOLDEN),
        "revision": "local",
        "weights_sha256": sha256(GOLDEN / "model.safetensors"),
        "precision": "float32",
    }
    assert record["images_sha256"] == [pipeline.store.get_image(grid_year).checksum for grid_year in PAIR.grid_years]
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
    assert "model" not in again.__dict__


@pytest.mark.parametrize("change", [{"btc_threshold": 0.4}, {"btc_stretch": "B04:0:0.3,B03:0:0.3,B02:0:0.3"}])
def test_a_mask_is_made_again_when_the_recipe_changes(tmp_path, pipeline, change):
    make_images(pipeline)
    infer(pipeline, PAIR)
    other = made(tmp_path, **change)
    assert not infer(other, PAIR).is_skipped
    assert other.store.has_mask(PAIR, other.recipe)
    assert not other.store.has_mask(PAIR, pipeline.recipe)


def test_a_mask_is_made_again_when_a_composite_was_replaced(pipeline):
    make_images(pipeline)
    infer(pipeline, PAIR)
    other = GridYear(0, 2023)  # whose pixels are others
    path = image_path(pipeline.settings.data_dir, other)
    pipeline.store.put_image(CELL_YEAR, StagedImage(path, pipeline.store.image_record(other)))
    assert not pipeline.store.has_mask(PAIR, pipeline.recipe)
    assert not infer(pipeline, PAIR).is_skipped
    assert infer(pipeline, PAIR).is_skipped


def test_a_mask_is_made_again_when_the_folder_has_other_weights(tmp_path, pipeline):
    folder = shutil.copytree(GOLDEN, tmp_path / "network")
    make_images(pipeline)
    first = made(tmp_path, btc_model_checkpoint=str(folder))
    assert first.recipe["weights_sha256"] == sha256(folder / "model.safetensors")
    infer(first, PAIR)
    weights = load_file(folder / "model.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    save_file(weights | {name: weights[name] + 0.125}, folder / "model.safetensors", {"format": "pt"})
    other = made(tmp_path, btc_model_checkpoint=str(folder))
    assert not other.store.has_mask(PAIR, other.recipe)
    assert not infer(other, PAIR).is_skipped
    assert infer(other, PAIR).is_skipped


def test_a_recipe_of_weights_that_are_not_here_knows_no_fingerprint_of_them(tmp_path, pipeline):
    assert made(tmp_path, btc_model_checkpoint="someone/BTC").recipe["weights_sha256"] is None


def test_a_fresh_start_makes_a_mask_again(tmp_path, pipeline):
    make_images(pipeline)
    infer(pipeline, PAIR)
    assert not infer(from_then_on(tmp_path, LATER), PAIR).is_skipped


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


# BTC on groups of pairs


# Of different earlier years, after which masks are named; the third has nothing to do with 2022.
ALL_PAIRS = [YearPair(0, 2021, 2022), YearPair(0, 2022, 2023), YearPair(0, 2020, 2023)]
YEARS = [GridYear(0, year) for year in (2020, 2021, 2022, 2023)]


def put(pipeline: Pipeline, grid_year: GridYear, pixels: PixelGrid) -> None:
    """Store a composite that lies somewhere else than its cell."""
    cog = pipeline.settings.data_dir / "made.tiff"
    dn = np.random.default_rng(grid_year.year).integers(100, 3000, (3, *pixels.shape)).astype(np.uint16)
    counts = np.ones(pixels.shape, np.uint16)
    write_composite(cog, Composite(pixels, ("B02", "B03", "B04"), dn, counts, Origin("stac", "c")))
    pipeline.staging.add(grid_year, cog, {"size_bytes": cog.stat().st_size, "sha256": sha256(cog)})
    cog.unlink()
    store(pipeline, grid_year)


def break_rows(pipeline: Pipeline, grid_year: GridYear) -> None:
    """Spoil the pixels of a stored composite and keep its size, so that it opens and cannot be read."""
    path = image_path(pipeline.settings.data_dir, grid_year)
    whole = bytearray(path.read_bytes())
    spoiled = min(len(whole) // 2, 4000)  # of the last block
    whole[-spoiled:] = bytes(spoiled)
    path.write_bytes(whole)


def classes(pipeline: Pipeline, pair: YearPair) -> np.ndarray:
    with rasterio.open(MaskFiles.beside(mask_path(pipeline.settings.data_dir, pair)).cog) as cog:
        return cog.read(1)


def scratch(pipeline: Pipeline) -> list[str]:
    return [path.name for path in pipeline.settings.data_dir.rglob("*") if path.name.startswith(".")]


def threads_ahead() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


def test_a_cells_pairs_come_out_as_if_each_were_inferred_alone(tmp_path, pipeline):
    make_images(pipeline, *YEARS)
    outcomes = dict(infer_all(pipeline, [ALL_PAIRS]))
    assert list(outcomes) == ALL_PAIRS
    together = [classes(pipeline, pair) for pair in ALL_PAIRS]
    alone = made(tmp_path, data_dir=tmp_path / "alone")
    make_images(alone, *YEARS)
    for pair, found in zip(ALL_PAIRS, together, strict=True):
        assert infer(alone, pair) == outcomes[pair]
        assert (classes(alone, pair) == found).all()
    assert scratch(pipeline) == []


def test_groups_of_several_cells_are_each_given_once(pipeline):
    others = [GridYear(1, 2021), GridYear(1, 2022)]
    make_images(pipeline, *YEARS, *others)
    groups = [ALL_PAIRS[:2], [YearPair(1, 2021, 2022)], [], [ALL_PAIRS[2]]]
    outcomes = list(infer_all(pipeline, groups))
    assert sorted(pair.btc.id for pair, _ in outcomes) == sorted(pair.btc.id for group in groups for pair in group)
    assert not any(outcome.is_skipped for _, outcome in outcomes)


def test_what_is_stored_already_is_skipped_beside_what_is_not(pipeline):
    make_images(pipeline, *YEARS)
    infer(pipeline, ALL_PAIRS[1])
    outcomes = dict(infer_all(pipeline, [ALL_PAIRS]))
    assert {pair: outcome.is_skipped for pair, outcome in outcomes.items()} == {
        ALL_PAIRS[0]: False, ALL_PAIRS[1]: True, ALL_PAIRS[2]: False,
    }  # fmt: skip


def test_a_year_is_opened_once_for_all_pairs_of_its_group(pipeline, monkeypatch):
    make_images(pipeline, *YEARS)
    opened, open_image = [], pipeline.store.open_image
    monkeypatch.setattr(pipeline.store, "open_image", lambda year: opened.append(year) or open_image(year))
    list(infer_all(pipeline, [ALL_PAIRS]))
    assert sorted(opened, key=YEARS.index) == YEARS


def test_pairs_without_a_composite_are_told_and_their_neighbours_made(pipeline):
    make_images(pipeline, YEARS[0], YEARS[1], YEARS[3])
    outcomes = dict(infer_all(pipeline, [ALL_PAIRS]))
    assert str(outcomes[ALL_PAIRS[0]]).startswith("Cell 0, 2022: no whole composite")
    assert str(outcomes[ALL_PAIRS[1]]).startswith("Cell 0, 2022: no whole composite")
    assert not outcomes[ALL_PAIRS[2]].is_skipped
    assert pipeline.store.has_mask(ALL_PAIRS[2], pipeline.recipe)
    assert not pipeline.store.has_mask(ALL_PAIRS[0], pipeline.recipe)


def test_pairs_of_a_broken_composite_are_told_and_their_neighbours_made(pipeline):
    make_images(pipeline, *YEARS, GridYear(1, 2021), GridYear(1, 2022))
    break_rows(pipeline, YEARS[2])
    outcomes = dict(infer_all(pipeline, [ALL_PAIRS, [YearPair(1, 2021, 2022)]]))
    for pair in ALL_PAIRS[:2]:
        assert isinstance(outcomes[pair], StorageError)
        assert str(outcomes[pair]).startswith("Cell 0, 2022: the stored composite is broken: ")
        assert not pipeline.store.has_mask(pair, pipeline.recipe)
    assert not outcomes[ALL_PAIRS[2]].is_skipped
    assert not outcomes[YearPair(1, 2021, 2022)].is_skipped
    assert scratch(pipeline) == []


@pytest.mark.parametrize(
    "other",
    [
        PixelGrid(32634, (500_000, 5_000_000, 500_200, 5_000_100)),
        PixelGrid(32633, (500_010, 5_000_000, 500_210, 5_000_100)),
        PixelGrid(32633, (500_000, 5_000_000, 500_210, 5_000_100)),
    ],
    ids=["another CRS", "shifted", "wider"],
)
def test_years_on_different_pixel_grids_are_refused_and_their_neighbours_made(pipeline, other):
    make_images(pipeline, YEARS[0], YEARS[1], YEARS[3])
    put(pipeline, YEARS[2], other)
    outcomes = dict(infer_all(pipeline, [ALL_PAIRS]))
    for pair, error in ((pair, outcomes[pair]) for pair in ALL_PAIRS[:2]):
        assert isinstance(error, RasterError)
        assert str(error).startswith(f"{pair}: the two years lie on different pixel grids: EPSG:3263")
    assert not outcomes[ALL_PAIRS[2]].is_skipped


def test_a_mask_that_cannot_be_stored_fails_its_pair_alone(pipeline, monkeypatch):
    make_images(pipeline, *YEARS)
    put_mask = pipeline.store.put_mask

    def refuse_one(pair, files, record):
        if pair == ALL_PAIRS[1]:
            raise OSError(28, "No space left on device")
        put_mask(pair, files, record)

    monkeypatch.setattr(pipeline.store, "put_mask", refuse_one)
    outcomes = dict(infer_all(pipeline, [ALL_PAIRS]))
    assert isinstance(outcomes[ALL_PAIRS[1]], OSError)
    assert not outcomes[ALL_PAIRS[0]].is_skipped
    assert not outcomes[ALL_PAIRS[2]].is_skipped
    assert not pipeline.store.has_mask(ALL_PAIRS[1], pipeline.recipe)
    assert scratch(pipeline) == []


@pytest.mark.parametrize("method", ["__enter__", "write", "finish"])
def test_a_mask_whose_files_cannot_be_written_fails_its_pair_alone(pipeline, monkeypatch, method):
    make_images(pipeline, *YEARS)
    whole, failing = getattr(MaskWriter, method), []

    def fail_for_the_first(writer, *arguments):
        failing[:] = failing or [writer]
        if writer is failing[0]:
            raise OSError(28, "No space left on device")
        return whole(writer, *arguments)

    monkeypatch.setattr(MaskWriter, method, fail_for_the_first)
    outcomes = dict(infer_all(pipeline, [ALL_PAIRS]))
    assert [isinstance(outcomes[pair], OSError) for pair in ALL_PAIRS] == [True, False, False]
    assert [pipeline.store.has_mask(pair, pipeline.recipe) for pair in ALL_PAIRS] == [False, True, True]
    assert scratch(pipeline) == []


def test_pairs_of_a_network_that_cannot_be_loaded_are_told_and_no_further_group_is_taken(tmp_path, pipeline):
    make_images(pipeline, *YEARS, GridYear(0, 2024))
    put(pipeline, GridYear(0, 2025), PixelGrid(32633, (500_010, 5_000_000, 500_210, 5_000_100)))
    put(pipeline, GridYear(0, 2026), PixelGrid(32633, (500_010, 5_000_000, 500_210, 5_000_100)))
    first = [*ALL_PAIRS, YearPair(0, 2024, 2025), YearPair(0, 2025, 2026)]  # of two places, and one between them
    taken = []
    groups = (taken.append(number) or group for number, group in enumerate([first, [YearPair(0, 2023, 2024)]]))
    outcomes = dict(infer_all(made(tmp_path, btc_model_checkpoint="/none"), groups))
    assert outcomes.keys() == set(first)
    assert isinstance(outcomes.pop(YearPair(0, 2024, 2025)), RasterError)
    for pair, error in outcomes.items():
        assert isinstance(error, CheckpointError)
        assert str(error).startswith(f"{pair}: BTC_MODEL_CHECKPOINT=/none: no such folder")
    assert taken == [0]


def test_pairs_in_several_places_of_one_group_are_all_made(pipeline):
    make_images(pipeline, *YEARS[1:3])
    for year in (2023, 2024):
        put(pipeline, GridYear(0, year), PixelGrid(32633, (500_010, 5_000_000, 500_310, 5_000_200)))
    pairs = [YearPair(0, 2021, 2022), YearPair(0, 2023, 2024)]
    assert not any(outcome.is_skipped for _, outcome in infer_all(pipeline, [pairs]))
    assert [classes(pipeline, pair).shape for pair in pairs] == [(10, 20), (20, 30)]


def test_an_answer_that_is_not_a_number_is_told_and_its_pairs_neighbours_made(pipeline, monkeypatch):
    make_images(pipeline, *YEARS)
    infer_batch = pipeline.model.engine.infer

    def spoil_the_first(*arguments):
        found = infer_batch(*arguments).clone()
        found[0, 3, 4] = float("nan")
        return found

    monkeypatch.setattr(pipeline.model.engine, "infer", spoil_the_first)
    outcomes = dict(infer_all(pipeline, [ALL_PAIRS]))
    assert isinstance(outcomes[ALL_PAIRS[0]], InferenceError)
    assert str(outcomes[ALL_PAIRS[0]]).startswith("Cell 0, 2021–2022: the network's answer is not a number: ")
    assert [pipeline.store.has_mask(pair, pipeline.recipe) for pair in ALL_PAIRS] == [False, True, True]
    assert scratch(pipeline) == []


TALL = PixelGrid(32633, (500_000, 5_000_000, 500_200, 5_006_000))  # 20 × 600: many rows of windows, three of blocks


def test_a_composite_that_breaks_off_leaves_no_half_mask_while_others_go_on(pipeline):
    for grid_year in YEARS:
        put(pipeline, grid_year, TALL)
    break_rows(pipeline, YEARS[2])
    for pair, outcome in infer_all(pipeline, [ALL_PAIRS]):
        if pair == ALL_PAIRS[1]:  # both pairs of 2022 have been told
            assert isinstance(outcome, StorageError)
            assert len([name for name in scratch(pipeline) if name.startswith(".mask-")]) == 1  # of the third
    assert (pair, outcome.is_skipped) == (ALL_PAIRS[2], False)
    assert scratch(pipeline) == []


@pytest.mark.parametrize("done", [0, 3])
def test_a_network_that_fails_is_told_and_leaves_nothing(tmp_path, pipeline, monkeypatch, done):
    pipeline = made(tmp_path, btc_batch_size=4)
    for grid_year in YEARS:
        put(pipeline, grid_year, TALL)
    engine, batches = pipeline.model.engine, []
    infer_batch = engine.infer

    def fail_at_last(*arguments):
        if len(batches) == done:
            raise RuntimeError("shapes do not match")
        batches.append(scratch(pipeline))
        return infer_batch(*arguments)

    monkeypatch.setattr(engine, "infer", fail_at_last)
    with pytest.raises(RuntimeError, match="shapes do not match") as caught:
        list(infer_all(pipeline, [ALL_PAIRS]))
    assert not done or batches[-1] != []
    assert scratch(pipeline) == []
    assert threads_ahead() == []
    assert caught.value.__traceback__ is not None  # what failed is still held, and what it held


def test_outcomes_come_while_groups_are_still_taken(tmp_path, pipeline):
    pipeline = made(tmp_path, btc_batch_size=2)
    years = [GridYear(0, year) for year in range(2000, 2021)]
    make_images(pipeline, *years)
    taken = []

    def groups():
        for year in range(2000, 2020):
            taken.append(year)
            yield [YearPair(0, year, year + 1)]

    with closing(infer_all(pipeline, groups())) as outcomes:
        first, _ = next(outcomes)
        assert first == YearPair(0, 2000, 2001)
        assert pipeline.store.has_mask(first, pipeline.recipe)
        assert len(taken) < 15
    assert scratch(pipeline) == []
    assert threads_ahead() == []


def test_no_groups_give_nothing(tmp_path):
    assert list(infer_all(made(tmp_path, btc_model_checkpoint="/none"), [])) == []


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


def test_the_inventory_is_of_the_cells_that_are_wanted(pipeline):
    make_images(pipeline)
    make_images(pipeline, GridYear(1, 2022))
    download(pipeline, GridYear(1, 2023))
    inventory = take_inventory(pipeline, Wanted((1,), (2022, 2023)))
    assert inventory == Inventory({2022: {1}, 2023: set()}, {2022: set(), 2023: {1}}, {(2022, 2023): set()})


def test_the_inventory_of_a_fresh_start_leaves_out_what_was_made_before(pipeline):
    wanted = Wanted((0, 1), (2022, 2023))
    make_images(pipeline)
    download(pipeline, GridYear(1, 2022))
    infer(pipeline, PAIR)
    nothing = Inventory({2022: set(), 2023: set()}, {2022: set(), 2023: set()}, {(2022, 2023): set()})
    assert take_inventory(pipeline, wanted, LATER) == nothing
    assert take_inventory(pipeline, wanted, 1.0) == take_inventory(pipeline, wanted)


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


def test_a_pipeline_opens_what_the_settings_name(tmp_path, monkeypatch):
    monkeypatch.setattr("eo_tasks.steps.pipeline.open_source", lambda settings: settings.imagery_source)
    assert Pipeline(load_settings(imagery_source="stac")).source == ("stac",)


def test_a_composite_that_is_not_clear_enough_counts_as_empty_and_says_which_setting(tmp_path, pipeline):
    pipeline = made(tmp_path, min_clear=1)
    with pytest.raises(EmptyCompositeError, match=r"^Cell 0, 2022: \d+\.\d% of the pixels are clear .*MIN_CLEAR=1\."):
        download(pipeline, CELL_YEAR)
    assert files_in(pipeline.settings.data_dir) == []


def test_months_are_added_for_a_cell_that_is_not_clear_enough_and_recorded(tmp_path, pipeline):
    pipeline = made(tmp_path, min_clear=1, extra_months=2)
    download(pipeline, CELL_YEAR)
    assert [request.months for request in pipeline.source.requests] == [(4, 5, 6, 7, 8, 9), tuple(range(2, 12))]
    assert pipeline.staging.record(CELL_YEAR)["months"] == list(range(2, 12))
