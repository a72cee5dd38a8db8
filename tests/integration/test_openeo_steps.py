"""The steps of batch jobs, against a real HTTP server that fails on demand."""

import hashlib
import time
from pathlib import Path

import pytest
import requests

from eo_tasks.errors import (
    CreditsExhaustedError,
    EmptyCompositeError,
    JobFailedError,
    ResultGoneError,
    SourceBusyError,
    SourceUnavailableError,
)
from eo_tasks.grid import Cell
from eo_tasks.settings import Settings
from eo_tasks.sources.openeo.backend import Backend, disconnect
from eo_tasks.sources.openeo.job import JobStatus
from eo_tasks.sources.openeo.jobs import Jobs
from eo_tasks.sources.openeo.transfer import digest_of, download
from eo_tasks.sources.request import CompositeRequest
from tests.openeo_backend.faulty import (
    ANYTHING,
    FILES,
    JOB,
    JOBS,
    LOGIN,
    PASSWORD,
    RESULT,
    RESULTS,
    USER,
    Fault,
    FaultyBackend,
)

pytestmark = pytest.mark.integration
CELL = Cell(7, 32633, (500_000, 5_140_000, 505_000, 5_145_000))
REQUEST = CompositeRequest.of(CELL, 2023, ("B02", "B03", "B04"), (4, 5, 6, 7, 8, 9), (3, 8, 9, 10, 11))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with FaultyBackend(tmp_path_factory.mktemp("faulty"), job_s=0.05, synchronous_s=0.02) as running:
        yield running


@pytest.fixture
def jobs(server):
    server.set_faults()
    with account(server).connected() as made:
        yield made
    server.set_faults()
    disconnect()


@pytest.fixture
def finished(server, jobs) -> str:
    return run(jobs)


def account(server, **changes) -> Backend:
    values = {
        "openeo_url": server.url,
        "openeo_auth_method": "basic",
        "openeo_username": USER,
        "openeo_password": PASSWORD,
        "openeo_answer_s": 5,
        **changes,
    }
    return Backend.from_settings(Settings(_env_file=None, **values))


def run(jobs: Jobs, until: JobStatus = JobStatus.FINISHED) -> str:
    job_id = jobs.create("block", REQUEST)
    jobs.start(job_id)
    deadline = time.monotonic() + 20
    while jobs.look(job_id).status is not until:
        assert time.monotonic() < deadline, jobs.look(job_id)
        time.sleep(0.02)
    return job_id


def sent(server) -> list[dict]:
    """What was answered to requests of files."""
    return server.audit("downloaded")


def files_beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


# Short steps


@pytest.mark.parametrize(("status", "kind"), [(429, SourceBusyError), (503, SourceBusyError)])
def test_nothing_is_waited_for_that_a_busy_backend_asks_for(server, jobs, finished, status, kind):
    server.set_faults(Fault("GET", JOB, {"status": status, "headers": {"Retry-After": "30"}}))
    start = time.monotonic()
    with pytest.raises(kind) as caught:
        jobs.look(finished)
    assert time.monotonic() - start < 5
    assert caught.value.retry_after_s == 30


@pytest.mark.parametrize("answer", [{"status": 502}, {"status": 504}, "drop"])
def test_a_lost_question_is_repeated_at_once(server, jobs, finished, answer):
    server.set_faults(Fault("GET", JOB, answer, times=2))
    assert jobs.look(finished).status is JobStatus.FINISHED


def test_a_backend_that_stays_lost_is_told_soon(server, jobs, finished):
    server.set_faults(Fault("", ANYTHING, "drop", times=-1))
    start = time.monotonic()
    with pytest.raises(SourceUnavailableError, match="no answer"):
        jobs.look(finished)
    assert time.monotonic() - start < 5


def test_a_silent_backend_is_asked_once(server, finished):
    with account(server, openeo_answer_s=0.3).connected() as jobs:
        server.set_faults(Fault("GET", JOB, "slow:2", times=-1))
        start = time.monotonic()
        with pytest.raises(SourceUnavailableError, match="no answer"):
            jobs.look(finished)
        assert time.monotonic() - start < 1.5


@pytest.mark.parametrize("answer", ["commit_then_502", "commit_then_drop"])
def test_a_creation_whose_answer_is_lost_is_found_by_its_title_and_not_repeated(server, jobs, answer):
    title = f"lost by {answer}"
    server.set_faults(Fault("POST", JOBS, answer))
    with pytest.raises(SourceUnavailableError):
        jobs.create(title, REQUEST)
    assert [job.title for job in jobs.all()].count(title) == 1


