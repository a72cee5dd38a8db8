"""Who may do what. Logins are made members of one of three roles, named after the database:

- ``…_owner`` makes and changes the tables;
- ``…_writer`` reads and writes rows: the workers;
- ``…_reader`` reads.
"""

from sqlalchemy import Connection, text

OWNER, WRITER, READER = "owner", "writer", "reader"
TABLES = ("grid_cells", "eo", "eo_change", "eo_change_polygons")
VIEWS = ("eo_images", "eo_changes", "eo_changed_area", "eo_coverage")
VERSION = "eo_tasks_schema"


def role_name(database: str, kind: str) -> str:
    """The role of that kind of a database."""
    return f"{database}_{kind}"


def make_roles(connection: Connection) -> None:
    """Make the writer and the reader, unless they are there or the login may not; then there are just no such roles."""
    may = text("SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user")
    if connection.scalar(may):
        for kind in (WRITER, READER):
            make_role(connection, _here(connection, kind))


def make_role(connection: Connection, name: str) -> None:
    """Make a role that nobody logs in as, unless it is there."""
    if not exists(connection, name):
        connection.execute(text(f"CREATE ROLE {quoted(connection, name)} NOLOGIN"))


def act_as_owner(connection: Connection) -> None:
    """Have what this transaction makes belong to the owner's role, if there is one and the login is a member."""
    name = _here(connection, OWNER)
    is_member = text("SELECT pg_has_role(current_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = :name")
    if connection.scalar(is_member, {"name": name}):
        connection.execute(text(f"SET LOCAL ROLE {quoted(connection, name)}"))


def grant(connection: Connection) -> None:
    """Let writers write and readers read; as often as you like."""
    for kind, rights in ((WRITER, "SELECT, INSERT, UPDATE, DELETE"), (READER, "SELECT")):
        name = _here(connection, kind)
        if not exists(connection, name):
            continue
        role = quoted(connection, name)
        connection.execute(text(f"GRANT {rights} ON {', '.join(TABLES)} TO {role}"))
        connection.execute(text(f"GRANT SELECT ON {', '.join((*VIEWS, VERSION))} TO {role}"))
        if kind == WRITER:
            connection.execute(text(f"GRANT USAGE ON SEQUENCE eo_id_seq TO {role}"))


def exists(connection: Connection, name: str) -> bool:
    """Whether there is such a role."""
    return connection.scalar(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": name}) is not None


def quoted(connection: Connection, name: str) -> str:
    """A name as SQL takes it."""
    return connection.dialect.identifier_preparer.quote_identifier(name)


def _here(connection: Connection, kind: str) -> str:
    return role_name(str(connection.scalar(text("SELECT current_database()"))), kind)
