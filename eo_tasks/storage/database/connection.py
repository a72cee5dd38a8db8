"""Connections to the database: few, checked before use, never shared between processes."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakSet

from psycopg.pq import Format
from pydantic import SecretStr
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from eo_tasks.settings import Settings
from eo_tasks.storage.database.faults import told

CONNECT_S = 10
STATEMENT_S = 600  # an image takes a second
LOCK_S = 60
DEAD_S = 30  # a peer that does not answer for so long is gone
BINARY = {"binary": True}  # execution options: results come as bytes, four times as fast for images as text

_engines: WeakSet[Engine] = WeakSet()


@dataclass(frozen=True)
class Login:
    """Who logs in to which database, and how."""

    host: str
    port: int
    database: str
    user: str
    password: SecretStr | None
    sslmode: str
    sslrootcert: str | None = None

    @classmethod
    def of_worker(cls, settings: Settings) -> "Login":
        """Whoever reads and writes images."""
        return cls._of(settings, settings.db_user, settings.db_password)

    @classmethod
    def of_admin(cls, settings: Settings, database: str | None = None) -> "Login":
        """Whoever makes the database and its tables; the worker's where no other is set."""
        if settings.db_admin_user is None:
            return cls._of(settings, settings.db_user, settings.db_password, database)
        return cls._of(settings, settings.db_admin_user, settings.db_admin_password, database)

    @classmethod
    def _of(cls, settings: Settings, user: str, password: SecretStr | None, database: str | None = None) -> "Login":
        root = settings.db_sslrootcert
        return cls(
            settings.db_host,
            settings.db_port,
            database or settings.db_name,
            user,
            password,
            str(settings.db_sslmode),
            None if root is None else str(root),
        )

    @property
    def url(self) -> URL:
        """SQLAlchemy's; it hides the password when it is printed."""
        password = None if self.password is None else self.password.get_secret_value()
        return URL.create("postgresql+psycopg", self.user, password, self.host, self.port, self.database)

    @property
    def connect_args(self) -> dict[str, str]:
        """libpq's settings: TLS, and text in UTF-8 also where the database has no encoding (SQL_ASCII)."""
        tls = {"sslmode": self.sslmode} | ({"sslrootcert": self.sslrootcert} if self.sslrootcert else {})
        return {"client_encoding": "utf8", **tls}

    def __str__(self) -> str:
        return f"database {self.database} at {self.host}:{self.port}"


class Database:
    """One database. A process holds two connections at most, each for the time of one transaction."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self._engine = _engine(login)

    @contextmanager
    def transaction(self, what: object = "PostgreSQL") -> Iterator[Connection]:
        """Do something whole or not at all.

        Args:
            what: The cell and years that a failure is told of.

        Raises:
            StoreUnavailableError: The database is away, or broke off; nothing is done, or all of it is.
            StorageFullError: Its disk is full.
            StorageError: It refuses.
        """
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise told(what, error, str(self.login)) from error

    def close(self) -> None:
        """Close the connections; they are opened again as they are needed."""
        self._engine.dispose()


def _engine(login: Login) -> Engine:
    engine = create_engine(
        login.url,
        pool_size=1,  # a transaction at a time, and one more of the thread that reads ahead
        max_overflow=1,
        pool_pre_ping=True,
        pool_timeout=LOCK_S,
        json_serializer=partial(json.dumps, ensure_ascii=False),
        connect_args={
            "connect_timeout": CONNECT_S,
            "application_name": "eo-tasks",
            "options": f"-c statement_timeout={STATEMENT_S}s -c lock_timeout={LOCK_S}s"
            f" -c idle_in_transaction_session_timeout={STATEMENT_S}s",
            "keepalives_idle": DEAD_S,
            "keepalives_interval": DEAD_S // 3,
            "keepalives_count": 3,
            "tcp_user_timeout": DEAD_S * 1000,
            "prepare_threshold": None,  # prepared statements do not survive a pooler between us and the server
            **login.connect_args,
        },
    )
    event.listen(engine, "before_cursor_execute", _set_format)
    _engines.add(engine)
    return engine


def _set_format(
    connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> None:
    if context is not None and context.execution_options.get("binary"):
        cursor.format = Format.BINARY


def _forget_inherited() -> None:
    """In a forked child: the open connections are the parent's; closing them would close them for it too."""
    for engine in _engines:
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_inherited)
