"""The schema of this version: whether a database has it, and how it gets it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from eo_tasks.errors import StorageError
from eo_tasks.storage.database.connection import Database
from eo_tasks.storage.database.roles import act_as_owner, grant, make_roles
from eo_tasks.storage.database.timescale import make_hypertables

VERSION_TABLE = "eo_tasks_schema"
LOCK = 0x656F_7461  # of those who change the schema at the same time
MIGRATIONS = Path(__file__).parent / "migrations"
POSTGIS = "SELECT extversion FROM pg_extension WHERE extname = 'postgis'"


def newest() -> str:
    """The schema that this version reads and writes."""
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    if head is None:
        raise StorageError(f"{MIGRATIONS}: no migrations. Install eo-tasks again.")
    return head


def current(connection: Connection) -> str | None:
    """The schema that a database has; ``None`` for none of ours."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def check(database: Database) -> None:
    """Look whether a database can be used.

    Raises:
        StoreUnavailableError: It does not answer.
        StorageError: It lets nobody in, has no PostGIS, or another schema than this version's.
    """
    with database.transaction() as connection:
        _check_postgis(connection, database)
        there = current(connection)
    if there is None:
        raise StorageError(f"PostgreSQL: {database.login} has no tables of ours. Run: eo-tasks db upgrade")
    if there not in _known():
        raise StorageError(f"PostgreSQL: {database.login} has the schema {there} of a later version: update eo-tasks.")
    if there != newest():
        raise StorageError(
            f"PostgreSQL: {database.login} has the schema {there}, this version needs {newest()}. "
            "Run: eo-tasks db upgrade"
        )


def upgrade(database: Database) -> tuple[str | None, str]:
    """Bring a database to this version's schema, in one transaction; its data stay.

    Returns:
        The schema that it had and the one that it has.

    Raises:
        StorageError: It cannot be brought there; nothing has changed.
    """
    with database.transaction() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        _check_postgis(connection, database)
        make_roles(connection)
        act_as_owner(connection)
        before = current(connection)
        if before is not None and before not in _known():
            raise StorageError(f"PostgreSQL: {database.login} has the schema {before} of a later version.")
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        make_hypertables(connection)
        grant(connection)
    return before, newest()


def _known() -> set[str]:
    return {script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()}


def _check_postgis(connection: Connection, database: Database) -> None:
    if connection.scalar(text(POSTGIS)) is None:
        raise StorageError(
            f"PostgreSQL: {database.login} has no PostGIS. Have its administrator run: eo-tasks db init, or in that "
            "database: CREATE EXTENSION postgis"
        )
