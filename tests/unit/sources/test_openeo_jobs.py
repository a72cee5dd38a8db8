"""Batch jobs, step by step; the backend is a function, not a server."""

import pytest

from eo_tasks.errors import (
    AccountError,
    CreditsExhaustedError,
    EmptyCompositeError,
    JobFailedError,
    NoSuchJobError,
    ResultGoneError,
    SourceError,
    SourceUnavailableError,
)
from eo_tasks.sources.openeo.backend import Backend
from eo_tasks.sources.openeo.graph import composite_graph
from eo_tasks.sources.openeo.job import Job, JobStatus
from tests.openeo_backend.stub import REQUEST, URL, asset, geotiff, refusal, settings


@pytest.fixture
def jobs(backend):
    with Backend.from_settings(settings(openeo_mode="batch")).connected() as made:
        yield made


def logged(*messages):
    return 200, {"logs": [{"id": str(n), "level": "error", "message": text} for n, text in enumerate(messages)]}


def test_a_job_is_created_with_the_title_it_is_found_by_and_not_started(backend, jobs):
    assert jobs.create("download_5_2023", REQUEST) == "j-77"
    told = backend.bodies["POST /jobs"]
    assert told["title"] == "download_5_2023"
    assert told["process"]["process_graph"] == composite_graph(REQUEST, "SENTINEL2_L2A")
    assert "POST /jobs/j-77/results" not in backend.asked


def test_a_creation_whose_answer_is_lost_is_not_repeated(backend, jobs):
    backend.answers["POST /jobs"] = refusal(502, "BadGateway")
    with pytest.raises(SourceUnavailableError):
        jobs.create("download_5_2023", REQUEST)
    assert backend.asked.count("POST /jobs") == 1


def test_a_job_that_is_started_already_goes_on(backend, jobs):
    backend.answers["POST /jobs/j-77/results"] = refusal(400, "JobLocked")
    jobs.start("j-77")


def test_a_look_gives_what_the_backend_says(backend, jobs):
    backend.answers["GET /jobs/j-77"] = (
        200,
        {
            "id": "j-77",
            "title": "t",
            "status": "running",
            "created": "2026-11-25T12:00:00Z",
            "costs": 2.5,
            "progress": 40,
        },
    )
    assert jobs.look("j-77") == Job("j-77", "t", JobStatus.RUNNING, 1795608000.0, 2.5, 40.0)


def test_what_the_backend_does_not_say_is_unknown(backend, jobs):
    backend.answers["GET /jobs/j-77"] = (200, {"status": "created", "created": "yesterday", "costs": "?"})
    assert jobs.look("j-77") == Job("j-77", "", JobStatus.CREATED, None, None, None)


def test_a_status_of_the_backends_own_is_taken_as_running(backend, jobs):
    backend.answers["GET /jobs/j-77"] = (200, {"status": "postprocessing"})
    assert jobs.look("j-77").status is JobStatus.RUNNING


def test_an_answer_that_is_no_record_is_asked_for_again(backend, jobs):
    for answer in ((200, ["no", "record"]), (200, b"<html>maintenance</html>")):
        backend.answers["GET /jobs/j-77"] = answer
        with pytest.raises(SourceUnavailableError):
            jobs.look("j-77")


@pytest.mark.parametrize(
    "link",
    [
        f"{URL}/jobs?page=2",
        "http://openeo.example/jobs?page=2",
        "http://openeo.example:80/inner/jobs?page=2",
        "/jobs?page=2",
        "jobs?page=2",
        "?page=2",
    ],
)
def test_every_form_of_the_link_to_the_next_page_is_followed_with_the_token(backend, jobs, link):
    pages = {"limit=100": ("a", link), "page=2": ("b", None)}

    def page():
        asked = backend.requests[-1]
        assert asked.headers["Authorization"] == "Bearer basic//token"
        job, following = pages[asked.url.partition("?")[2]]
        links = [{"rel": "next", "href": following}] if following else [{"rel": "prev", "href": "x"}]
        return 200, {"jobs": [{"id": job, "title": job, "status": "finished"}], "links": links}

    backend.answers["GET /jobs"] = backend.answers["GET /inner/jobs"] = page
    assert [job.id for job in jobs.all()] == ["a", "b"]


