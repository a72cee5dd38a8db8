"""What PostgreSQL's errors become: the code decides, and where there is none, the message."""

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from eo_tasks.errors import EOTasksError, PermanentError, StorageError, StorageFullError, StoreUnavailableError
from eo_tasks.grid import GridYear
from eo_tasks.storage.database.faults import told

WHAT = GridYear(463, 2022)
ADDRESS = "database eo at 127.0.0.1:5432"
REACHED = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '


def of_code(code: str, message: str = "it said so") -> EOTasksError:
    return told(WHAT, DBAPIError("INSERT", {}, errors.lookup(code)(message)), ADDRESS)


def of_message(message: str) -> EOTasksError:
    return told(WHAT, DBAPIError(None, None, psycopg.OperationalError(message)), ADDRESS)


def test_a_full_disk_is_told_as_such_and_passes():
    error = of_code("53100", 'could not extend file "base/1": No space left on device\nHINT:  Check free disk space.')
    assert type(error) is StorageFullError
    assert str(error) == (
        f'{WHAT}: the disk of {ADDRESS} is full (could not extend file "base/1": No space left on device). '
        "Make room; it is tried again."
    )


@pytest.mark.parametrize(
    "code",
    ["57P01", "57P02", "57P03", "40P01", "40001", "53300", "53200", "55P03", "57014", "25P03", "25006", "08006"],
)
def test_what_passes_by_itself_is_tried_again(code):
    error = of_code(code)
    assert type(error) is StoreUnavailableError
    assert str(error) == f"{WHAT}: {ADDRESS}: it said so"


@pytest.mark.parametrize("code", ["42P01", "42703", "42883", "3F000"])
def test_tables_of_another_version_are_told_with_how_to_upgrade_them(code):
    error = of_code(code, 'relation "eo" does not exist\nLINE 1: SELECT eo.id')
    assert type(error) is StorageError
    assert str(error).startswith(f"{WHAT}: ")
    assert str(error).endswith('(relation "eo" does not exist). Run: eo-tasks db upgrade')


def test_a_login_that_may_not_write_is_told_with_the_role_that_it_lacks():
    error = of_code("42501", "permission denied for table eo")
    assert type(error) is StorageError
    assert str(error).startswith(f"{WHAT}: {ADDRESS}: permission denied for table eo. ")
    assert str(error).endswith("Grant DB_USER the writer role: eo-tasks db init")


@pytest.mark.parametrize("code", ["23505", "23514", "22003", "0A000"])
def test_what_the_database_refuses_is_not_tried_again(code):
    error = of_code(code)
    assert isinstance(error, PermanentError)
    assert f"({code}: it said so)" in str(error)


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        (REACHED + 'FATAL:  password authentication failed for user "eo"', "DB_PASSWORD"),
        (REACHED + "fe_sendauth: no password supplied", "Set DB_PASSWORD."),
        (REACHED + 'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "eo", no encryption', "DB_SSLMODE=require"),
        (REACHED + "server does not support SSL, but SSL was required", "DB_SSLMODE=prefer"),
        (REACHED + "SSL error: certificate verify failed", "DB_SSLROOTCERT"),
        (REACHED + 'root certificate file "/none" does not exist', "DB_SSLROOTCERT"),
        (REACHED + 'server certificate for "db" does not match host name "127.0.0.1"', "DB_HOST"),
        (REACHED + 'FATAL:  role "eo" is not permitted to log in', "DB_USER"),
        (REACHED + 'FATAL:  permission denied for database "eo"', "eo-tasks db init"),
        (REACHED + 'FATAL:  database "eo" does not exist', "eo-tasks db init"),
        (REACHED + 'FATAL:  role "eo" does not exist', "eo-tasks db init"),
    ],
)
def test_who_is_not_let_in_is_told_what_to_set(message, remedy):
    error = of_message(message)
    assert type(error) is StorageError
    assert remedy in str(error)
    assert "FATAL" not in str(error)


@pytest.mark.parametrize(
    "message",
    [
        REACHED + "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?",
        REACHED + "FATAL:  the database system is starting up",
        REACHED + "FATAL:  sorry, too many clients already",
        "connection timeout expired",
        "consuming input failed: server closed the connection unexpectedly\n\tThis probably means the server …",
        "[Errno -3] Temporary failure in name resolution",
    ],
)
def test_a_server_that_does_not_answer_passes(message):
    error = of_message(message)
    assert type(error) is StoreUnavailableError
    assert str(error).startswith(f"{WHAT}: {ADDRESS} does not answer (")
    assert "\n" not in str(error)


def test_the_first_refusal_is_told_of_two_attempts_with_and_without_tls():
    attempts = (REACHED + 'FATAL:  password authentication failed for user "eo"', REACHED + "FATAL:  no pg_hba.conf")
    assert '(password authentication failed for user "eo")' in str(of_message("\n".join(attempts)))


def test_a_connection_that_broke_without_a_code_passes():
    broken = DBAPIError("SELECT", {}, psycopg.OperationalError("the connection is lost"), connection_invalidated=True)
    assert type(told(WHAT, broken, ADDRESS)) is StoreUnavailableError


def test_a_pool_without_a_free_connection_passes():
    error = told(WHAT, PoolTimeoutError("QueuePool limit of size 1 overflow 1 reached"), ADDRESS)
    assert type(error) is StoreUnavailableError
    assert str(error) == f"{WHAT}: no connection to {ADDRESS} was free in time"


def test_an_error_of_our_own_use_of_the_library_is_not_tried_again():
    assert type(told(WHAT, InvalidRequestError("Multiple rows were found"), ADDRESS)) is StorageError
