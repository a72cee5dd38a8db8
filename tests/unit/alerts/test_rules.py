"""What is worth an alert."""

from dataclasses import replace

import pytest

from eo_tasks.alerts.rules import find_alerts
from eo_tasks.alerts.situation import Limits, Situation
from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges
from eo_tasks.state.accounts import Standing
from eo_tasks.state.entry import State
from eo_tasks.state.history import Sample
from eo_tasks.state.order import Order, OrderState
from eo_tasks.state.runs import Run, RunState
from eo_tasks.state.workers import SILENT_S, WorkerReport
from eo_tasks.units import Stage

NOW = 1_700_000_000.0
LIMITS = Limits(stall_s=1800, failure_share=0.2, free_gb=5, credits=20, max_credits=None)
RUN = Run(Wanted(Ranges.of([463, 464]), (2021, 2022)), created_at=NOW - 7200)
WORKER = WorkerReport(
    name="cpu@a", host="a", pid=1, queues=("stores", "downloads"), processes=2, units=(), started_at=NOW - 9000,
    at=NOW - 3, cpu=0.5, cores=2, memory_gb=1, memory_total_gb=4, worker_memory_gb=0.5, disk_free_gb=50,
    disk_total_gb=100,
)  # fmt: skip
ORDER = Order(
    id="o1", source="openeo", account="acc", is_batch=True, year=2021, cells=(463, 464), recipe="r", run=RUN.id,
    created_at=NOW - 5400, state=OrderState.STARTED,
)  # fmt: skip


def situation(**given) -> Situation:
    calm = {
        "now": NOW, "runs": [], "counts": {}, "moved_at": {}, "orders": {}, "spent": {}, "samples": [],
        "workers": [], "queues": {}, "accounts": {},
    }  # fmt: skip
    return Situation(**calm | given)


def found(limits: Limits = LIMITS, **given) -> dict[tuple[str, str], str]:
    return {(alert.rule, alert.target): alert.message for alert in find_alerts(situation(**given), limits)}


def test_nothing_is_wrong_where_nothing_is():
    assert found() == {}


# Stalled


def running(counts: dict[State, int], moved_s_ago: float, **more) -> dict[tuple[str, str], str]:
    run = more.pop("run", RUN)
    return found(runs=[run], counts={run.id: counts}, moved_at={run.id: NOW - moved_s_ago}, **more)


def test_run_in_which_nothing_ends_is_stalled_and_its_message_tells_what_is_in_flight():
    ((key, told),) = running({State.STARTED: 2, State.ENQUEUED: 7, State.COMPLETED: 5}, 2700).items()
    assert key == ("stalled", RUN.id)
    assert f"Run {RUN.id}: no unit ended for 45 min" in told
    assert "2 started, 7 enqueued" in told
    assert "completed" not in told


def test_run_that_only_waits_for_its_orders_is_told_to():
    (told,) = running({State.ORDERED: 2}, 2700, orders={RUN.id: [ORDER, replace(ORDER, id="o2")]}).values()
    assert "it only waits for its orders at openEO (2 started; the oldest of 2023-11-14 20:43 UTC)" in told


def test_run_with_orders_and_other_units_in_flight_does_not_only_wait_for_orders():
    (told,) = running({State.ORDERED: 2, State.ENQUEUED: 1}, 2700, orders={RUN.id: [ORDER]}).values()
    assert "2 ordered, 1 enqueued" in told


def test_run_with_nothing_in_flight_says_so():
    (told,) = running({State.COMPLETED: 2}, 2700).values()
    assert "none is in flight" in told


@pytest.mark.parametrize(
    ("run", "moved_s_ago"),
    [
        (RUN, 1799),
        (replace(RUN, since=NOW - 60), 2700),  # resumed a minute ago
        (replace(RUN, created_at=NOW - 60), 2700),
        (replace(RUN, state=RunState.PAUSED), 2700),
    ],
    ids=["something ended", "resumed", "new", "paused"],
)
def test_run_is_not_stalled(run: Run, moved_s_ago: float):
    assert running({State.STARTED: 1}, moved_s_ago, run=run) == {}


# Failures


def samples(*numbers: tuple[int, int]) -> list[Sample]:
    return [Sample(NOW - 100 + at, {Stage.BTC: done}, {Stage.BTC: failed}) for at, (done, failed) in enumerate(numbers)]


def test_share_of_failed_units_over_the_limit_is_told_for_its_stage():
    assert found(samples=samples((100, 50), (106, 52), (107, 53))) == {
        (
            "failures",
            "btc",
        ): "btc: 3 of the 10 units that ended in the last hour failed (30%, ALERT_FAILURE_SHARE=0.2). "
        "Look at: eo-tasks errors"
    }