def test_all_pages_are_listed(server, jobs):
    server.set(page_size=2)
    made = {jobs.create("one of many", REQUEST) for _ in range(7)}
    assert made <= {job.id for job in jobs.all()}
    server.set(page_size=None)


@pytest.mark.parametrize("code", ["TokenInvalid", "AuthenticationRequired"])
def test_an_expired_token_is_renewed_unseen(server, jobs, finished, code):
    logins = len(server.audit("login"))
    server.set_faults(Fault("GET", JOB, {"status": 403, "code": code}))
    assert jobs.look(finished).status is JobStatus.FINISHED
    assert len(server.audit("login")) == logins + 1


def test_a_busy_login_tells_when_to_come_back(server, jobs):
    disconnect()
    server.set_faults(Fault("GET", LOGIN, {"status": 429, "headers": {"Retry-After": "20"}}))
    with pytest.raises(SourceBusyError, match="openEO login") as caught, account(server).connected():
        pass
    assert caught.value.retry_after_s == 20


# Failures


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("fail_job:worker lost", JobFailedError),
        ("fail_job_silently", JobFailedError),
        ("fail_job:insufficient credits", CreditsExhaustedError),
        ("no_data", EmptyCompositeError),
    ],
)
def test_a_failed_job_is_told_by_its_log(server, jobs, fault, kind):
    server.set_faults(Fault("POST", JOBS, fault))
    assert type(jobs.failure(run(jobs, JobStatus.ERROR))) is kind


def test_exhausted_credits_pause(server, jobs, tmp_path):
    job_id = jobs.create("dear", REQUEST)
    server.set_faults(Fault("POST", "", "out_of_credits", times=-1), Fault("POST", RESULTS, "out_of_credits", times=-1))
    with pytest.raises(CreditsExhaustedError, match="Top up"):
        jobs.start(job_id)
    server.set_faults(Fault("POST", RESULT, "out_of_credits", times=-1))
    with pytest.raises(CreditsExhaustedError, match="Top up"):
        jobs.compute(REQUEST, tmp_path / "result.tif")


def test_a_finished_job_without_assets_is_computed_again(server, jobs, finished, tmp_path):
    server.set_faults(Fault("GET", RESULTS, "no_assets"))
    with pytest.raises(ResultGoneError, match=r"0 assets"):
        jobs.fetch(finished, tmp_path / "result.tif")


# Transfers


@pytest.fixture
def content(jobs, finished, tmp_path) -> bytes:
    jobs.fetch(finished, tmp_path / "whole.tif")
    whole = (tmp_path / "whole.tif").read_bytes()
    (tmp_path / "whole.tif").unlink()
    return whole


def test_a_broken_transfer_goes_on_where_it_ended(server, jobs, finished, content, tmp_path):
    server.set_faults(Fault("GET", FILES, "cut:10000", times=2))
    before = len(sent(server))
    jobs.fetch(finished, tmp_path / "result.tif")
    assert (tmp_path / "result.tif").read_bytes() == content
    assert files_beside(tmp_path / "result.tif") == ["result.tif"]
    assert len(sent(server)) - before <= 3


def test_a_later_call_goes_on_where_the_last_one_ended(server, jobs, finished, content, tmp_path):
    target = tmp_path / "result.tif"
    server.set_faults(Fault("GET", FILES, "cut:5000", times=-1))
    with pytest.raises(
        SourceUnavailableError, match=r"did not come whole in 4 tries \(.*20000 bytes are here\)"
    ) as told:
        jobs.fetch(finished, target)
    assert "signature" not in str(told.value)
    assert files_beside(target) == [".result.tif.part", ".result.tif.tag.part"]
    server.set_faults()
    jobs.fetch(finished, target)
    assert target.read_bytes() == content
    assert files_beside(target) == ["result.tif"]


def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(server, jobs, finished, content, tmp_path):
    target = tmp_path / "result.tif"
    (tmp_path / ".result.tif.part").write_bytes(b"of another file" * 1000)
    (tmp_path / ".result.tif.tag.part").write_text('{"tag": "\\"another\\""}')
    jobs.fetch(finished, target)
    assert target.read_bytes() == content


