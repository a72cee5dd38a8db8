"""Composites from real openEO server software, on loopback, compared with those made from the same scenes here."""

import time
from pathlib import Path

import numpy as np
import pytest

from eo_tasks.cog import read_composite, write_composite
from eo_tasks.errors import EmptyCompositeError, SourceError, SourceUnavailableError
from eo_tasks.grid import Cell
from eo_tasks.settings import Settings
from eo_tasks.sources import open_source
from eo_tasks.sources.openeo.graph import composite_graph
from eo_tasks.sources.request import CompositeRequest
from tests.openeo_backend.scenes import COLLECTION, EPSG, SyntheticScene, write_catalog
from tests.openeo_backend.servers import PASSWORD, USER, OpenEOBackend, missing_environments, running

REASON = missing_environments()
pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),  # the first run may install the servers
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.filterwarnings("ignore:The 'shapely.ops.transform:DeprecationWarning"),  # odc-geo
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),  # rasterio and odc-geo
]
BANDS = ("B02", "B03", "B04")
SIZE_PX = 60
# Its corners are off the 10 m grid: the snapped cell is 47 × 38 pixels from (500100, 5149800).
CELL = Cell(7, EPSG, (500_103.5, 5_149_421.0, 500_568.2, 5_149_799.9))


def make_scenes() -> list[SyntheticScene]:
    """Five dates of random reflectance and classes; class 0 is where the bands have no data, as in real products."""
    random = np.random.default_rng(20230615)
    scenes = []
    for day in ("2023-04-01", "2023-06-15", "2023-07-20", "2023-08-14", "2023-10-01"):
        classes = random.choice([0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], (SIZE_PX, SIZE_PX)).astype(np.uint8)
        classes[30:34, 20:26] = 9  # never clear
        bands = {band: random.integers(1, 9000, classes.shape).astype(np.uint16) for band in BANDS}
        bands = {band: np.where(classes == 0, np.uint16(0), image) for band, image in bands.items()}
        scenes.append(SyntheticScene(f"S2A_{day}", f"{day}T10:00:00Z", {**bands, "SCL": classes}))
    return scenes


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("openeo"), make_scenes()) as started:
        yield started


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalog(tmp_path_factory.mktemp("stac"), make_scenes())


def request_for(year: int = 2023, cell: Cell = CELL) -> CompositeRequest:
    return CompositeRequest.of(cell, year, BANDS, (4, 5, 6, 7, 8, 9), (3, 8, 9, 10, 11))


def openeo(backend: OpenEOBackend, mode: str, **changes):
    url = backend.batch_url if mode == "batch" else backend.synchronous_url
    settings = {
        "imagery_source": "openeo",
        "openeo_url": url,
        "openeo_collection": COLLECTION,
        "openeo_mode": mode,
        "openeo_auth_method": "basic",
        "openeo_username": USER,
        "openeo_password": PASSWORD,
        "openeo_timeout_s": 240,
    }
    return open_source(Settings(_env_file=None, **{**settings, **changes}))


def stac(url: str):
    return open_source(Settings(_env_file=None, imagery_source="stac", stac_url=url, stac_collection=COLLECTION))


@pytest.mark.parametrize("mode", ["synchronous", "batch"])
def test_the_backend_makes_the_composite_that_we_make_from_the_same_scenes(backend, catalog, tmp_path, mode):
    theirs = openeo(backend, mode).composite(request_for(), tmp_path)
    ours = stac(str(catalog)).composite(request_for(), tmp_path)
    assert theirs.bands == ours.bands == BANDS
    assert theirs.pixels == ours.pixels
    np.testing.assert_array_equal(theirs.clear_count, ours.clear_count)
    assert ours.clear_count.max() == 4  # the scene of 1 October lies after the season
    assert (ours.clear_count == 0).any()
    np.testing.assert_array_equal(theirs.valid, ours.valid)
    # The server cuts the half of a median of two, where we round it.
    assert np.abs(theirs.dn.astype(int) - ours.dn).max() <= 1
    assert theirs.origin.source == "openeo"
    assert theirs.origin.details["mode"] == mode
    assert ("job_id" in theirs.origin.details) == (mode == "batch")
    assert not list(tmp_path.iterdir()), "the downloaded file is temporary"


def test_a_stac_api_gives_the_composite_of_a_static_catalog(backend, catalog, tmp_path):
    from_api = stac(backend.stac_url).composite(request_for(), tmp_path)
    from_files = stac(str(catalog)).composite(request_for(), tmp_path)
    np.testing.assert_array_equal(from_api.dn, from_files.dn)
    np.testing.assert_array_equal(from_api.clear_count, from_files.clear_count)
    assert from_api.origin.scenes == from_files.origin.scenes
    assert from_api.origin.dates == ("2023-04-01", "2023-06-15", "2023-07-20", "2023-08-14")


