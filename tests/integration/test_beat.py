"""The clock: one ticks, another stands by."""

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from time import monotonic

import pytest
from redis import Redis

from eo_tasks.state.queues import queued_ids
from tests.system import BEAT, system, this_process, wait_for

pytestmark = pytest.mark.integration

LOCK = "eo-tasks:redbeat::lock"
TAKEOVER_S = 40  # the lock lasts 15 s, and a standby looks every 5 s


def test_second_clock_stands_by_and_takes_over_when_the_first_dies(
    sample_environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    with system(sample_environment, tmp_path) as running:
        running.start("first", BEAT)
        wait_for(redis, lambda: redis.exists(LOCK) == 1, TAKEOVER_S, running.logs)
        token = redis.get(LOCK)
        running.start("second", BEAT)
        first, log = tmp_path / "first.log", tmp_path / "second.log"
        wait_for(redis, lambda: "beat: Starting" in log.read_text(), TAKEOVER_S, running.logs)
        ticks = first.read_text().count("Sending due task")
        wait_for(redis, lambda: first.read_text().count("Sending due task") > ticks + 2, TAKEOVER_S, running.logs)
        assert redis.get(LOCK) == token
        assert "Sending due task" not in log.read_text()

        running.kill("first")
        wait_for(redis, lambda: redis.get(LOCK) not in (token, None), TAKEOVER_S, running.logs)
        wait_for(redis, lambda: "Sending due task" in log.read_text(), TAKEOVER_S, running.logs)


def test_tick_that_nobody_takes_does_not_pile_up_as_work(
    sample_environment: dict[str, str], redis: Redis, broker: Redis, tmp_path: Path
) -> None:
    with system(sample_environment, tmp_path) as running:
        running.start("beat", BEAT)
        wait_for(redis, lambda: len(queued_ids(broker, ["control"])) >= 2, TAKEOVER_S, running.logs)
    for text in broker.lrange("control", 0, -1):
        assert json.loads(text)["headers"]["expires"] is not None


# One tick


@pytest.fixture
def at_redis(environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Point this process at the test's Redis; gives the environment of others that are, too."""
    with this_process(environment, monkeypatch):
        yield environment


@pytest.mark.usefixtures("at_redis")
def test_tick_that_comes_to_many_threads_at_once_acts_once() -> None:
    from beat.ticks import Tick

    together, acted = Barrier(8), []
    tick = Tick("test.many", 60, lambda _: {"acted": len(acted) or acted.append(1) or 1})

    def run(_: int) -> dict[str, int]:
        together.wait(10)
        return tick.run()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(run, range(8)))
    assert sorted(answers, key=len) == [{}] * 7 + [{"acted": 1}]
    assert acted == [1]


def test_tick_that_comes_to_two_processes_acts_in_one_of_them(at_redis: dict[str, str], redis: Redis) -> None:
    code = """
from beat.ticks import Tick
from eo_tasks.tasks.context import state_redis
redis = state_redis()
redis.lpush("test:waiting", "ready")
assert redis.blpop("test:go", timeout=30)
print(Tick("test.two", 60, lambda _: {"acted": redis.incr("test:acted")}).run())
"""
    command = [sys.executable, "-c", code]
    processes = [subprocess.Popen(command, env=at_redis, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for _ in processes:
        assert redis.blpop(["test:waiting"], timeout=60) is not None
    redis.rpush("test:go", "1", "2")
    told = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(told) == ["{'acted': 1}", "{}"]
    assert redis.get("test:acted") == "1"


@pytest.mark.usefixtures("at_redis")
def test_tick_acts_again_in_the_next_interval_and_not_before(redis: Redis) -> None:
    from beat.ticks import Tick

    tick = Tick("test.again", 1, lambda _: {"acted": 1})
    redis.config_set("notify-keyspace-events", "KEx")
    with redis.pubsub(ignore_subscribe_messages=True) as expired:
        expired.psubscribe("__keyspace@1__:eo-tasks:tick:test.again")
        expired.get_message(timeout=5)
        begun = monotonic()
        assert [tick.run(), tick.run()] == [{"acted": 1}, {}]
        gone = next(message for message in iter(lambda: expired.get_message(timeout=10), None) if message)
        waited_s = monotonic() - begun
        assert gone["data"] == "expired"
        assert tick.run() == {"acted": 1}
    assert waited_s > 0.85  # nearly the interval: a clock may be a little early


@pytest.mark.usefixtures("at_redis")
def test_ticks_do_not_hinder_each_other_and_know_until_when_they_may_work() -> None:
    from beat.ticks import Tick

    untils: list[float] = []
    for name in ("test.one", "test.other"):
        begun = monotonic()
        assert Tick(name, 10, lambda until: untils.append(until) or {"acted": 1}).run() == {"acted": 1}
        assert begun + 6 <= untils[-1] <= monotonic() + 6


def test_every_tick_of_the_schedule_has_a_task_and_runs_on_an_empty_redis(at_redis: dict[str, str]) -> None:
    from beat.schedule import app
    from beat.ticks import SCHEDULE

    names = [tick.name for tick in SCHEDULE]
    assert list(app.conf.beat_schedule) == names
    for name in names:
        result = app.tasks[name].apply(throw=True)
        assert (result.state, sum(result.result.values())) == ("SUCCESS", 0)
        assert app.tasks[name].apply(throw=True).result == {}
