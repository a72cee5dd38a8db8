"""The database from nothing, as docs/database.md tells it, and the queries that it shows."""

import contextlib
import re
import socket
import socketserver
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql

from eo_tasks.cli.main import main
from tests.postgres import PostgresServer

pytestmark = pytest.mark.integration

NAME = "setup"
DOCS = Path(__file__).parents[2] / "docs" / "database.md"
QUERIES = re.findall(r"```sql\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def environment_of_nothing(postgres_server: PostgresServer) -> Iterator[dict[str, str]]:
    """A server without the database and its roles; workers are to log in as ``worker``."""
    admin = postgres_server.admin_environment(NAME)
    yield {
        **{name: admin[name] for name in ("DB_HOST", "DB_PORT", "DB_NAME")},
        "DB_USER": "worker",
        "DB_PASSWORD": "a worker's",
        "DB_ADMIN_USER": admin["DB_USER"],
        "DB_ADMIN_PASSWORD": admin["DB_PASSWORD"],
    }
    postgres_server.drop_database(NAME)
    with postgres_server.connect() as connection:
        for role in ("worker", f"{NAME}_writer", f"{NAME}_reader", f"{NAME}_owner"):
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))


def told(environment: dict[str, str], *arguments: str) -> str:
    result = CliRunner().invoke(main, arguments, env=environment)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_database_is_made_from_nothing_and_workers_may_only_write_rows(
    environment_of_nothing: dict[str, str],
) -> None:
    environment = environment_of_nothing
    first = told(environment, "db", "init")
    assert "Database setup is made." in first
    assert "a worker's" not in first
    assert "Database setup was there." in told(environment, "db", "init")
    assert "went from nothing to 0001" in told(environment, "db", "upgrade")
    assert "has the schema 0001 already" in told(environment, "db", "upgrade")
    worker = {name: value for name, value in environment.items() if "ADMIN" not in name}
    assert told(worker, "db", "check").endswith("can be used.\n")
    with psycopg.connect(
        host=worker["DB_HOST"], port=worker["DB_PORT"], dbname=NAME, user="worker", password="a worker's"
    ) as connection:
        owner = connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'eo'").fetchone()
        assert owner == ("setup_owner",)
        for query in QUERIES:
            connection.execute(query)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DROP TABLE eo")


def test_a_password_is_changed_by_setting_up_again(environment_of_nothing: dict[str, str]) -> None:
    environment = environment_of_nothing
    told(environment, "db", "init")
    told(environment, "db", "upgrade")
    other = environment | {"DB_PASSWORD": "another one's"}
    assert "another one's" not in told(other, "db", "init")
    assert told(other, "db", "check").endswith("can be used.\n")
    refused = CliRunner().invoke(main, ["db", "check"], env=environment)
    assert refused.exit_code == 1
    assert "password authentication failed" in refused.output
    told(other | {"DB_PASSWORD": ""}, "db", "init")  # says nothing of the password
    assert told(other, "db", "check").endswith("can be used.\n")


def test_a_database_without_an_encoding_will_do(
    postgres_server: PostgresServer, environment_of_nothing: dict[str, str]
) -> None:
    """As initdb makes one where no locale is set."""
    with postgres_server.connect() as connection:
        name = sql.Identifier(NAME)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'SQL_ASCII'").format(name))
    assert "Database setup was there." in told(environment_of_nothing, "db", "init")
    assert "went from nothing to 0001" in told(environment_of_nothing, "db", "upgrade")
    assert told(environment_of_nothing, "db", "check").endswith("can be used.\n")


def test_a_server_that_starts_later_is_waited_for(environment_of_nothing: dict[str, str]) -> None:
    """A door to the server that turns the first one away, as a server that is not up yet does."""
    server = (environment_of_nothing["DB_HOST"], int(environment_of_nothing["DB_PORT"]))
    turned_away = Event()

    class Door(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if not turned_away.is_set():
                turned_away.set()
                return
            with socket.create_connection(server) as inside:
                answers = Thread(target=_pass_on, args=(inside, self.request))
                answers.start()
                _pass_on(self.request, inside)
                answers.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Door) as door:
        Thread(target=door.serve_forever, args=(0.05,)).start()
        try:
            late = environment_of_nothing | {"DB_PORT": str(door.server_address[1])}
            assert "Database setup is made." in told(late, "db", "init", "--wait", "60")
        finally:
            door.shutdown()
    assert turned_away.is_set()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := source.recv(1 << 16):
            target.sendall(part)
        target.shutdown(socket.SHUT_WR)


def test_a_server_that_never_starts_is_told_in_one_line(environment_of_nothing: dict[str, str]) -> None:
    nowhere = environment_of_nothing | {"DB_PORT": "9"}
    result = CliRunner().invoke(main, ["db", "init", "--wait", "1"], env=nowhere)
    assert result.exit_code == 1
    assert len(result.output.strip().splitlines()) == 1


def test_the_docs_show_queries() -> None:
    assert len(QUERIES) == 4


def test_tables_that_are_not_there_are_told_with_what_to_run(database: dict[str, str]) -> None:
    result = CliRunner().invoke(main, ["db", "check"], env=database)
    assert result.exit_code == 1
    assert result.output.strip().endswith("has no tables of ours. Run: eo-tasks db upgrade")