def test_units_that_are_retried_and_fail_again_count_again():
    assert ("failures", "btc") in found(samples=samples((100, 5), (100, 0), (106, 5)))


@pytest.mark.parametrize(
    "ended", [[(0, 0), (8, 2)], [(0, 0), (3, 6)], [(5, 50)], []], ids=["at the limit", "too few", "one sample", "none"]
)
def test_share_says_nothing(ended: list[tuple[int, int]]):
    assert found(samples=samples(*ended)) == {}


# Workers

LOST = replace(WORKER, at=NOW - SILENT_S)


def test_worker_that_went_silent_is_told_with_the_command_that_starts_it():
    told = found(workers=[LOST, replace(WORKER, name="control@a", queues=("control",))])
    assert told.keys() == {("worker", "cpu@a")}
    assert "Worker cpu@a: silent since 2023-11-14 22:13 UTC" in told["worker", "cpu@a"]
    assert "celery -A workers.cpu worker" in told["worker", "cpu@a"]


def test_worker_that_was_replaced_under_another_name_is_not_told():
    heir = replace(WORKER, name="cpu@b", started_at=NOW - 5, queues=("downloads", "stores"))
    assert found(workers=[LOST, heir]) == {}


def test_one_heir_replaces_one_worker():
    lost = [replace(LOST, name=f"cpu@{name}") for name in "abc"]
    heirs = [replace(WORKER, name="cpu@d", started_at=NOW - 5)]
    assert len(found(workers=[*lost, *heirs])) == 2


def test_worker_that_was_there_all_along_replaces_nobody():
    assert found(workers=[LOST, replace(WORKER, name="cpu@b")]).keys() == {("worker", "cpu@a")}


def test_queue_with_messages_that_no_living_worker_takes_is_told_after_a_while():
    seen = situation(workers=[WORKER, replace(LOST, queues=("btc",))], queues={"downloads": 3, "btc": 2, "control": 0})
    (alert,) = (alert for alert in find_alerts(seen, LIMITS) if alert.rule == "queue")
    assert (alert.target, alert.after_s) == ("btc", 60)
    assert alert.message == (
        "Queue btc: 2 messages and no living worker that takes them. Start one: celery -A workers.gpu worker"
    )


def test_disk_with_little_room_is_told_once_for_its_host():
    low = replace(WORKER, disk_free_gb=4.9)
    assert found(workers=[low, replace(low, name="gpu@a"), replace(WORKER, host="b")]) == {
        (
            "disk",
            "a",
        ): "Host a: 4.9 GB free where DATA_DIR is (ALERT_FREE_GB=5). Make room; units that find none are put "
        "off until there is."
    }


def test_disk_of_a_worker_that_is_gone_is_nobodys():
    assert found(workers=[replace(LOST, disk_free_gb=0)]).keys() == {("worker", "cpu@a")}


# Credits and accounts


@pytest.mark.parametrize(("spent", "is_told"), [(79.9, False), (80, True), (120, True)])
def test_what_is_left_of_a_budget_is_told_when_it_is_little(spent: float, is_told: bool):
    told = found(replace(LIMITS, max_credits=100), runs=[RUN], counts={RUN.id: {}}, spent={RUN.id: spent})
    assert (("credits", RUN.id) in told) is is_told


def test_without_a_budget_no_credits_are_too_few():
    assert found(runs=[RUN], counts={RUN.id: {}}, spent={RUN.id: 1e6}) == {}


@pytest.mark.parametrize(
    ("standing", "is_told"),
    [
        (Standing(out_until=NOW + 60, reason="CreditsExhaustedError: none left"), True),
        (Standing(out_until=NOW - 60, is_closed=True, reason="AccountError: refused"), True),
        (Standing(failing_since=NOW - 1900, reason="SourceUnavailableError: no answer"), True),
        (Standing(failing_since=NOW - 60, reason="SourceUnavailableError: no answer"), False),
        (Standing(busy_until=NOW + 60, reason="SourceBusyError: busy"), False),
    ],
    ids=["no credits", "refused", "gone for long", "gone for a moment", "busy"],
)
def test_account_is_told_when_someone_has_to_look_at_it(standing: Standing, is_told: bool):
    expected = {("account", "acc"): f"Account acc: {standing.reason}"} if is_told else {}
    assert found(accounts={"acc": standing}) == expected


def test_run_that_paused_itself_is_told_with_its_reason_and_one_that_a_person_paused_is_not():
    halted = replace(RUN, state=RunState.PAUSED, note="no credits")
    assert found(runs=[halted], counts={RUN.id: {}}) == {("paused", RUN.id): f"Run {RUN.id} is paused: no credits"}
    assert found(runs=[replace(halted, note="")], counts={RUN.id: {}}) == {}
