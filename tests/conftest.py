"""Fixtures that every kind of test may use."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from redis import Redis

from eo_tasks.local.redis_server import RedisServer, prepare_redis, wait_for_redis
from eo_tasks.setting_types import S3Url
from eo_tasks.storage.bucket import Access, Bucket
from tests.bucket import ObjectStore, object_store
from tests.postgres import NEEDED, PostgresServer, find_postgres

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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL server of its own, with PostGIS, on a free port."""
    programs = find_postgres()
    if programs is None:
        pytest.skip(NEEDED)
    with PostgresServer(programs) as server:
        yield server


@pytest.fixture(scope="session")
def tls_postgres_server() -> Iterator[PostgresServer]:
    """A second one that also serves TLS, with a certificate of its own."""
    programs = find_postgres()
    if programs is None:
        pytest.skip(NEEDED)
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine, which makes the server's certificate")
    with PostgresServer(programs, tls=True) as server:
        yield server


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[dict[str, str]]:
    """An empty database with PostGIS, as the environment variables that lead to it; dropped after the test."""
    name = f"test_{uuid4().hex}"
    postgres_server.create_database(name)
    yield postgres_server.admin_environment(name)
    if not postgres_server.is_running:  # A test that stopped it must not fail the next ones.
        postgres_server.start()
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def object_store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A real S3 server of its own, on a free port."""
    with object_store(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(object_store_server: ObjectStore) -> Bucket:
    """An empty bucket of the real S3 server, used from a prefix on."""
    name = object_store_server.make_bucket(f"test-{uuid4().hex}")
    login = object_store_server.login
    access = Access(
        object_store_server.url, login["AWS_REGION"], login["AWS_ACCESS_KEY_ID"], login["AWS_SECRET_ACCESS_KEY"]
    )
    return Bucket(S3Url(name, "a/country"), access)


@pytest.fixture
def environment(redis_server: RedisServer, tmp_path: Path) -> dict[str, str]:
    """A child process's environment: this Redis, an empty DATA_DIR, nothing of the developer's own settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV") if name in os.environ}
    return kept | dict(redis_server.environment) | {"DATA_DIR": str(tmp_path / "data")}
