"""A real Redis as ``deploy/redis/start`` starts it: with a user for each part, and TLS where it is wanted."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from eo_tasks.local.redis_server import free_port

ROOT = Path(__file__).parents[1]
NEEDED = "no Redis 7 on this machine (Debian: redis-server), which can tell reading a key from writing it"
PASSWORDS = {
    "worker": "REDIS_PASSWORD",
    "dashboard": "REDIS_DASHBOARD_PASSWORD",
    "flower": "REDIS_FLOWER_PASSWORD",
}
INSPECTOR = "inspector"  # of the tests, who may look at everything


def find_redis7() -> bool:
    """Whether ``redis-server`` is there and new enough."""
    program = shutil.which("redis-server")
    if program is None:
        return False
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\d+)", told)
    return found is not None and int(found[1]) >= 7


@dataclass(frozen=True)
class GuardedRedis:
    """One server.

    Attributes:
        passwords: By user.
        folder: Its data, its log, and the file of its users.
        certificates: What ``scripts/make-certificates`` made, where the server takes TLS only.
    """

    port: int
    passwords: Mapping[str, str]
    folder: Path
    certificates: Path | None = None
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)

    def start(self, *, is_trusting: bool = False) -> None:
        """Start it on its folder and return once it answers."""
        with (self.folder / "log").open("ab") as log:
            self.processes.append(subprocess.Popen(self.command, env=self.environment, stdout=log, stderr=log))
        with self.client(is_trusting=is_trusting) as client:
            client.ping()

    def crash(self) -> None:
        """SIGKILL."""
        process = self.processes.pop()
        process.kill()
        process.wait()

    def variables(self, user: str, host: str = "localhost") -> dict[str, str]:
        """The settings of a part that logs in as a user."""
        found = {
            "REDIS_URL": f"redis://{host}:{self.port}/0",
            "REDIS_RESULT_URL": f"redis://{host}:{self.port}/1",
            "REDIS_USERNAME": user,
            "REDIS_PASSWORD": self.passwords[user],
        }
        if self.certificates is not None:
            found |= {"REDIS_TLS": "yes", "REDIS_TLS_CA": str(self.certificates / "ca.crt")}
        return found

    def refusals(self) -> list[str]:
        """What users asked for that they may not do."""
        told: Any = self.client().execute_command("ACL LOG", 128)
        return [f"{each['username']}: {each['reason']} {each['object']}" for each in told]

    def client(self, user: str = INSPECTOR, database: int = 1, *, is_trusting: bool = False) -> Redis:
        """A client that is no part of the system."""
        tls: dict[str, Any] = {}
        if self.certificates is not None:
            tls = {"ssl": True, "ssl_ca_certs": str(self.certificates / "ca.crt")}
            if is_trusting:
                tls |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
            if (self.certificates / "client.crt").exists():
                tls |= {
                    "ssl_certfile": self.certificates / "client.crt",
                    "ssl_keyfile": self.certificates / "client.key",
                }
        return Redis(
            "localhost", self.port, database, username=user, password=self.passwords[user], decode_responses=True,
            retry=Retry(ConstantBackoff(0.1), 100), retry_on_error=[BusyLoadingError, RedisConnectionError], **tls,
        )  # fmt: skip


def find_openssl() -> bool:
    """Whether ``scripts/make-certificates`` has what it needs."""
    return shutil.which("openssl") is not None


def make_certificates(folder: Path, *names: str, days: int = 2) -> Path:
    """An authority, and a certificate of Redis by it, as a person makes them."""
    script = ROOT / "scripts" / "make-certificates"
    environment = {"PATH": os.environ["PATH"], "DAYS": str(days)}
    subprocess.run([script, folder, *names], env=environment, check=True, capture_output=True)
    return folder


@contextmanager
def guarded_redis(
    folder: Path, certificates: Path | None = None, *arguments: str, is_trusted: bool = True
) -> Iterator[GuardedRedis]:
    """A server that is gone afterwards; its users are those of the project, and one that looks.

    Args:
        folder: For its data; made here.
        certificates: Of ``make_certificates``, for a server that takes TLS only.
        arguments: Further ones of ``redis-server``.
        is_trusted: Whether clients take its certificate; else it is waited for without a look at that.
    """
    folder.mkdir(parents=True)
    scripts = folder / "redis"
    shutil.copytree(ROOT / "deploy" / "redis", scripts)
    passwords = {user: token_hex(16) for user in (*PASSWORDS, INSPECTOR)}
    with (scripts / "users.acl").open("a") as users:
        users.write(f"user {INSPECTOR} on >{passwords[INSPECTOR]} ~* &* +@all\n")
    port, option = free_port(), "--port" if certificates is None else "--tls-port"
    environment = {"PATH": os.environ["PATH"], "REDIS_DIR": str(folder), "RUN_DIR": str(folder)}
    environment |= {variable: passwords[user] for user, variable in PASSWORDS.items()}
    if certificates is not None:
        environment |= {"REDIS_TLS_DIR": str(certificates)}
    command = [str(scripts / "start"), option, str(port), "--bind", "127.0.0.1", "127.0.0.2", *arguments]
    server = GuardedRedis(port, passwords, folder, certificates, command, environment)
    try:
        server.start(is_trusting=not is_trusted)
        yield server
    finally:
        for process in server.processes:
            process.terminate()
            process.wait()
