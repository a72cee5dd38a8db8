"""How long units took, counted by real tasks as they end."""

from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from eo_tasks.local.redis_server import free_port
from eo_tasks.state.durations import BUCKETS_S, Durations
from eo_tasks.state.entry import State
from eo_tasks.tasks.enqueue import enqueue_years
from eo_tasks.units import Stage
from tests.system import BEAT, CONTROL, CPU, GPU, system, this_process, wait_for

pytestmark = pytest.mark.integration

DEADLINE_S = 240


def test_duration_is_counted_in_the_first_bucket_that_holds_it(redis: Redis) -> None:
    durations = Durations(redis)
    for seconds, pixels in ((0.05, 10), (0.5, 20), (9999, 30)):
        durations.add(Stage.BTC, seconds, pixels)
    of = durations.all()
    btc = of[Stage.BTC]
    assert list(btc.up_to) == list(BUCKETS_S)
    assert (btc.up_to[0.1], btc.up_to[0.25], btc.up_to[0.5], btc.up_to[3600]) == (1, 1, 2, 2)
    assert (btc.count, btc.seconds, btc.pixels) == (3, 9999.55, 60)
    assert (of[Stage.STORE].count, of[Stage.STORE].pixels) == (0, 0)


def test_unit_that_cannot_be_counted_is_no_failure() -> None:
    with Redis(port=free_port(), retry=Retry(NoBackoff(), 0)) as nowhere:
        Durations(nowhere).add(Stage.STORE, 1, 0)


def test_every_completed_unit_of_a_run_is_counted_once_with_its_pixels(
    sample_environment: dict[str, str], redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        system(sample_environment, tmp_path / "logs") as running,
        this_process(sample_environment, monkeypatch) as ledger,
    ):
        enqueue_years([2021, 2022], [463, 464])
        for name, arguments in {"cpu": CPU, "control": CONTROL, "gpu": GPU, "beat": BEAT}.items():
            running.start(name, arguments)

        def is_counted() -> bool:  # a moment after it is done
            is_done = ledger.counts(Stage.BTC, "2021_2022").get(State.COMPLETED) == 2
            return is_done and sum(one.count for one in Durations(redis).all().values()) >= 10

        wait_for(redis, is_counted, DEADLINE_S, running.logs)
    counted = Durations(redis).all()
    assert {stage: one.count for stage, one in counted.items()} == {Stage.DOWNLOAD: 4, Stage.STORE: 4, Stage.BTC: 2}
    assert all(0 < one.seconds < DEADLINE_S for one in counted.values())
    assert counted[Stage.DOWNLOAD].pixels == 2 * counted[Stage.BTC].pixels > 0
