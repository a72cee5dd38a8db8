"""A real PostgreSQL with PostGIS, private to the test session."""

import os
import pwd
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import psycopg
from psycopg import sql

from eo_tasks.local.redis_server import free_port

HOST = "127.0.0.1"
SUPERUSER = "postgres"
TEMPLATE = "template_postgis"
ACCOUNT = "postgres"  # of the operating system: PostgreSQL refuses to run as root
START_S = 60
DEFAULTS = {
    "shared_buffers": "128MB",
    "max_connections": "60",
    "max_wal_size": "1GB",
    "lc_messages": "C",
}
NEEDED = "no PostgreSQL with PostGIS on this machine (Debian: postgresql, postgresql-postgis)"


def find_postgres() -> Path | None:
    """The folder of the server's programs; ``None`` where one of them, PostGIS or an account to run them lacks."""
    on_path = shutil.which("pg_ctl")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    folders = ([Path(on_path).resolve().parent] if on_path else []) + debian
    return next((folder for folder in folders if _is_complete(folder)), None) if _has_account() else None


class PostgresServer:
    """A cluster of its own in a temporary folder, on a free port of the loopback, gone when the block ends.

    Every write reaches the disk (fsync is on): what a test commits must survive ``restart_immediately``.

    Args:
        programs: Where ``initdb`` and ``pg_ctl`` are, from ``find_postgres``.
        settings: Of the server, over ``DEFAULTS``.
        tls: Serve TLS, with a certificate that vouches for itself (``certificate``).
    """

    def __init__(self, programs: Path, settings: Mapping[str, str] | None = None, tls: bool = False) -> None:
        self.port = free_port()
        self.password = secrets.token_hex(16)
        # In /tmp itself: pytest's folders are closed to the account that the server runs as when the tests run as
        # root, and the path of a Unix socket may have no more than 107 characters (man 7 unix).
        self.folder = Path(tempfile.mkdtemp(prefix="eo-pg-", dir="/tmp"))
        self.certificate = self.folder / "server.crt" if tls else None
        self._programs = programs
        self._data = self.folder / "data"
        self._log = self.folder / "log"
        self._settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            **DEFAULTS,
            **(settings or {}),
        }

    def __enter__(self) -> Self:
        try:
            self._create_cluster()
            self.start()
            self._create_template()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    @property
    def is_running(self) -> bool:
        """Whether a process serves the cluster (``pg_ctl status`` answers 3 or 4 where none does)."""
        return self._run(["pg_ctl", "status", "-D", str(self._data)], accepted=(0, 3, 4)) == 0

    def start(self) -> None:
        """Start the server and return once it takes connections, a recovery after a crash included."""
        options = shlex.join(part for name, value in self._settings.items() for part in ("-c", f"{name}={value}"))
        waiting = ["-w", "-t", str(START_S), "-D", str(self._data), "-l", str(self._log)]
        self._run(["pg_ctl", "start", *waiting, "-o", options])

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server and return once it is gone: in order, or as if it crashed."""
        self._run(["pg_ctl", "stop", "-w", "-t", str(START_S), "-D", str(self._data), "-m", mode])

    def restart_immediately(self) -> None:
        """Crash: break every connection at once, and come back on the same port after a recovery."""
        self.stop("immediate")
        self.start()

    def create_database(self, name: str, template: str = TEMPLATE) -> None:
        """Make a database, by default with PostGIS in it."""
        self._execute("CREATE DATABASE {} TEMPLATE {}", name, template)

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)

    def admin_environment(self, database: str) -> dict[str, str]:
        """The variables that point every part at one database, as the superuser."""
        return {
            "DB_HOST": HOST,
            "DB_PORT": str(self.port),
            "DB_NAME": database,
            "DB_USER": SUPERUSER,
            "DB_PASSWORD": self.password,
        }

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection of the superuser, in autocommit; the caller closes it."""
        return psycopg.connect(
            host=HOST, port=self.port, dbname=database, user=SUPERUSER, password=self.password, autocommit=True
        )

    def log(self) -> str:
        """What the server has logged so far."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def _create_cluster(self) -> None:
        password = self.folder / "password"
        password.write_text(self.password, encoding="utf-8")
        if self.certificate:
            self._certify(self.certificate)
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.iterdir()):
                shutil.chown(path, ACCOUNT, pwd.getpwnam(ACCOUNT).pw_gid)
        access = ["-U", SUPERUSER, "--pwfile", str(password), "-A", "scram-sha-256"]
        self._run(["initdb", "-D", str(self._data), *access, "-E", "UTF8", "--locale=C"])
        password.unlink()

    def _certify(self, certificate: Path) -> None:
        key = self.folder / "server.key"
        names = f"subjectAltName=IP:{HOST},DNS:localhost"
        kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        subject = ["-subj", "/CN=localhost", "-addext", names]
        written = ["-keyout", str(key), "-out", str(certificate)]
        subprocess.run(["openssl", "req", *kind, *subject, *written], check=True, capture_output=True)
        key.chmod(0o600)
        self._settings |= {"ssl": "on", "ssl_cert_file": str(certificate), "ssl_key_file": str(key)}

    def _create_template(self) -> None:
        self.create_database(TEMPLATE, template="template1")
        with self.connect(TEMPLATE) as connection:
            connection.execute("CREATE EXTENSION postgis")
        # PostgreSQL copies only databases that nobody is connected to; so not even autovacuum may be.
        self._execute("ALTER DATABASE {} ALLOW_CONNECTIONS false", TEMPLATE)

    def _execute(self, statement: str, *names: str) -> None:
        with self.connect() as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def _remove(self) -> None:
        try:
            if self.is_running:
                self.stop("immediate")
        finally:
            shutil.rmtree(self.folder)

    def _run(self, command: Sequence[str], accepted: Sequence[int] = (0,)) -> int:
        """Run one of the server's programs, as its own account where we are root."""
        user = pwd.getpwnam(ACCOUNT) if os.geteuid() == 0 else None
        done = subprocess.run(
            [str(self._programs / command[0]), *command[1:]],
            cwd=self.folder,
            env=_environment(),
            user=user and user.pw_uid,
            group=user and user.pw_gid,
            extra_groups=[] if user else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in accepted:
            raise RuntimeError(f"{shlex.join(command)}: {done.stdout}{done.stderr}\n{self.log()[-2000:]}")
        return done.returncode


def _environment() -> dict[str, str]:
    """Ours, without what libpq and the server would read of the developer's own servers."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return kept | {"LC_ALL": "C"}


def _version(folder: Path) -> float:
    """Of ``/usr/lib/postgresql/15/bin``: 15."""
    name = folder.parent.name
    return float(name) if name.replace(".", "", 1).isdigit() else 0


def _is_complete(folder: Path) -> bool:
    if not all((folder / name).exists() for name in ("initdb", "pg_ctl", "postgres")):
        return False
    shared = [Path("/usr/share/postgresql") / folder.parent.name]
    if (folder / "pg_config").exists():
        answer = subprocess.run([folder / "pg_config", "--sharedir"], capture_output=True, text=True, check=True)
        shared.append(Path(answer.stdout.strip()))
    return any((path / "extension" / "postgis.control").exists() for path in shared)


def _has_account() -> bool:
    return os.geteuid() != 0 or any(account.pw_name == ACCOUNT for account in pwd.getpwall())


def database_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a database as overrides of the settings."""
    return {name.lower(): value for name, value in environment.items()}
