"""Runs in a real Redis."""

from dataclasses import replace
from time import time

import pytest
from redis import Redis

from eo_tasks.grid import GridYear, YearPair
from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges
from eo_tasks.state.runs import KEPT_S, Position, Run, Runs, RunState

pytestmark = pytest.mark.integration

OLD = Run(Wanted(Ranges.of([463, 464, 470]), (2021, 2022)), created_at=1.0)
NEW = Run(Wanted(Ranges.of([1]), (2023,)), created_at=2.0)
HALF_WAY = Position(2, 1, 0.5, 7.0, {"download.open": 3}, {"download.open": 5, "btc.stuck": 1})


@pytest.fixture
def runs(redis: Redis) -> Runs:
    """No runs yet."""
    return Runs(redis)


def kept(runs: Runs, run: Run) -> Run:
    found = runs.get(run.id)
    assert found is not None
    return found


def test_runs_come_back_as_they_were_oldest_first(runs: Runs, redis: Redis) -> None:
    assert runs.add(NEW) == NEW
    assert runs.add(OLD) == OLD
    for seen in (runs, Runs(redis)):  # by the process that added them, and by another one
        assert seen.all() == seen.active() == [OLD, NEW]
        assert seen.get(OLD.id) == OLD
    assert runs.get("nonsense") is None


def test_the_same_request_is_the_same_run_and_keeps_its_age(runs: Runs) -> None:
    runs.add(OLD)
    again = Run(Wanted(Ranges.of([470, 464, 463]), (2021, 2022)), created_at=9.0)
    assert again.id == OLD.id != NEW.id
    assert runs.add(again) == OLD
    assert [run.created_at for run in runs.active()] == [1.0]


def test_a_run_that_goes_on_keeps_its_position_when_it_is_asked_for_again(runs: Runs) -> None:
    run = runs.add(OLD)
    runs.move(run, HALF_WAY)
    runs.add(replace(OLD, created_at=9.0))
    assert runs.position(run) == HALF_WAY


def test_a_paused_run_stays_paused_when_it_is_asked_for_again(runs: Runs) -> None:
    runs.change(runs.add(OLD), RunState.PAUSED)
    assert runs.add(replace(OLD, created_at=9.0)).state is RunState.PAUSED
    assert runs.active() == []


@pytest.mark.parametrize("state", [state for state in RunState if state.has_ended])
def test_a_run_that_ended_begins_anew_when_it_is_asked_for_again(runs: Runs, state: RunState) -> None:
    run = runs.add(OLD)
    runs.move(run, HALF_WAY)
    runs.change(run, state)
    again = runs.add(replace(OLD, created_at=9.0))
    assert (again.state, again.created_at) == (RunState.ACTIVE, 9.0)
    assert runs.position(again) == Position()


def test_a_fresh_start_of_a_run_that_goes_on_begins_anew(runs: Runs) -> None:
    runs.move(runs.add(OLD), HALF_WAY)
    fresh = runs.add(replace(OLD, created_at=9.0, not_before=9.0))
    assert kept(runs, OLD) == fresh
    assert (fresh.not_before, fresh.state) == (9.0, RunState.ACTIVE)
    assert runs.position(fresh) == Position()


def test_a_fresh_start_of_a_paused_run_is_kept_and_waits(runs: Runs) -> None:
    runs.change(runs.add(OLD), RunState.PAUSED)
    fresh = runs.add(replace(OLD, created_at=9.0, not_before=9.0))
    assert (fresh.not_before, fresh.state) == (9.0, RunState.PAUSED)
    assert kept(runs, OLD) == fresh


def test_a_state_is_changed_only_by_who_knows_the_present_one(runs: Runs) -> None:
    run = runs.add(OLD)
    before = time()
    assert runs.change(run, RunState.PAUSED)
    paused = kept(runs, run)
    assert (paused.state, paused.created_at, paused.since >= before) == (RunState.PAUSED, 1.0, True)
    assert not runs.change(run, RunState.CANCELED)  # it was active when this one looked
    assert kept(runs, run) == paused
    assert runs.change(paused, RunState.CANCELED)
    assert runs.active() == []


def test_only_active_runs_are_active_and_ended_ones_are_kept(runs: Runs) -> None:
    for number, state in enumerate(RunState):
        run = runs.add(Run(Wanted(Ranges.of([number]), (2021,)), created_at=float(number)))
        assert runs.change(run, state)
    assert [run.state for run in runs.all()] == list(RunState)
    assert [run.state for run in runs.active()] == [RunState.ACTIVE]
    assert [state for state in RunState if not state.has_ended] == [RunState.ACTIVE, RunState.PAUSED]


def test_a_position_comes_back_as_it_was_until_it_is_rewound(runs: Runs, redis: Redis) -> None:
    run = runs.add(OLD)
    assert runs.position(run) == Position()
    runs.move(run, HALF_WAY)
    assert runs.position(run) == Runs(redis).position(run) == HALF_WAY
    runs.rewind(run)
    assert runs.position(run) == Position()


def test_a_feeder_that_still_works_on_the_run_before_does_not_move_the_new_one_on(runs: Runs) -> None:
    before = runs.add(OLD)
    fresh = runs.add(replace(OLD, created_at=9.0, not_before=9.0))
    runs.move(before, HALF_WAY)
    assert runs.position(fresh) == Position()


def test_runs_that_ended_long_ago_are_forgotten_and_no_others(runs: Runs, redis: Redis) -> None:
    long_ago = runs.add(OLD)
    runs.move(long_ago, HALF_WAY)
    runs.change(long_ago, RunState.COMPLETE)
    runs.add(NEW)  # goes on
    assert runs.forget_old(time() + KEPT_S - 60) == 0
    assert runs.forget_old(time() + KEPT_S + 60) == 1
    assert runs.all() == [NEW]
    assert {key: redis.hlen(key) for key in redis.keys("eo-tasks:run*")} == {
        "eo-tasks:runs": 1,
        "eo-tasks:run-states": 1,
    }


def test_a_run_wants_the_units_of_its_cells_and_years() -> None:
    run = Run(Wanted(Ranges.of([463, 464]), (2018, 2021, 2022)), created_at=1.0)
    wanted = [GridYear(463, 2018).download, GridYear(464, 2021).store, YearPair(463, 2018, 2021).btc]
    assert all(map(run.wants, wanted))
    unwanted = [
        GridYear(465, 2018).download,
        GridYear(463, 2019).store,
        YearPair(463, 2018, 2022).btc,
        YearPair(463, 2021, 2023).btc,
        YearPair(465, 2021, 2022).btc,
    ]
    assert not any(map(run.wants, unwanted))
