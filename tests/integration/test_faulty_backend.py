"""The faulty openEO backend of the tests, as openEO's own client and plain HTTP see it."""

import time
from pathlib import Path

import numpy as np
import openeo
import pytest
import rasterio
import requests
from openeo.rest import OpenEoApiError, OpenEoApiPlainError

from tests.openeo_backend.faulty import (
    FILE_NAME,
    FILES,
    JOBS,
    PASSWORD,
    RESULT,
    RESULTS,
    USER,
    Fault,
    FaultyBackend,
    paint,
)

pytestmark = pytest.mark.integration
BANDS = ["B02", "B03", "B04"]
BOUNDS = (500_000, 5_149_000, 500_400, 5_149_300)


@pytest.fixture
def backend(tmp_path: Path):
    with FaultyBackend(tmp_path / "backend") as running:
        yield running


@pytest.fixture
def connection(backend):
    with requests.Session() as session:
        yield openeo.connect(backend.url, session=session).authenticate_basic(USER, PASSWORD)


def graph(bounds=BOUNDS, year=2023):
    extent = dict(zip(("west", "south", "east", "north"), bounds, strict=True), crs="EPSG:32633")
    load = {
        "id": "SENTINEL2_L2A",
        "spatial_extent": extent,
        "temporal_extent": [f"{year}-04-01", f"{year}-10-01"],
        "bands": BANDS,
    }
    return {
        "load": {"process_id": "load_collection", "arguments": load},
        "save": {
            "process_id": "save_result",
            "arguments": {"data": {"from_node": "load"}, "format": "GTiff"},
            "result": True,
        },
    }


def create(connection, title="download_7_2023", **asked):
    return connection.create_job(graph(**asked), title=title)


