"""What only an administrator of the server can do, once: database, roles, login, extensions."""

from collections.abc import Iterator

from psycopg import sql
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from eo_tasks.errors import EOTasksError, SettingsError
from eo_tasks.settings import Settings
from eo_tasks.storage.database.connection import Database, Login
from eo_tasks.storage.database.faults import told
from eo_tasks.storage.database.roles import OWNER, READER, WRITER, exists, make_role, quoted, role_name

MAINTENANCE = "postgres"  # the database that every server has


def set_up(settings: Settings) -> Iterator[str]:
    """Make what is missing; what is there stays as it is, but for the login's password, which becomes ``DB_PASSWORD``.

    Returns:
        A line for people on each thing done.

    Raises:
        SettingsError: The workers' login needs a password.
        StorageError: The administrator's login may not do it.
    """
    server, here = Login.of_admin(settings, MAINTENANCE), Login.of_admin(settings)
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT", connect_args=server.connect_args)
    try:
        with engine.connect() as connection:
            yield from _make_roles(connection, settings)
            yield _make_database(connection, settings.db_name)
    except SQLAlchemyError as error:
        raise told("PostgreSQL", error, str(server)) from error
    finally:
        engine.dispose()
    database = Database(here)
    try:
        with database.transaction() as connection:
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS postgis"))
            owner = quoted(connection, role_name(settings.db_name, OWNER))
            connection.execute(text(f"GRANT ALL ON SCHEMA public TO {owner}"))
        yield "Extension postgis is there."
        yield _add_timescaledb(database)
    finally:
        database.close()


def _make_roles(connection: Connection, settings: Settings) -> Iterator[str]:
    names = [role_name(settings.db_name, kind) for kind in (OWNER, WRITER, READER)]
    for name in names:
        make_role(connection, name)
    yield f"Roles {', '.join(names)} are there."
    if settings.db_admin_user in (None, settings.db_user):
        return
    login, writer = settings.db_user, quoted(connection, names[1])
    is_there = exists(connection, login)
    if settings.db_password is not None:
        _set_password(connection, "ALTER" if is_there else "CREATE", login, settings.db_password.get_secret_value())
    elif not is_there:
        raise SettingsError(f"DB_PASSWORD is not set: the login {login} is to be made with it.")
    connection.execute(text(f"GRANT {writer} TO {quoted(connection, login)}"))
    yield f"Login {login} is there, and may read and write rows."


def _set_password(connection: Connection, verb: str, login: str, password: str) -> None:
    """Make a login, or change its password; only the password's hash travels, so that no log of the server's has it."""
    raw = connection.connection.driver_connection
    assert raw is not None  # noqa: S101  an open connection has one
    hashed = raw.pgconn.encrypt_password(password.encode(), login.encode(), b"scram-sha-256").decode()
    statement = sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
        sql.SQL(verb), sql.Identifier(login), sql.Literal(hashed)
    )
    raw.execute(statement)


def _make_database(connection: Connection, name: str) -> str:
    owner = quoted(connection, role_name(name, OWNER))
    if connection.scalar(text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name}) is None:
        connection.execute(text(f"CREATE DATABASE {quoted(connection, name)} OWNER {owner}"))
        return f"Database {name} is made."
    connection.execute(text(f"GRANT ALL ON DATABASE {quoted(connection, name)} TO {owner}"))
    return f"Database {name} was there."


def _add_timescaledb(database: Database) -> str:
    available = text("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'")
    with database.transaction() as connection:
        if connection.scalar(available) is None:
            return "TimescaleDB is not installed on this server: plain tables will do."
    try:
        with database.transaction() as connection:
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
    except EOTasksError as error:
        return (
            f"TimescaleDB cannot be loaded, plain tables will do ({error}). It belongs into shared_preload_libraries."
        )
    return "Extension timescaledb is there."
