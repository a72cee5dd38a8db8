"""Composites on order, by real workers from a backend that fails on demand: each is paid for once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.units import Stage
from tests.openeo_backend.faulty import FaultyBackend
from tests.ordering import check_images, ordering, request
from tests.system import BEAT, CONTROL, CPU, System, celery, system, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

DEADLINE_S = 60


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[FaultyBackend]:
    with FaultyBackend(tmp_path / "backend") as running:
        yield running


@pytest.fixture
def country(environment: dict[str, str], backend: FaultyBackend, tmp_path: Path) -> dict[str, str]:
    """8 × 4 cells: two blocks."""
    return ordering(environment, backend, tmp_path, 8, 4)


def start(running: System) -> None:
    for name, arguments in (("control", CONTROL), ("beat", BEAT), ("cpu", CPU)):
        running.start(name, arguments)


def enqueue(running: System, folder: Path, *years: int) -> None:
    asked = celery(running.environment, folder, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request(*years))
    assert asked.returncode == 0, asked.stderr


def wait_until_stored(redis: Redis, running: System, year: int, number: int) -> None:
    ledger = Ledger(redis, Limits())
    stored = (State.COMPLETED, State.SKIPPED)

    def is_done() -> bool:
        return sum(ledger.counts(Stage.STORE, str(year)).get(state, 0) for state in stored) == number

    wait_for(redis, is_done, DEADLINE_S, running.logs)


@pytest.mark.parametrize("mode", ["batch", "synchronous"])
def test_a_block_is_one_request_and_its_cells_are_cut_pixel_for_pixel(
    country: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path, mode: str
) -> None:
    with system(country | {"OPENEO_MODE": mode}, tmp_path / "logs") as running:
        start(running)
        enqueue(running, tmp_path, 2022, 2023)
        for year in (2022, 2023):
            wait_until_stored(redis, running, year, 32)
        wait_for(redis, lambda: not redis.hlen("eo-tasks:orders"), DEADLINE_S, running.logs)
    check_images(Path(country["DATA_DIR"]), 32, 8, (2022, 2023))
    assert len(backend.audit("created" if mode == "batch" else "synchronous")) == 4
    assert not redis.hlen("eo-tasks:order-of")
    assert not list((Path(country["DATA_DIR"]) / "orders").iterdir())
