"""Composites from real openEO server software, on loopback, compared with those made from the same scenes here."""

import time
from pathlib import Path

import numpy as np
import pytest

from eo_tasks.cog import read_composite, write_composite
from eo_tasks.errors import (
    AccountError,
    EmptyCompositeError,
    JobFailedError,
    NoSuchJobError,
    ResultGoneError,
    SourceBusyError,
    SourceError,
)
from eo_tasks.grid import Cell
from eo_tasks.raster import Composite
from eo_tasks.settings import Settings
from eo_tasks.sources import open_source
from eo_tasks.sources.openeo.backend import Backend, disconnect
from eo_tasks.sources.openeo.job import Job, JobStatus
from eo_tasks.sources.openeo.jobs import Jobs
from eo_tasks.sources.openeo.result import read_result
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


@pytest.fixture(autouse=True)
def disconnected():
    yield
    disconnect()


def composite(backend: OpenEOBackend, mode: str, request: CompositeRequest, folder: Path, **changes) -> Composite:
    """By a synchronous request, or by the steps of a batch job."""
    if mode == "synchronous":
        return openeo(backend, mode, **changes).composite(request, folder)
    place = account(backend, **changes)
    with place.connected() as jobs:
        job_id = jobs.create("download_7_2023", request)
        jobs.start(job_id)
        job = ended(jobs, job_id)
        if job.status is JobStatus.ERROR:
            raise jobs.failure(job_id)
        assert job.status is JobStatus.FINISHED
        details = jobs.fetch(job_id, folder / "result.tif")
        made = read_result(folder / "result.tif", request, place.origin(details))
        (folder / "result.tif").unlink()
        return made


def account(backend: OpenEOBackend, **changes) -> Backend:
    return openeo(backend, "batch", **changes).backend


def ended(jobs: Jobs, job_id: str) -> Job:
    deadline = time.monotonic() + 120
    while (job := jobs.look(job_id)).status in (JobStatus.CREATED, JobStatus.QUEUED, JobStatus.RUNNING):
        assert time.monotonic() < deadline, job
        time.sleep(0.2)
    return job


@pytest.mark.parametrize("mode", ["synchronous", "batch"])
def test_the_backend_makes_the_composite_that_we_make_from_the_same_scenes(backend, catalog, tmp_path, mode):
    theirs = composite(backend, mode, request_for(), tmp_path)
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
    with pytest.raises(AccountError, match=r"openEO login at .*Check OPENEO_AUTH_METHOD") as caught:
        composite(backend, mode, request_for(), tmp_path, openeo_password="wrong sesame")
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("mode", ["synchronous", "batch"])
def test_a_year_without_scenes_is_an_empty_composite(backend, tmp_path, mode):
    with pytest.raises(EmptyCompositeError, match=r"no observation.*COMPOSITE_MONTHS"):
        composite(backend, mode, request_for(2019), tmp_path)


def test_a_cell_that_is_never_clear_is_an_empty_composite(backend, tmp_path):
    clouds = Cell(8, EPSG, (500_210, 5_149_670, 500_250, 5_149_690))
    with pytest.raises(EmptyCompositeError, match=r"^Cell 8, 2023: "):
        openeo(backend, "synchronous").composite(request_for(cell=clouds), tmp_path)


def test_an_unknown_collection_names_the_setting(backend, tmp_path):
    with pytest.raises(AccountError, match="OPENEO_COLLECTION"):
        composite(backend, "batch", request_for(), tmp_path, openeo_collection="SENTINEL9")


def test_an_unknown_collection_of_a_stac_api_names_the_setting(backend, tmp_path):
    missing = Settings(_env_file=None, imagery_source="stac", stac_url=backend.stac_url, stac_collection="other")
    with pytest.raises(SourceError, match=rf"no collection 'other'; it has {COLLECTION}. Set STAC_COLLECTION"):
        open_source(missing).composite(request_for(), tmp_path)


def test_a_job_that_fails_there_is_told_with_its_id_and_the_last_line_of_its_log(backend, tmp_path):
    without_band = CompositeRequest.of(CELL, 2023, (*BANDS, "B8A"), (4, 5, 6, 7, 8, 9), (3, 8, 9, 10, 11))
    with pytest.raises(JobFailedError, match=r"^openEO job j-\w+ at http\S+ failed: .*B8A"):
        composite(backend, "batch", without_band, tmp_path)


def test_a_process_that_the_backend_does_not_have_is_refused(backend, tmp_path, monkeypatch):
    graph = {"x": {"process_id": "make_coffee", "arguments": {}, "result": True}}
    monkeypatch.setattr("eo_tasks.sources.openeo.jobs.composite_graph", lambda *_: graph)
    with (
        account(backend).connected() as jobs,
        pytest.raises(SourceError, match=r"openEO request at .*ProcessUnsupported") as caught,
    ):
        jobs.compute(request_for(), tmp_path / "result.tif")
    assert type(caught.value) is SourceError


def test_taken_job_slots_mean_later(backend):
    with account(backend).connected() as jobs:
        busy = [jobs.create(f"other {number}", request_for()) for number in (1, 2)]
        for job_id in busy:
            jobs.start(job_id)
        waiting = jobs.create("download_7_2023", request_for())
        with pytest.raises(SourceBusyError, match=r"start of job .*ConcurrentJobLimit"):
            jobs.start(waiting)
        assert jobs.look(waiting).status is JobStatus.CREATED
        for job_id in busy:
            ended(jobs, job_id)
        jobs.start(waiting)
        jobs.start(waiting)  # a second start is harmless
        assert ended(jobs, waiting).status is JobStatus.FINISHED


