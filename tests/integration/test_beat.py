"""The clock: one ticks, another stands by."""

from pathlib import Path

import pytest
from redis import Redis

from tests.system import BEAT, system, wait_for

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
    from eo_tasks.state.queues import queued_ids

    with system(sample_environment, tmp_path) as running:
        running.start("beat", BEAT)
        wait_for(redis, lambda: len(queued_ids(broker, ["control"])) >= 2, TAKEOVER_S, running.logs)
    import json

    for text in broker.lrange("control", 0, -1):
        assert json.loads(text)["headers"]["expires"] is not None
