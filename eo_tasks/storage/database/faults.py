"""What PostgreSQL's errors mean for a unit, and what a person can do about them.

Codes: PostgreSQL's manual, appendix A. Who may not even connect gets no code from libpq, only a message.
"""

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from eo_tasks.errors import EOTasksError, StorageError, StorageFullError, StoreUnavailableError

PASSES = (
    "08",  # the connection broke
    "57P",  # the server stops, starts, or a person ended the connection
    "40",  # another transaction was in the way
    "55P03",  # a lock was not free
    "57014",  # it took longer than statement_timeout
    "25P03",  # ours was idle for too long
    "53200",
    "53300",  # no memory, no connection free
    "25006",  # it is a standby now
)
FULL = "53100"
OLD_SCHEMA = ("42P01", "42703", "42883", "3F000")  # no such table, column, function or schema
DENIED = "42501"

_REFUSED = (  # what the server says to those it does not let in, and what to do
    ("password authentication failed", "Set DB_USER and DB_PASSWORD to a login that it knows."),
    ("no password supplied", "Set DB_PASSWORD."),
    ("no pg_hba.conf entry", "Its pg_hba.conf lets nobody in from here in this way; try DB_SSLMODE=require."),
    ("does not support SSL", "It has no TLS: set DB_SSLMODE=prefer, or have it set up there."),
    ("certificate verify failed", "DB_SSLROOTCERT has to hold the certificate that vouches for it."),
    ("root certificate file", "Set DB_SSLROOTCERT to the file that vouches for it."),
    ("does not match host name", "Set DB_HOST to a name in its certificate."),
    ("is not permitted to log in", "Set DB_USER to a role that may log in."),
    ("permission denied for database", "Ask its owner for CONNECT on it, or run eo-tasks db init."),
)
_NO_DATABASE = ("database ", " does not exist")
_NO_ROLE = ("role ", " does not exist")


def told(what: object, error: SQLAlchemyError, address: str) -> EOTasksError:
    """A failure of the database as an error of ours.

    Args:
        what: The cell and years, or what was being done.
        error: SQLAlchemy's.
        address: Of the database, without password.
    """
    said = _first_line(error)
    if isinstance(error, PoolTimeoutError):
        return StoreUnavailableError(f"{what}: no connection to {address} was free in time")
    if not isinstance(error, DBAPIError):
        return StorageError(f"{what}: {address}: {said}")
    code = str(getattr(error.orig, "sqlstate", None) or "")
    if code == FULL:
        return StorageFullError(f"{what}: the disk of {address} is full ({said}). Make room; it is tried again.")
    if code in OLD_SCHEMA:
        return StorageError(f"{what}: {address} has other tables than this version ({said}). Run: eo-tasks db upgrade")
    if code == DENIED:
        return StorageError(f"{what}: {address}: {said}. Grant DB_USER the writer role: eo-tasks db init")
    if code.startswith(PASSES) or error.connection_invalidated:
        return StoreUnavailableError(f"{what}: {address}: {said}")
    if not code:
        return _not_connected(what, str(error.orig), said, address)
    return StorageError(f"{what}: {address} refuses it ({code}: {said}).")


def _not_connected(what: object, message: str, said: str, address: str) -> EOTasksError:
    for sign, remedy in _REFUSED:
        if sign in message:
            return StorageError(f"{what}: {address} lets nobody in ({said}). {remedy}")
    if all(part in message for part in _NO_DATABASE) or all(part in message for part in _NO_ROLE):
        return StorageError(f"{what}: {address}: {said}. Make it with: eo-tasks db init")
    return StoreUnavailableError(f"{what}: {address} does not answer ({said}). Start it, or check DB_HOST and DB_PORT")


def _first_line(error: SQLAlchemyError) -> str:
    """What the server said, without libpq's way of saying whom it was asked."""
    message = str(error.orig if isinstance(error, DBAPIError) else error)
    lines = [line.strip() for line in message.splitlines() if line.strip()] or [type(error).__name__]
    telling = next((line for line in lines if "FATAL:" in line), lines[0])
    return telling.rpartition("FATAL: ")[2].strip().rstrip(".")