def test_all_jobs_are_listed_with_their_titles_and_times(backend):
    with account(backend).connected() as jobs:
        made = {jobs.create(f"listed {number}", request_for()) for number in range(3)}
        found = {job.id: job for job in jobs.all()}
        assert made <= set(found)
        assert {found[job_id].title for job_id in made} == {f"listed {number}" for number in range(3)}
        assert all(abs(time.time() - (found[job_id].created_at or 0)) < 3600 * 24 * 365 * 20 for job_id in made)
        for job_id in made:
            jobs.delete(job_id)
        assert not made & {job.id for job in jobs.all()}


def test_a_job_that_the_backend_does_not_know_is_told(backend, tmp_path):
    with account(backend).connected() as jobs:
        steps = (jobs.look, jobs.start, lambda job_id: jobs.fetch(job_id, tmp_path / "result.tif"))
        for step in steps:
            with pytest.raises(NoSuchJobError, match="j-unknown"):
                step("j-unknown")
        jobs.stop("j-unknown")
        jobs.delete("j-unknown")


def test_a_job_that_has_not_finished_has_no_result(backend, tmp_path):
    with account(backend).connected() as jobs:
        job_id = jobs.create("never started", request_for())
        with pytest.raises(ResultGoneError, match="JobNotFinished"):
            jobs.fetch(job_id, tmp_path / "result.tif")
        jobs.delete(job_id)


def test_a_transfer_goes_on_where_an_earlier_one_ended(backend, tmp_path):
    whole, target = tmp_path / "whole.tif", tmp_path / "result.tif"
    with account(backend).connected() as jobs:
        job_id = jobs.create("fetched twice", request_for())
        jobs.start(job_id)
        ended(jobs, job_id)
        jobs.fetch(job_id, whole)
        heard = []

        def cut_at_first(response, *_, **__):
            if "Content-Range" in response.headers or response.headers.get("Content-Type", "").startswith("image"):
                heard.append((response.status_code, response.request.headers.get("Range")))
                if len(heard) == 1:
                    raw = response.raw
                    rest = [b"", raw.read(1000)]
                    response.raw = type("Cut", (), {"read1": lambda *_, **__: rest.pop(), "close": raw.close})()

        line = jobs._line
        line._connection.session.hooks["response"].append(cut_at_first)
        jobs.fetch(job_id, target)
    assert heard[0] == (200, None)
    assert target.read_bytes() == whole.read_bytes()
    assert heard[1] in ((206, "bytes=1000-"), (200, None)), heard
    assert heard[1][0] == 206


@pytest.mark.parametrize("mode", ["synchronous", "batch"])
def test_workers_bring_a_block_into_the_store_as_stac_would_have_made_its_cells(
    backend, catalog, environment, redis, tmp_path, mode
):
    import json

    import geopandas
    from shapely.geometry import box

    from eo_tasks.state.entry import Limits, State
    from eo_tasks.state.ledger import Ledger
    from eo_tasks.units import Stage
    from tests.system import BEAT, CONTROL, CPU, celery, system, wait_for

    corners = [(500_103.5 + 200 * column, 5_149_421.0 + 180 * row) for row in (0, 1) for column in (0, 1)]
    cells = [Cell(number, EPSG, (x, y, x + 200, y + 180)) for number, (x, y) in enumerate(corners)]
    geopandas.GeoDataFrame(geometry=[box(*cell.bounds) for cell in cells], crs=EPSG).to_file(tmp_path / "grid.gpkg")
    before = len(events(backend, "created"))
    settings = {
        "GRID_FILE": str(tmp_path / "grid.gpkg"),
        "IMAGERY_SOURCE": "openeo",
        "OPENEO_URL": backend.batch_url if mode == "batch" else backend.synchronous_url,
        "OPENEO_MODE": mode,
        "OPENEO_COLLECTION": COLLECTION,
        "OPENEO_AUTH_METHOD": "basic",
        "OPENEO_USERNAME": USER,
        "OPENEO_PASSWORD": PASSWORD,
        "OPENEO_POLL_S": "0.5",
    }
    with system(environment | settings, tmp_path / "logs") as workers:
        for name, arguments in (("control", CONTROL), ("beat", BEAT), ("cpu", CPU)):
            workers.start(name, arguments)
        request = '{"years": [2023]}'
        celery(workers.environment, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)
        ledger = Ledger(redis, Limits())
        wait_for(redis, lambda: ledger.counts(Stage.STORE, "2023").get(State.COMPLETED) == 4, 120, workers.logs)
        assert PASSWORD not in workers.logs()
    assert len(events(backend, "created")) - before == (1 if mode == "batch" else 0)
    for cell in cells:
        image = Path(environment["DATA_DIR"]) / "images" / "2023" / f"sentinel2_grid_{cell.grid_id}_2023_08.tiff"
        record = json.loads(image.with_suffix(".json").read_text())
        assert (record["source"], record["details"]["mode"]) == ("openeo", mode)
        theirs, ours = read_composite(image), stac(str(catalog)).composite(request_for(cell=cell), tmp_path)
        assert theirs.pixels == ours.pixels
        np.testing.assert_array_equal(theirs.clear_count, ours.clear_count)
        assert np.abs(theirs.dn.astype(int) - ours.dn).max() <= 1


def events(backend: OpenEOBackend, event: str) -> list[str]:
    """What the driver wrote down."""
    return [line for line in backend.audit.read_text().splitlines() if f'"event": "{event}"' in line]