@pytest.mark.parametrize("left", [b"", b"bytes of nobody knows what", b"x" * 10_000_000])
def test_what_is_left_without_a_tag_is_thrown_away(server, jobs, finished, content, tmp_path, left):
    (tmp_path / ".result.tif.part").write_bytes(left)
    jobs.fetch(finished, tmp_path / "result.tif")
    assert (tmp_path / "result.tif").read_bytes() == content


def test_wrong_bytes_before_the_rest_are_noticed_by_the_checksum(server, jobs, finished, content, tmp_path):
    server.set_faults(Fault("GET", FILES, "cut:5000", times=-1))
    with pytest.raises(SourceUnavailableError):
        jobs.fetch(finished, tmp_path / "result.tif")
    part = tmp_path / ".result.tif.part"
    part.write_bytes(b"\0" * part.stat().st_size)
    server.set_faults()
    jobs.fetch(finished, tmp_path / "result.tif")
    assert (tmp_path / "result.tif").read_bytes() == content


def test_a_part_that_is_whole_is_published_without_another_transfer(server, jobs, finished, content, tmp_path):
    (tmp_path / ".result.tif.part").write_bytes(content)
    (tmp_path / ".result.tif.tag.part").write_text('{"tag": "\\"any\\""}')
    before = len(sent(server))
    jobs.fetch(finished, tmp_path / "result.tif")
    assert (tmp_path / "result.tif").read_bytes() == content
    assert len(sent(server)) == before


def test_a_part_that_another_process_holds_is_left_to_it(server, jobs, finished, content, tmp_path):
    import fcntl

    with (tmp_path / ".result.tif.part").open("wb") as held:
        held.write(b"theirs")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        jobs.fetch(finished, tmp_path / "result.tif")
    assert (tmp_path / "result.tif").read_bytes() == content
    assert (tmp_path / ".result.tif.part").read_bytes() == b"theirs"


@pytest.mark.parametrize("fault", ["empty", "garbage"])
def test_a_file_that_is_no_result_is_not_taken(server, jobs, finished, content, tmp_path, fault):
    server.set_faults(Fault("GET", FILES, fault, times=-1))
    with pytest.raises(SourceUnavailableError, match="did not come whole"):
        jobs.fetch(finished, tmp_path / "result.tif")
    assert not (tmp_path / "result.tif").exists()


def test_a_link_that_expired_is_asked_for_anew(server, jobs, finished, content, tmp_path):
    server.set_faults(Fault("GET", FILES, {"status": 410, "code": "ResultLinkExpired"}))
    before = len(server.audit("linked"))
    jobs.fetch(finished, tmp_path / "result.tif")
    assert len(server.audit("linked")) == before + 2


def test_a_busy_file_server_is_asked_later(server, jobs, finished, tmp_path):
    server.set_faults(Fault("GET", FILES, {"status": 503, "headers": {"Retry-After": "15"}}))
    with pytest.raises(SourceBusyError) as caught:
        jobs.fetch(finished, tmp_path / "result.tif")
    assert caught.value.retry_after_s == 15


@pytest.mark.parametrize("cut", ["cut:1000", "cut:0", "drop"])
def test_a_synchronous_result_that_breaks_is_not_taken(server, jobs, tmp_path, cut):
    server.set_faults(Fault("POST", RESULT, cut))
    with pytest.raises(SourceUnavailableError):
        jobs.compute(REQUEST, tmp_path / "result.tif")
    assert not list(tmp_path.iterdir())
    jobs.compute(REQUEST, tmp_path / "result.tif")
    assert files_beside(tmp_path / "result.tif") == ["result.tif"]


def test_a_plain_session_downloads_too(server, jobs, finished, content, tmp_path):
    url = jobs._asset(finished)["href"]
    checksum = f"1220{hashlib.sha256(content).hexdigest()}"
    with requests.Session() as session:
        size = download(session, url, tmp_path / "x.tif", expected_size=len(content), checksum=checksum)
    assert size == len(content)


@pytest.mark.parametrize(
    ("checksum", "digest"),
    [
        ("1220" + "AB" * 32, ("sha256", "ab" * 32)),
        ("d50110" + "00" * 16, ("md5", "00" * 16)),
        ("1220" + "ab" * 31, None),
        ("ffff00", None),
        ("", None),
        (None, None),
    ],
)
def test_checksums_of_known_kinds_are_checked(checksum, digest):
    assert digest_of(checksum) == digest