def test_a_page_that_follows_itself_ends_the_list(backend, jobs):
    links = [{"rel": "next", "href": f"{URL}/jobs?page=2"}]
    backend.answers["GET /jobs"] = (200, {"jobs": [{"id": "a", "status": "finished"}], "links": links})
    assert [job.id for job in jobs.all()] == ["a"]
    assert backend.asked.count("GET /jobs") == 2


def test_a_failed_job_is_told_with_its_id_and_last_log_line(backend, jobs):
    backend.answers["GET /jobs/j-77/logs"] = logged("first", "out of memory")
    failure = jobs.failure("j-77")
    assert type(failure) is JobFailedError
    assert str(failure).startswith(f"openEO job j-77 at {URL} failed: out of memory. Read its log")


def test_a_failed_job_without_a_log_is_told(jobs):
    failure = jobs.failure("j-77")
    assert type(failure) is JobFailedError
    assert "its log is empty (out of memory?)" in str(failure)


def test_a_failed_job_whose_log_is_refused_is_told(backend, jobs):
    backend.answers["GET /jobs/j-77/logs"] = refusal(404, "LogNotFound")
    failure = jobs.failure("j-77")
    assert type(failure) is JobFailedError
    assert "its log cannot be read" in str(failure)


def test_a_log_that_cannot_be_read_now_is_read_later(backend, jobs):
    backend.answers["GET /jobs/j-77/logs"] = refusal(503, "Maintenance")
    with pytest.raises(SourceUnavailableError):
        jobs.failure("j-77")


def test_a_failed_job_that_found_no_data_is_an_empty_composite(backend, jobs):
    backend.answers["GET /jobs/j-77/logs"] = logged("NoDataAvailable: There is no data available", "job failed")
    assert type(jobs.failure("j-77")) is EmptyCompositeError


def test_a_failed_job_that_found_no_data_in_a_missing_collection_is_the_accounts_fault(backend, jobs):
    backend.answers["GET /jobs/j-77/logs"] = logged("NoDataAvailable: There is no data available")
    backend.answers["GET /collections/SENTINEL2_L2A"] = refusal(404, "CollectionNotFound")
    with pytest.raises(AccountError, match="OPENEO_COLLECTION"):
        jobs.failure("j-77")


def test_a_job_that_ran_out_of_credits_pauses_the_account(backend, jobs):
    backend.answers["GET /jobs/j-77/logs"] = logged("Insufficient credits to run the job")
    assert type(jobs.failure("j-77")) is CreditsExhaustedError


def test_the_file_of_a_job_is_fetched(backend, jobs, tmp_path):
    assert jobs.fetch("j-77", tmp_path / "block.tif") == {"job_id": "j-77"}
    assert (tmp_path / "block.tif").read_bytes() == geotiff()
    assert [path.name for path in tmp_path.iterdir()] == ["block.tif"]


def test_the_token_goes_to_no_other_host(backend, jobs, tmp_path):
    elsewhere = {"href": "https://store.example/files/openEO.tif?signature=hush", "type": "image/tiff"}
    backend.answers["GET /jobs/j-77/results"] = (200, {"assets": {"openEO.tif": elsewhere}})
    jobs.fetch("j-77", tmp_path / "block.tif")
    assert "Authorization" not in backend.requests[-1].headers
    backend.answers["GET /jobs/j-77/results"] = (200, {"assets": {"openEO.tif": asset()}})
    jobs.fetch("j-77", tmp_path / "block.tif")
    assert backend.requests[-1].headers["Authorization"] == "Bearer basic//token"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_link_that_has_expired_is_asked_for_anew(backend, jobs, tmp_path, status):
    backend.answers["GET /files/openEO.tif"] = [refusal(status, "ResultLinkExpired"), (200, geotiff())]
    jobs.fetch("j-77", tmp_path / "block.tif")
    assert backend.asked.count("GET /jobs/j-77/results") == 2


