"""The result backend: units are read from the ledger, all other tasks as Celery stores them."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from celery import Celery
from celery.exceptions import TaskRevokedError
from redis import Redis

from eo_tasks.backend import CELERY_STATES, LedgerBackend
from eo_tasks.errors import PermanentError, SourceError
from eo_tasks.grid import GridYear
from eo_tasks.state.entry import State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.order import Order
from eo_tasks.state.orders import Orders
from tests.system import CONTROL, CPU, celery, system, this_process, wait_for

pytestmark = pytest.mark.integration

UNIT = GridYear(463, 2021).download
WHY = "SourceError: Cell 463, 2021: job j-77 failed: credits exhausted"
DEADLINE_S = 120


@pytest.fixture
def ledger(sample_environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """The ledger of this process, which is pointed at the test's Redis."""
    with this_process(sample_environment | {"MAX_DEATHS": "1"}, monkeypatch) as made:
        yield made


@pytest.fixture
def app(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Celery:
    """The app with a backend that was opened for the test's Redis."""
    from eo_tasks.celery import app

    monkeypatch.setattr(app, "_backend_cache", None)
    monkeypatch.delattr(app._local, "backend", raising=False)
    assert isinstance(app.backend, LedgerBackend)
    return app


def enqueued(ledger: Ledger) -> None:
    ledger.make_ready([UNIT], "run")
    assert ledger.take(UNIT.stage, "run", 1) == [UNIT]


def ordered(ledger: Ledger) -> None:
    enqueued(ledger)
    order = Order("a", "openeo", "account", True, UNIT.years[0], (UNIT.grid_id,), "recipe", "run", created_at=1.0)
    assert Orders(ledger.redis, ledger.limits).join(order) is not None


def ended(how: Callable[[Ledger, object], object]) -> Callable[[Ledger], None]:
    def end(ledger: Ledger) -> None:
        enqueued(ledger)
        assert how(ledger, ledger.begin(UNIT, "me", "cpu@host")) is not None

    return end


def quarantined(ledger: Ledger) -> None:
    enqueued(ledger)
    ledger.begin(UNIT, "me", "cpu@host")
    ledger.redis.delete(f"eo-tasks:lease:{UNIT.id}")
    assert ledger.resend([UNIT]) == []


def canceled(ledger: Ledger) -> None:
    enqueued(ledger)
    assert ledger.withdraw([UNIT], is_canceled=True) == 1


COMING_TO: dict[State, Callable[[Ledger], object]] = {
    State.PENDING: lambda ledger: ledger.make_ready([UNIT], "run"),
    State.ENQUEUED: enqueued,
    State.ORDERED: ordered,
    State.STARTED: ended(lambda _, lease: lease),
    State.RETRYING: ended(lambda ledger, lease: ledger.retry(lease, WHY, 60)),
    State.COMPLETED: ended(lambda ledger, lease: ledger.finish(lease, is_skipped=False)),
    State.SKIPPED: ended(lambda ledger, lease: ledger.finish(lease, is_skipped=True)),
    State.EMPTY: ended(lambda ledger, lease: ledger.find_empty(lease, "EmptyCompositeError: no clear observation")),
    State.FAILED: ended(lambda ledger, lease: ledger.fail(lease, WHY)),
    State.QUARANTINED: quarantined,
    State.CANCELED: canceled,
}
SHOWN = {
    State.PENDING: "PENDING",
    State.ENQUEUED: "PENDING",
    State.ORDERED: "PENDING",
    State.STARTED: "STARTED",
    State.RETRYING: "RETRY",
    State.COMPLETED: "SUCCESS",
    State.SKIPPED: "SUCCESS",
    State.EMPTY: "SUCCESS",
    State.FAILED: "FAILURE",
    State.QUARANTINED: "FAILURE",
    State.CANCELED: "REVOKED",
}


@pytest.mark.parametrize("state", State)
def test_state_of_a_unit_is_what_the_ledger_says(app: Celery, ledger: Ledger, state: State) -> None:
    assert COMING_TO.keys() == CELERY_STATES.keys() == set(State)
    COMING_TO[state](ledger)
    assert ledger.entry(UNIT).state is state
    result = app.AsyncResult(UNIT.id)
    assert result.state == SHOWN[state]
    assert result.ready() is (SHOWN[state] in ("SUCCESS", "FAILURE", "REVOKED"))
    assert ledger.redis.keys("celery-task-meta-*") == []


def test_unit_that_nobody_knows_is_pending(app: Celery) -> None:
    result = app.AsyncResult(UNIT.id)
    assert (result.state, result.ready()) == ("PENDING", False)


@pytest.mark.parametrize("state", [State.COMPLETED, State.SKIPPED, State.EMPTY])
def test_result_of_a_unit_that_ended_well_tells_how(app: Celery, ledger: Ledger, state: State) -> None:
    COMING_TO[state](ledger)
    result = app.AsyncResult(UNIT.id)
    assert result.get(timeout=10) == {"unit": UNIT.id, "state": str(state)}
    assert isinstance(result.date_done, datetime)
    assert result.date_done.timestamp() == pytest.approx(ledger.entry(UNIT).since)


def test_result_of_a_failed_unit_is_its_error(app: Celery, ledger: Ledger) -> None:
    COMING_TO[State.FAILED](ledger)
    result = app.AsyncResult(UNIT.id)
    assert isinstance(result.result, SourceError)
    assert str(result.result) == "Cell 463, 2021: job j-77 failed: credits exhausted"
    with pytest.raises(SourceError, match="credits exhausted"):
        result.get(timeout=10)


def test_result_of_a_unit_in_quarantine_is_an_error_too(app: Celery, ledger: Ledger) -> None:
    COMING_TO[State.QUARANTINED](ledger)
    found = app.AsyncResult(UNIT.id).result
    assert isinstance(found, Exception)
    assert str(found) == "ended its worker 1 times, last on cpu@host"


@pytest.mark.parametrize(
    "error", ["ZeroDivisionError: division by zero", "Strange", "builtins.eval: 1", "Unit: x", "", "os: x", "a b: c"]
)
def test_result_of_a_unit_that_failed_in_an_unknown_way_is_some_exception(
    app: Celery, ledger: Ledger, error: str
) -> None:
    enqueued(ledger)
    ledger.fail(ledger.begin(UNIT, "me", "cpu@host"), error)
    result = app.AsyncResult(UNIT.id)
    assert isinstance(result.result, Exception)
    with pytest.raises(type(result.result)):
        result.get(timeout=10)


def test_result_of_a_canceled_unit_says_that_it_was_revoked(app: Celery, ledger: Ledger) -> None:
    canceled(ledger)
    with pytest.raises(TaskRevokedError, match=r"^Cell 463, 2021: canceled\.$"):
        app.AsyncResult(UNIT.id).get(timeout=10)


def test_task_that_is_no_unit_is_stored_and_read_as_ever(app: Celery, redis: Redis) -> None:
    for task_id, result, state in (("a-1", {"run": "ab"}, "SUCCESS"), ("a-2", PermanentError("no cell"), "FAILURE")):
        app.backend.store_result(task_id, result, state)
        found = app.AsyncResult(task_id)
        assert (found.state, str(found.result)) == (state, str(result))
    assert app.AsyncResult("a-3").state == "PENDING"
    assert len(redis.keys("celery-task-meta-*")) == 2


def test_unit_that_a_real_worker_runs_leaves_no_result_and_the_request_does(
    app: Celery, ledger: Ledger, sample_environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    with system(sample_environment, tmp_path / "logs") as running:
        running.start("control", CONTROL)
        running.start("cpu", CPU)
        request = json.dumps({"years": [2021], "grid_ids": [463]})
        done = celery(sample_environment, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)
        task_id = done.stdout.strip()
        store = GridYear(463, 2021).store
        wait_for(redis, lambda: ledger.entry(store).state is State.COMPLETED, DEADLINE_S, running.logs)
        answer = app.AsyncResult(task_id).get(timeout=DEADLINE_S)
    assert (answer["cells"], answer["enqueued"]) == (1, 1)
    assert [app.AsyncResult(unit.id).state for unit in (UNIT, store)] == ["SUCCESS"] * 2
    assert redis.keys("celery-task-meta-*") == [f"celery-task-meta-{task_id}"]
