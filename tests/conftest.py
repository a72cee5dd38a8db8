"""Fixtures that every kind of test may use."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from eo_tasks.local.redis_server import RedisServer, prepare_redis, wait_for_redis

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and reference outputs beside the project; not everyone has them."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared with real data beside the repository")
    return SHARED


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis server of its own, on a free port."""
    server = prepare_redis(tmp_path_factory.mktemp("redis"))
    with subprocess.Popen(server.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for_redis(server)
        yield server
        process.terminate()


@pytest.fixture
def redis(redis_server: RedisServer) -> Iterator[Redis]:
    """A client of database 1 of the real Redis, both databases emptied before."""
    client = Redis(port=redis_server.port, password=redis_server.password, db=1, decode_responses=True)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def broker(redis_server: RedisServer, redis: Redis) -> Iterator[Redis]:
    """A client of database 0, where the queues are."""
    client = Redis(port=redis_server.port, password=redis_server.password, db=0, decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def environment(redis_server: RedisServer, tmp_path: Path) -> dict[str, str]:
    """A child process's environment: this Redis, an empty DATA_DIR, nothing of the developer's own settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV") if name in os.environ}
    return kept | dict(redis_server.environment) | {"DATA_DIR": str(tmp_path / "data")}