def test_a_file_that_fresh_links_do_not_give_is_gone(backend, jobs, tmp_path):
    backend.answers["GET /files/openEO.tif"] = refusal(410, "ResultLinkExpired")
    with pytest.raises(ResultGoneError, match=r"job j-77 at \S+: its file is gone") as caught:
        jobs.fetch("j-77", tmp_path / "block.tif")
    assert "hush" not in str(caught.value)
    assert backend.asked.count("GET /jobs/j-77/results") == 2


def test_a_finished_job_without_files_is_computed_again(backend, jobs, tmp_path):
    backend.answers["GET /jobs/j-77/results"] = (200, {"assets": {}})
    with pytest.raises(ResultGoneError, match=r"job j-77 at \S+ finished without a file \(0 assets\)"):
        jobs.fetch("j-77", tmp_path / "block.tif")


@pytest.mark.parametrize("answer", [refusal(404, "NotFound"), refusal(410, "Gone"), refusal(400, "JobNotFinished")])
def test_a_job_whose_results_are_gone_is_computed_again(backend, jobs, tmp_path, answer):
    backend.answers["GET /jobs/j-77/results"] = answer
    with pytest.raises(ResultGoneError, match="computed again"):
        jobs.fetch("j-77", tmp_path / "block.tif")


def test_several_files_of_a_job_are_refused(backend, jobs, tmp_path):
    backend.answers["GET /jobs/j-77/results"] = (200, {"assets": {"a.tif": asset("a.tif"), "b.tif": asset("b.tif")}})
    with pytest.raises(SourceError, match=r"made several files \(a.tif, b.tif\)"):
        jobs.fetch("j-77", tmp_path / "block.tif")


def test_files_that_are_no_geotiff_are_left_alone(backend, jobs, tmp_path):
    others = {"job-results.json": {"href": f"{URL}/files/x.json", "type": "application/json"}}
    backend.answers["GET /jobs/j-77/results"] = (200, {"assets": {**others, "openEO.tif": asset()}})
    jobs.fetch("j-77", tmp_path / "block.tif")


def test_a_file_with_a_stac_item_of_its_own_is_found(backend, jobs, tmp_path):
    links = [{"rel": "item", "href": "/items/one"}]
    backend.answers["GET /jobs/j-77/results"] = (200, {"assets": {}, "links": links})
    backend.answers["GET /items/one"] = (200, {"assets": {"data": {"href": "../files/openEO.tif"}}})
    jobs.fetch("j-77", tmp_path / "block.tif")
    assert (tmp_path / "block.tif").exists()


@pytest.mark.parametrize("told", [{"file:size": 3}, {"file:checksum": "1220" + "00" * 32}])
def test_a_file_that_is_not_what_was_announced_is_not_taken(backend, jobs, tmp_path, told, monkeypatch):
    monkeypatch.setattr("eo_tasks.sources.openeo.transfer.PAUSES_S", (0,))
    backend.answers["GET /jobs/j-77/results"] = (200, {"assets": {"openEO.tif": asset(**told)}})
    with pytest.raises(SourceUnavailableError, match="did not come whole"):
        jobs.fetch("j-77", tmp_path / "block.tif")
    assert not (tmp_path / "block.tif").exists()


def test_stopping_and_deleting_never_fail(backend, jobs):
    jobs.stop("j-77")
    jobs.delete("j-77")
    backend.answers["DELETE /jobs/j-77"] = backend.answers["DELETE /jobs/j-77/results"] = refusal(404, "JobNotFound")
    jobs.stop("j-77")
    jobs.delete("j-77")
    assert backend.asked.count("DELETE /jobs/j-77") == 2


def test_the_id_of_a_job_cannot_lead_elsewhere(backend, jobs):
    backend.answers["GET /jobs/..%2Fme%3Fx"] = refusal(404, "JobNotFound")
    with pytest.raises(NoSuchJobError):
        jobs.look("../me?x")
