"""The connection to a backend: kept, renewed, never shared."""

import os
import threading

import pytest
import requests
from urllib3.exceptions import MaxRetryError, ProtocolError, ReadTimeoutError

from eo_tasks.errors import AccountError, SourceBusyError, SourceUnavailableError
from eo_tasks.settings import ImagerySource
from eo_tasks.sources.openeo import connection
from eo_tasks.sources.openeo.backend import Backend
from eo_tasks.sources.openeo.connection import Line, QuickAdapter
from eo_tasks.sources.openeo.job import JobStatus
from tests.openeo_backend.stub import refusal, settings

LOGIN = "GET /credentials/basic"
CLIENT = {
    "openeo_auth_method": "client_credentials",
    "openeo_auth_client_id": "robot",
    "openeo_auth_client_secret": "sesame",
}


def look(made: Backend) -> JobStatus:
    with made.connected() as jobs:
        return jobs.look("j-77").status


def test_one_login_serves_many_steps(backend):
    for _ in range(3):
        assert look(Backend.from_settings(settings())) is JobStatus.FINISHED
    assert backend.asked.count(LOGIN) == 1


def test_each_account_has_a_connection_of_its_own(backend):
    look(Backend.from_settings(settings()))
    look(Backend.from_settings(settings(openeo_username="eva")))
    assert backend.asked.count(LOGIN) == 2


def test_each_thread_has_a_connection_of_its_own(backend):
    made = Backend.from_settings(settings())
    look(made)
    thread = threading.Thread(target=look, args=(made,))
    thread.start()
    thread.join()
    assert backend.asked.count(LOGIN) == 2


def test_a_forked_process_does_not_use_its_parents_connection(backend, monkeypatch):
    made = Backend.from_settings(settings())
    look(made)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    look(made)
    assert backend.asked.count(LOGIN) == 2


def test_an_old_connection_is_replaced(backend):
    login = Backend.from_settings(settings()).login
    now = iter([0, 1799, 1801, 1801])
    line = Line(login, 60, clock=lambda: next(now))
    for _ in range(3):
        line.open()
    assert backend.asked.count(LOGIN) == 2
    line.close()


def test_a_lost_connection_is_replaced(backend):
    made = Backend.from_settings(settings())
    look(made)
    backend.answers["GET /jobs/j-77"] = [requests.ConnectionError(), (200, {"status": "running"})]
    with pytest.raises(SourceUnavailableError):
        look(made)
    assert look(made) is JobStatus.RUNNING
    assert backend.asked.count(LOGIN) == 2


def test_a_busy_backend_is_not_logged_in_to_again(backend):
    made = Backend.from_settings(settings())
    backend.answers["GET /jobs/j-77"] = [refusal(429, "TooManyRequests"), (200, {"status": "running"})]
    with pytest.raises(SourceBusyError):
        look(made)
    look(made)
    assert backend.asked.count(LOGIN) == 1


@pytest.mark.parametrize("expired", [refusal(403, "TokenInvalid"), refusal(401, "AuthenticationRequired"), (401, b"")])
@pytest.mark.parametrize("login", [{}, CLIENT], ids=["basic", "client"])
def test_an_expired_token_is_renewed_unseen(backend, expired, login):
    made = Backend.from_settings(settings(**login))
    look(made)
    backend.answers["GET /jobs/j-77"] = [expired, (200, {"status": "running"})]
    assert look(made) is JobStatus.RUNNING
    assert backend.asked.count("POST /oidc/token" if login else LOGIN) == 2


def test_a_job_whose_creation_met_an_expired_token_is_created_once(backend):
    made = Backend.from_settings(settings())
    look(made)
    backend.answers["POST /jobs/j-77/results"] = [refusal(403, "TokenInvalid"), (202, b"")]
    with made.connected() as jobs:
        jobs.start("j-77")
    assert backend.asked.count("POST /jobs/j-77/results") == 2


@pytest.mark.parametrize("answer", [refusal(403, "TokenInvalid"), refusal(403, "PermissionsInsufficient")])
def test_a_login_that_does_not_help_is_told(backend, answer):
    made = Backend.from_settings(settings())
    look(made)
    backend.answers["GET /jobs/j-77"] = answer
    with pytest.raises(AccountError):
        look(made)
    assert backend.asked.count(LOGIN) <= 2


def test_a_login_that_never_worked_is_not_tried_twice(backend):
    backend.answers["GET /jobs/j-77"] = refusal(401, "AuthenticationRequired")
    with pytest.raises(AccountError):
        look(Backend.from_settings(settings()))
    assert backend.asked.count(LOGIN) == 1


def test_every_question_has_a_time_limit(backend):
    look(Backend.from_settings(settings(openeo_answer_s=7)))
    assert backend.timeouts["GET /jobs/j-77"] == (10, 7)
    assert all(backend.timeouts.values())


def test_lost_questions_are_repeated_at_once_and_nothing_is_waited_for():
    repeats = QuickAdapter(60).max_retries
    assert [status for status in (408, 429, 500, 502, 503, 504) if repeats.is_retry("GET", status, True)] == [502, 504]
    assert not repeats.is_retry("POST", 502, has_retry_after=True)
    once = repeats.increment("GET", "/", error=ProtocolError("reset"))
    twice = once.increment("GET", "/", error=ProtocolError("reset"))
    assert max(once.get_backoff_time(), twice.get_backoff_time()) <= 0.5
    with pytest.raises(MaxRetryError):
        twice.increment("GET", "/", error=ProtocolError("reset"))
    with pytest.raises(ReadTimeoutError):
        repeats.increment("GET", "/", error=ReadTimeoutError(None, "/", "slow"))
    with pytest.raises(ProtocolError):
        repeats.increment("POST", "/", error=ProtocolError("reset"))


def test_an_account_is_the_same_for_the_same_backend_and_user_only():
    made = [
        Backend.from_settings(settings(**changes)).account
        for changes in (
            {},
            {"openeo_password": "other", "openeo_url": "https://openeo.example/"},
            {"openeo_username": "eva"},
            {"openeo_url": "https://other.example"},
            CLIENT,
        )
    ]
    assert made[0] == made[1]
    assert len(set(made)) == 4
    assert made[0] == "41845dcbe0f4", "keys in Redis depend on it"


def test_the_second_backend_has_settings_and_messages_of_its_own(backend):
    second = settings(
        imagery_source="openeo,openeo2",
        openeo2_url="https://second.example",
        openeo2_collection="S2",
        openeo2_mode="batch",
        openeo2_auth_method="basic",
        openeo2_username="eva",
        openeo2_password="hush",
    )
    made = Backend.from_settings(second, ImagerySource.OPENEO2)
    assert (made.collection, made.mode, made.origin({}).source) == ("S2", "batch", "openeo2")
    backend.answers["GET /jobs/j-77"] = refusal(403, "PermissionsInsufficient")
    with pytest.raises(AccountError, match=r"at https://second.example: .*OPENEO2_AUTH_METHOD"):
        look(made)


def test_a_backend_never_shows_its_secrets():
    assert "sesame" not in repr(Backend.from_settings(settings()))
    assert connection.LONGEST_S == 1800