def test_a_composite_of_the_backend_is_stored_as_a_cog(backend, tmp_path):
    from rio_cogeo.cogeo import cog_validate

    made = openeo(backend, "synchronous").composite(request_for(), tmp_path)
    write_composite(tmp_path / "composite.tiff", made)
    assert cog_validate(tmp_path / "composite.tiff", strict=True, quiet=True) == (True, [], [])
    np.testing.assert_array_equal(read_composite(tmp_path / "composite.tiff").dn, made.dn)


@pytest.mark.parametrize("mode", ["synchronous", "batch"])
def test_a_wrong_password_is_refused_with_what_to_check_and_never_shown(backend, tmp_path, mode):
    source = openeo(backend, mode, openeo_password="wrong sesame")
    with pytest.raises(SourceError, match=r"^Cell 7, 2023: openEO login at .*Check OPENEO_AUTH_METHOD") as caught:
        source.composite(request_for(), tmp_path)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("mode", ["synchronous", "batch"])
def test_a_year_without_scenes_is_an_empty_composite(backend, tmp_path, mode):
    with pytest.raises(EmptyCompositeError, match=r"^Cell 7, 2019: .*no observation.*COMPOSITE_MONTHS"):
        openeo(backend, mode).composite(request_for(2019), tmp_path)


def test_a_cell_that_is_never_clear_is_an_empty_composite(backend, tmp_path):
    clouds = Cell(8, EPSG, (500_210, 5_149_670, 500_250, 5_149_690))
    with pytest.raises(EmptyCompositeError, match=r"^Cell 8, 2023: "):
        openeo(backend, "synchronous").composite(request_for(cell=clouds), tmp_path)


def test_an_unknown_collection_names_the_setting(backend, tmp_path):
    with pytest.raises(SourceError, match=r"^Cell 7, 2023: .*OPENEO_COLLECTION"):
        openeo(backend, "batch", openeo_collection="SENTINEL9").composite(request_for(), tmp_path)
    missing = Settings(_env_file=None, imagery_source="stac", stac_url=backend.stac_url, stac_collection="other")
    with pytest.raises(SourceError, match=rf"no collection 'other'; it has {COLLECTION}. Set STAC_COLLECTION"):
        open_source(missing).composite(request_for(), tmp_path)


def test_a_job_that_fails_there_is_told_with_its_id_and_the_last_line_of_its_log(backend, tmp_path):
    without_band = CompositeRequest.of(CELL, 2023, (*BANDS, "B8A"), (4, 5, 6, 7, 8, 9), (3, 8, 9, 10, 11))
    with pytest.raises(SourceError, match=r"^Cell 7, 2023: openEO job j-\w+ at http\S+ failed: .*B8A"):
        openeo(backend, "batch").composite(without_band, tmp_path)


def test_taken_job_slots_mean_later(backend, tmp_path):
    source = openeo(backend, "batch")
    with source.login.connection() as connection:
        graph = composite_graph(request_for(), COLLECTION)
        jobs = [connection.create_job(graph, title=f"other {number}", validate=False).start() for number in (1, 2)]
        with pytest.raises(SourceUnavailableError, match=r"^Cell 7, 2023: .*start of job .*ConcurrentJobLimit"):
            source.composite(request_for(), tmp_path)
        never_started = [job["title"] for job in connection.list_jobs() if job["status"] == "created"]
        assert "download_7_2023" not in never_started, "a job that could not start is deleted"
        deadline = time.monotonic() + 120
        while any(job.status() in ("queued", "running") for job in jobs):
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_a_worker_brings_a_batch_jobs_composite_into_the_store(backend, environment, redis, tmp_path):
    import json

    import geopandas
    from shapely.geometry import box

    from eo_tasks.state.entry import Limits, State
    from eo_tasks.state.ledger import Ledger
    from eo_tasks.units import Stage
    from tests.system import CONTROL, CPU, celery, system, wait_for

    geopandas.GeoDataFrame({"name": ["one"]}, geometry=[box(*CELL.bounds)], crs=EPSG).to_file(tmp_path / "grid.gpkg")
    settings = {
        "GRID_FILE": str(tmp_path / "grid.gpkg"),
        "OPENEO_URL": backend.batch_url,
        "OPENEO_COLLECTION": COLLECTION,
        "OPENEO_AUTH_METHOD": "basic",
        "OPENEO_USERNAME": USER,
        "OPENEO_PASSWORD": PASSWORD,
    }
    with system(environment | settings, tmp_path / "logs") as workers:
        workers.start("control", CONTROL)
        workers.start("cpu", CPU)
        celery(
            workers.environment, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", '{"years": [2023]}'
        )
        ledger = Ledger(redis, Limits())
        wait_for(redis, lambda: ledger.counts(Stage.STORE, "2023").get(State.COMPLETED) == 1, 120, workers.logs)
        assert PASSWORD not in workers.logs()
    image = Path(environment["DATA_DIR"]) / "images" / "2023" / "sentinel2_grid_0_2023_08.tiff"
    record = json.loads(image.with_suffix(".json").read_text())
    assert (record["source"], record["details"]["mode"]) == ("openeo", "batch")
    assert record["details"]["job_id"]
    assert read_composite(image).valid.any()
