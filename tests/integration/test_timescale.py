"""The large tables made hypertables, on a stand-in of TimescaleDB.

It keeps the rules of the real one that our tables could break: a unique key has to contain the column that a table is
partitioned by, nothing may refer to a hypertable, and a table becomes one once. It partitions nothing.
"""

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest

from eo_tasks.errors import EOTasksError
from eo_tasks.settings import load_settings
from eo_tasks.storage.database.connection import Database, Login
from eo_tasks.storage.database.schema import check, upgrade
from eo_tasks.storage.database.timescale import make_hypertables
from tests.postgres import PostgresServer, database_settings

pytestmark = pytest.mark.integration

STAND_IN = """
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
VALUES (4242424, 'timescaledb', 10, 'pg_catalog'::regnamespace, false, '0 stand-in');
CREATE SCHEMA timescaledb_information;
CREATE TABLE timescaledb_information.hypertables (
    hypertable_name name, column_name name, partition_interval interval, default_indexes boolean, migrated boolean
);
GRANT ALL ON SCHEMA timescaledb_information TO public;
GRANT ALL ON timescaledb_information.hypertables TO public;
CREATE TYPE dimension AS (column_name name, partition_interval interval);
CREATE FUNCTION by_range(column_name name, partition_interval interval) RETURNS dimension
LANGUAGE sql AS 'SELECT ROW(column_name, partition_interval)::dimension';
CREATE FUNCTION create_hypertable(
    relation regclass, dimension dimension, create_default_indexes boolean DEFAULT true,
    if_not_exists boolean DEFAULT false, migrate_data boolean DEFAULT false
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_index JOIN pg_attribute column_ ON column_.attrelid = relation
            AND column_.attname = dimension.column_name
        WHERE indrelid = relation AND indisunique AND NOT column_.attnum = ANY (indkey::smallint[])
    ) THEN
        RAISE 'cannot create a unique index without the column "%" (used in partitioning)', dimension.column_name;
    END IF;
    IF EXISTS (SELECT FROM pg_constraint WHERE confrelid = relation) THEN
        RAISE 'a foreign key refers to %', relation;
    END IF;
    IF EXISTS (SELECT FROM timescaledb_information.hypertables WHERE hypertable_name = relation::text) THEN
        RAISE 'table "%" is already a hypertable', relation;
    END IF;
    INSERT INTO timescaledb_information.hypertables VALUES (
        relation::text, dimension.column_name, dimension.partition_interval, create_default_indexes, migrate_data
    );
END $$;
"""


@pytest.fixture
def reader(postgres_server: PostgresServer, database: dict[str, str]) -> Iterator[psycopg.Connection]:
    """The superuser's own connection."""
    with postgres_server.connect(database["DB_NAME"]) as connection:
        yield connection


@pytest.fixture
def rows(database: dict[str, str]) -> Iterator[Database]:
    """The database as the project opens it."""
    login = Login.of_admin(load_settings(**database_settings(database)))
    with closing(Database(login)) as opened:
        yield opened


@pytest.fixture
def timescale(reader: psycopg.Connection) -> None:
    """The stand-in in that database."""
    reader.execute(STAND_IN)


def made(reader: psycopg.Connection) -> list[tuple]:
    """What the stand-in was asked for."""
    return reader.execute("SELECT *, partition_interval = '1 year' FROM timescaledb_information.hypertables").fetchall()


def test_images_and_changes_are_partitioned_by_the_columns_of_their_keys(timescale, rows, reader):
    upgrade(rows)
    check(rows)
    assert sorted((name, column, *rest) for name, column, _, *rest in made(reader)) == [
        ("eo", "month", False, True, True),
        ("eo_change", "period_start", False, True, True),
    ]


def test_a_second_upgrade_leaves_hypertables_alone(timescale, rows, reader):
    upgrade(rows)
    upgrade(rows)
    assert len(made(reader)) == 2


def test_tables_become_hypertables_when_the_extension_comes_later(rows, reader):
    upgrade(rows)
    reader.execute(STAND_IN)
    upgrade(rows)
    assert len(made(reader)) == 2


def test_a_database_without_the_extension_keeps_plain_tables(rows):
    upgrade(rows)
    with rows.transaction() as connection:
        assert make_hypertables(connection) is False


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        ("CREATE UNIQUE INDEX ON eo (id)", "without the column"),
        ("CREATE UNIQUE INDEX ON eo_change (img_a_id, img_b_id)", "without the column"),
        (
            "CREATE TABLE extra (img integer, month date, FOREIGN KEY (img, month) REFERENCES eo)",
            "a foreign key refers",
        ),
    ],
)
def test_keys_that_cannot_be_partitioned_are_told_and_nothing_is_half_made(rows, reader, breaking, message):
    upgrade(rows)
    reader.execute(breaking)
    reader.execute(STAND_IN)
    with pytest.raises(EOTasksError, match=message):
        upgrade(rows)
    assert made(reader) == []
