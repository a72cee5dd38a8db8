"""Runs in a real Redis."""

import pytest
from redis import Redis

from eo_tasks.plan import Wanted
from eo_tasks.state.runs import Run, Runs

pytestmark = pytest.mark.integration

OLD = Run(Wanted((463, 464, 470), (2021, 2022)), created_at=1.0)
NEW = Run(Wanted((1,), (2023,)), created_at=2.0)


def test_runs_come_back_as_they_were_oldest_first(redis: Redis) -> None:
    runs = Runs(redis)
    runs.add(NEW)
    runs.add(OLD)
    assert runs.active() == [OLD, NEW]


def test_the_same_request_is_the_same_run_and_keeps_its_age(redis: Redis) -> None:
    runs = Runs(redis)
    runs.add(OLD)
    again = Run(Wanted((470, 464, 463), (2021, 2022)), created_at=9.0)
    assert again.id == OLD.id != NEW.id
    runs.add(again)
    assert [run.created_at for run in runs.active()] == [1.0]


def test_removed_run_is_gone(redis: Redis) -> None:
    runs = Runs(redis)
    runs.add(OLD)
    runs.remove(OLD)
    assert runs.active() == []