def ended(job) -> str:
    deadline = time.monotonic() + 20
    while job.status() in ("queued", "running"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return job.status()


def finished(connection, **asked):
    job = create(connection, **asked).start()
    assert ended(job) == "finished", job.logs()
    return job


def link(job) -> str:
    return job.get_results().get_asset(FILE_NAME).href


def token(connection) -> dict[str, str]:
    return {"Authorization": f"Bearer {connection.auth.bearer}"}


def test_a_job_goes_from_creation_to_a_readable_file_with_what_was_asked_for(backend, connection, tmp_path):
    backend.set(budget=100)
    job = create(connection)
    assert job.status() == "created"
    assert ended(job.start()) == "finished"
    job.get_results().download_file(tmp_path / "result.tif")
    with rasterio.open(tmp_path / "result.tif") as file:
        assert (tuple(file.bounds), file.crs.to_epsg(), file.res, file.nodata) == (BOUNDS, 32633, (10, 10), 0)
        assert file.descriptions == (*BANDS, "clear_count")
        np.testing.assert_array_equal(file.read(), paint(BOUNDS, 2023, BANDS))
    described = job.describe()
    assert described["costs"] == pytest.approx(2 + 0.25 * 40 * 30 / 250_000, abs=1e-4)
    assert connection.describe_account()["budget"] == pytest.approx(100 - described["costs"])
    assert connection.collection_metadata("SENTINEL2_L2A").band_names == ["B02", "B03", "B04", "B08", "SCL"]


def test_overlapping_areas_agree_pixel_for_pixel(connection, tmp_path):
    # Off the 10 m grid: the area grows to it.
    for name, bounds in (("one", BOUNDS), ("other", (500_103.5, 5_149_101, 500_798, 5_149_399))):
        connection.download(graph(bounds=bounds), tmp_path / f"{name}.tif")
    with rasterio.open(tmp_path / "one.tif") as one, rasterio.open(tmp_path / "other.tif") as other:
        assert tuple(other.bounds) == (500_100, 5_149_100, 500_800, 5_149_400)
        np.testing.assert_array_equal(one.read()[:, :20, 10:], other.read()[:, 10:, :30])
    np.testing.assert_array_equal(paint(BOUNDS, 2024, BANDS)[0] - paint(BOUNDS, 2023, BANDS)[0] & 1, 1)


def test_all_pages_of_the_list_hold_each_job_once_even_if_jobs_come_in_between(backend, connection):
    backend.set(page_size=3)
    made = [create(connection, title=f"job {number}").job_id for number in range(8)]
    url, listed = f"{backend.url}/jobs?limit=100", []
    while url:
        page = requests.get(url, headers=token(connection), timeout=10).json()
        assert len(page["jobs"]) <= 3
        listed += [job["id"] for job in page["jobs"]]
        url = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
        create(connection, title="came in between")
    assert listed == made[::-1]


@pytest.mark.parametrize("answer", ["commit_then_502", "commit_then_drop"])
def test_a_job_is_created_although_its_answer_was_lost(backend, connection, answer):
    backend.set_faults(Fault("POST", JOBS, answer))
    with pytest.raises((OpenEoApiPlainError, requests.ConnectionError)):
        create(connection)
    assert [job["title"] for job in connection.list_jobs()] == ["download_7_2023"]
    create(connection)
    assert [len(ids) for ids in backend.created_by_title().values()] == [2]


def test_starts_beyond_the_limits_are_refused_and_say_when_to_come_again(backend, connection):
    backend.set(job_s=30, max_active=1)
    running, waiting = create(connection).start(), create(connection)
    with pytest.raises(OpenEoApiError, match="ConcurrentJobLimit") as caught:
        waiting.start()
    assert caught.value.http_status_code == 400
    running.stop()
    assert running.status() == "canceled"
    backend.set(starts_per_minute=1, job_s=0.1)
    waiting.start()
    url = f"{backend.url}/jobs/{running.job_id}/results"
    refused = requests.post(url, headers=token(connection), timeout=10)
    assert (refused.status_code, refused.json()["code"]) == (429, "TooManyRequests")
    assert 55 <= int(refused.headers["Retry-After"]) <= 60
    backend.set(starts_per_minute=None, budget=1)
    assert ended(waiting) == "finished"
    with pytest.raises(OpenEoApiError, match=r"\[402\] PaymentRequired"):
        running.start()


def test_a_file_comes_in_ranges_that_its_tag_holds_together(backend, connection):
    job = finished(connection)
    asset = job.get_results().get_asset(FILE_NAME)
    whole = requests.get(asset.href, timeout=10)
    size, tag = len(whole.content), whole.headers["ETag"]
    assert asset.metadata["file:size"] == size
    assert asset.metadata["file:checksum"].startswith("1220")

    def part(asked, **headers):
        return requests.get(asset.href, headers={"Range": f"bytes={asked}", **headers}, timeout=10)

    pieces = [part("0-99"), part("100-", **{"If-Range": tag})]
    assert [piece.status_code for piece in pieces] == [206, 206]
    assert pieces[1].headers["Content-Range"] == f"bytes 100-{size - 1}/{size}"
    assert b"".join(piece.content for piece in pieces) == whole.content
    assert part("-10").content == whole.content[-10:]
    assert part("100-", **{"If-Range": '"other"'}).content == whole.content
    assert part(f"{size}-").status_code == 416
    assert requests.get(asset.href, headers={"If-None-Match": tag}, timeout=10).status_code == 304


def test_an_expired_link_is_gone_and_asking_again_gives_one_that_holds(backend, connection):
    backend.set(link_s=-1)
    job = finished(connection)
    expired = requests.get(link(job), timeout=10)
    assert (expired.status_code, expired.json()["code"]) == (410, "ResultLinkExpired")
    backend.set(link_s=60)
    assert requests.get(link(job), timeout=10).ok
    assert requests.get(f"{backend.url}/files/{job.job_id}/{FILE_NAME}", timeout=10).status_code == 403


def test_transfers_break_and_results_are_missing_as_told(backend, connection):
    job = finished(connection)
    backend.set_faults(
        Fault("GET", FILES, "cut:100"),
        Fault("GET", FILES, "empty"),
        Fault("GET", FILES, "garbage"),
        Fault("GET", RESULTS, "no_assets"),
    )
    assert job.get_results().get_assets() == []
    href = link(job)
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(href, timeout=10)
    assert requests.get(href, timeout=10).content == b""
    assert requests.get(href, timeout=10).text.startswith("<html>")
    assert requests.get(href, timeout=10).content[:2] == b"II"


@pytest.mark.parametrize(
    ("answer", "log"),
    [
        ("fail_job:the disk is full", ["the disk is full"]),
        ("fail_job_silently", []),
        ("fail_if_larger_than:1199", ["out of memory: 1200 pixels"]),
        ("no_data", ["NoDataAvailable: There is no data available for the given extents."]),
    ],
)
def test_jobs_fail_as_told_and_those_with_another_title_do_not(backend, connection, answer, log):
    backend.set_faults(Fault("POST", RESULTS, answer, times=-1, title="_7_"))
    job = create(connection).start()
    assert ended(job) == "error"
    assert [line["message"] for line in job.logs(level="error")] == log
    finished(connection, title="download_8_2023")


def test_results_have_another_grid_or_other_bands_as_told(backend, connection, tmp_path):
    backend.set_faults(Fault("POST", RESULT, "shift"), Fault("POST", RESULT, "wrong_bands", after=1))
    shapes = []
    for number in range(3):
        connection.download(graph(), tmp_path / f"{number}.tif")
        with rasterio.open(tmp_path / f"{number}.tif") as file:
            shapes.append((file.bounds.left, file.count))
    assert shapes == [(500_005, 4), (500_000, 3), (500_000, 4)]


def test_faults_come_after_as_often_and_as_seldom_as_told(backend, connection):
    backend.set_faults(
        Fault("POST", JOBS, {"status": 503, "code": "Busy", "headers": {"Retry-After": 7}}, times=2, after=1, every=2)
    )
    url, told = f"{backend.url}/jobs", {"process": {"process_graph": graph()}}
    answers = [requests.post(url, json=told, headers=token(connection), timeout=10) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [201, 503, 201, 503, 201, 201]
    assert answers[1].headers["Retry-After"] == "7"
    with pytest.raises(ValueError, match="is no fault"):
        Fault("POST", JOBS, "explode")


def test_the_audit_counts_what_happened(backend, connection, tmp_path):
    backend.set(max_active=10)
    jobs = [create(connection, title=f"job {number}").start() for number in range(5)]
    for job in jobs:
        assert ended(job) == "finished"
        job.get_results().download_file(tmp_path / "result.tif")
    jobs[0].delete()
    connection.list_jobs()
    connection.download(graph(), tmp_path / "result.tif")
    counts = {event: len(backend.audit(event)) for event in ("created", "started", "finished", "downloaded", "deleted")}
    assert counts == {"created": 5, "started": 5, "finished": 5, "downloaded": 5, "deleted": 1}
    assert len(backend.audit("listed")) == len(backend.audit("synchronous")) == 1
    first = backend.audit("created")[0]
    assert (first["title"], first["bounds"], first["year"]) == ("job 0", list(BOUNDS), 2023)
    assert backend.created_by_title() == {f"job {number}": [job.job_id] for number, job in enumerate(jobs)}
    assert [job["status"] for job in backend.jobs()] == ["finished"] * 4
