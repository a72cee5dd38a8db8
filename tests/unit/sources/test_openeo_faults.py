"""What answers mean, in the code and in the documentation."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests

from eo_tasks import errors
from eo_tasks.errors import (
    AccountError,
    CreditsExhaustedError,
    EmptyCompositeError,
    JobFailedError,
    NoSuchJobError,
    ResultGoneError,
    SourceBusyError,
    SourceError,
    SourceUnavailableError,
)
from eo_tasks.sources.openeo.backend import Backend
from eo_tasks.sources.openeo.faults import MEANINGS, meaning, seconds_to_wait
from tests.openeo_backend.stub import REQUEST, refusal, settings

DOCUMENT = Path(__file__).parents[3] / "docs" / "openeo.md"
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def test_the_documentation_has_the_table_of_the_code():
    section = DOCUMENT.read_text(encoding="utf-8").partition("## What its errors mean")[2].partition("\n## ")[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    told = {answer: kind.strip(" `") for answers, kind in rows for answer in re.findall(r"`([^`]+)`", answers)}
    assert told == {answer: kind.__name__ for answer, kind in MEANINGS.items()}
    assert all(hasattr(errors, name) for name in told.values())


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((429,), SourceBusyError),
        ((400, "ConcurrentJobLimit"), SourceBusyError),
        ((503,), SourceUnavailableError),
        ((520,), SourceUnavailableError),
        ((402,), CreditsExhaustedError),
        ((400, "Unknown", "you have insufficient credits"), CreditsExhaustedError),
        ((403, "Quota", "Not enough processing credits left"), CreditsExhaustedError),
        ((400, "Budget", "monthly credits of the account are exhausted"), CreditsExhaustedError),
        ((403, "CollectionNotAllowed"), AccountError),
        ((404, "CollectionNotFound"), AccountError),
        ((404, "JobNotFound"), NoSuchJobError),
        ((404, "", "<html>"), SourceError),
        ((410, "ResultLinkExpired"), ResultGoneError),
        ((400, "JobNotFinished"), ResultGoneError),
        ((500, "Internal", "Server error: NoDataAvailable"), EmptyCompositeError),
        ((400, "ProcessGraphComplexity"), JobFailedError),
        ((400, "ProcessUnsupported"), SourceError),
        ((418,), SourceError),
        ((None,), SourceError),
    ],
)
def test_an_answer_has_one_meaning(answer, kind):
    assert meaning(*answer) is kind


def test_a_503_that_says_when_to_come_back_is_busy():
    assert meaning(503, retry_after="120") is SourceBusyError


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("120", 120),
        (" 0 ", 0),
        ("Wed, 25 Nov 2026 12:01:30 GMT", 90),
        ("Wed, 25 Nov 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(header, wait_s):
    assert seconds_to_wait(header, NOW) == wait_s


SERVER_SAYS = [
    (refusal(401, "AuthenticationRequired"), AccountError, r"login was refused .*Check OPENEO_AUTH_METHOD"),
    (refusal(403, "CollectionNotAllowed"), AccountError, r"login was refused .*Check OPENEO_AUTH_METHOD"),
    (refusal(402, "PaymentRequired"), CreditsExhaustedError, r"credits exhausted .*Top up the account"),
    (refusal(404, "CollectionNotFound"), AccountError, r"Check OPENEO_URL and OPENEO_COLLECTION"),
    (refusal(400, "ProcessUnsupported"), SourceError, r"\[400\] ProcessUnsupported: the server's words"),
    (refusal(429, "TooManyRequests"), SourceBusyError, r"no free place .*asked again later"),
    (refusal(400, "ConcurrentJobLimit"), SourceBusyError, r"no free place .*asked again later"),
    (refusal(502, "BadGateway"), SourceUnavailableError, r"out of order .*tried again"),
    ((503, b"<html>down for maintenance</html>"), SourceUnavailableError, r"out of order .*tried again"),
    (refusal(504, "GatewayTimeout"), SourceUnavailableError, r"out of order .*tried again"),
    (refusal(500, "Internal"), SourceUnavailableError, r"out of order .*tried again"),
    (refusal(408, "RequestTimeout"), SourceUnavailableError, r"out of order .*tried again"),
    (refusal(400, "NoDataAvailable"), EmptyCompositeError, r"no observation .*COMPOSITE_MONTHS"),
    (refusal(404, "JobNotFound"), NoSuchJobError, r"does not know the job"),
    (refusal(410, "ResultLinkExpired"), ResultGoneError, r"computed again"),
    (refusal(400, "JobNotFinished"), ResultGoneError, r"computed again"),
    (requests.ConnectionError("refused sesame"), SourceUnavailableError, r"no answer \(ConnectionError\)"),
    (requests.ReadTimeout("slow"), SourceUnavailableError, r"no answer \(ReadTimeout\)"),
    (requests.exceptions.RetryError("often"), SourceUnavailableError, r"no answer \(RetryError\)"),
    (requests.exceptions.InvalidURL("?"), SourceError, r"Check OPENEO_URL"),
]
STEPS = {
    "POST /result": lambda jobs, folder: jobs.compute(REQUEST, folder / "result.tif"),
    "POST /jobs": lambda jobs, folder: jobs.create("title", REQUEST),
    "POST /jobs/j-77/results": lambda jobs, folder: jobs.start("j-77"),
    "GET /jobs/j-77": lambda jobs, folder: jobs.look("j-77"),
    "GET /jobs": lambda jobs, folder: list(jobs.all()),
    "GET /jobs/j-77/results": lambda jobs, folder: jobs.fetch("j-77", folder / "result.tif"),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(("answer", "kind", "message"), SERVER_SAYS, ids=lambda value: str(value)[:40])
def test_every_refusal_of_every_step_is_told_with_what_to_do_and_no_secret(
    backend, tmp_path, step, answer, kind, message
):
    with Backend.from_settings(settings()).connected() as jobs:
        backend.answers[step] = answer
        with pytest.raises(kind, match=message) as caught:
            STEPS[step](jobs, tmp_path)
    assert type(caught.value) is kind
    assert "openeo.example" in str(caught.value)
    for secret in ("sesame", "hush", "token"):
        assert secret not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", [429, 503])
def test_the_time_that_a_busy_backend_asks_for_comes_with_the_error(backend, status):
    backend.answers["POST /jobs/j-77/results"] = (status, b"later", {"Retry-After": "90"})
    with Backend.from_settings(settings()).connected() as jobs, pytest.raises(SourceBusyError) as caught:
        jobs.start("j-77")
    assert caught.value.retry_after_s == 90


def test_the_time_of_an_earlier_answer_is_forgotten(backend):
    backend.answers["POST /jobs/j-77/results"] = [(429, b"", {"Retry-After": "90"}), requests.ConnectionError()]
    with Backend.from_settings(settings()).connected() as jobs:
        with pytest.raises(SourceBusyError):
            jobs.start("j-77")
        with pytest.raises(SourceUnavailableError) as caught:
            jobs.start("j-77")
    assert type(caught.value) is SourceUnavailableError
