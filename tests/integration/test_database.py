"""Composites and masks in a real PostgreSQL: its schema, its readers, its failures, its roles."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
import pytest
import rasterio
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import text

from eo_tasks.change import ChangeMap
from eo_tasks.cog import read_composite, write_composite
from eo_tasks.errors import EOTasksError, StorageError, StorageFullError, StoreUnavailableError
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.products.mask import MaskFiles, mask_tags, read_mask_layers, write_mask_files
from eo_tasks.raster import Composite, Origin, PixelGrid
from eo_tasks.storage import StagedImage
from eo_tasks.storage.database import images, schema
from eo_tasks.storage.database.connection import Database, Login
from eo_tasks.storage.database.models import Base
from eo_tasks.storage.database.roles import OWNER, READER, TABLES, VIEWS, WRITER, role_name
from eo_tasks.storage.database.schema import check, upgrade
from eo_tasks.storage.database.store import DatabaseStore
from tests.postgres import PostgresServer

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),  # rasterio's own
]

REPOSITORY = Path(__file__).parents[2]
DEADLINE_S = 60
PIXELS = PixelGrid(32633, (500_000, 5_000_000, 500_060, 5_000_040))  # 6 × 4, around (500 030, 5 000 020)
CELL_YEAR = GridYear(463, 2022)
PAIR = YearPair(463, 2022, 2023)
RECIPE = {"checkpoint": "a/b"}
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC).isoformat(timespec="milliseconds")
DN = np.arange(72, dtype=np.uint16).reshape(3, 4, 6) * 500
PROBABILITY = np.array([[0.9, 0.9, 0, 0, 0, 0], [0] * 6, [0, 0, 0, 0.8, 0, 0], [0] * 5 + [np.nan]], np.float32)


@pytest.fixture
def login(database: dict[str, str], postgres_server: PostgresServer) -> Iterator[Login]:
    """The superuser's, to an empty database; afterwards the roles named after the database are dropped."""
    yield login_of(database)
    if not postgres_server.is_running:
        postgres_server.start()
    drop_roles(postgres_server, database["DB_NAME"])


@pytest.fixture
def open_database() -> Iterator[Callable[[Login], Database]]:
    """Open databases that are closed after the test."""
    with ExitStack() as opened:
        yield lambda login: opened.enter_context(closing(Database(login)))


@pytest.fixture
def store(login: Login, open_database: Callable[[Login], Database]) -> DatabaseStore:
    """An empty store with this version's tables."""
    database = open_database(login)
    upgrade(database)
    return DatabaseStore(database)


@pytest.fixture
def reader(login: Login) -> Iterator[psycopg.Connection]:
    """A connection of somebody outside this project."""
    with connected(login) as connection:
        yield connection


@pytest.fixture
def add_login(login: Login, postgres_server: PostgresServer) -> Callable[[str], Login]:
    """Make a login that is a member of one of the database's roles."""

    def add(kind: str) -> Login:
        member = replace(login, user=f"{login.database}_a_{kind}", password=SecretStr("its-own-secret"))
        role = role_name(login.database, kind)
        with postgres_server.connect() as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} IN ROLE {}").format(
                    sql.Identifier(member.user), sql.Literal("its-own-secret"), sql.Identifier(role)
                )
            )
        return member

    return add


@pytest.fixture
def image(tmp_path: Path) -> Callable[..., StagedImage]:
    """Make a checked composite on its way into the store."""

    def make(grid_year: GridYear = CELL_YEAR, add: int = 0) -> StagedImage:
        cog = tmp_path / "made" / f"{grid_year.download_id}_{add}.tiff"
        composite = Composite(PIXELS, ("B02", "B03", "B04"), DN + np.uint16(add), DN[0] % 7, Origin("stac", "c"))
        write_composite(cog, composite)
        record = {"grid_id": grid_year.grid_id, "year": grid_year.year, "source": "stac", "made_at": NOON}
        return StagedImage(cog, record | {"pixels_sha256": composite.checksum})

    return make


@pytest.fixture
def mask(tmp_path: Path) -> Callable[..., tuple[MaskFiles, dict[str, Any]]]:
    """Make the files and the record of a mask."""

    def make(pair: YearPair = PAIR) -> tuple[MaskFiles, dict[str, Any]]:
        files = MaskFiles.beside(tmp_path / "made" / f"{pair.btc.id}.png")
        change = ChangeMap(PIXELS, PROBABILITY, 0.2)
        write_mask_files(files, change, mask_tags(pair.before, pair.after))
        record = {"recipe": RECIPE, "model": {"checkpoint": "a/b"}, "threshold": 0.2, "made_at": NOON}
        pixels = {"pixels_sha256": read_mask_layers(files).checksum}
        return files, record | pixels | {"changed_ha": change.changed_ha, "seen_ha": change.seen_ha}

    return make


def login_of(environment: dict[str, str]) -> Login:
    host, port, name, user, password = (
        environment[f"DB_{part}"] for part in ("HOST", "PORT", "NAME", "USER", "PASSWORD")
    )
    return Login(host, int(port), name, user, SecretStr(password), "prefer")


def connected(login: Login) -> psycopg.Connection:
    place = {"host": login.host, "port": login.port, "dbname": login.database}
    password = login.password.get_secret_value() if login.password else None
    return psycopg.connect(**place, user=login.user, password=password, autocommit=True)


def drop_roles(server: PostgresServer, database: str) -> None:
    with server.connect(database) as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO postgres").format(sql.Identifier(database)))
        found = connection.execute("SELECT rolname FROM pg_roles WHERE starts_with(rolname, %s)", [f"{database}_"])
        for (name,) in found.fetchall():
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


def put_both(store: DatabaseStore, image: Callable[..., StagedImage], pair: YearPair = PAIR) -> None:
    for grid_year in pair.grid_years:
        store.put_image(grid_year, image(grid_year))


def one(connection: psycopg.Connection, statement: str) -> Any:
    """The one row of an answer, or its one value."""
    (row,) = connection.execute(statement).fetchall()
    return row[0] if len(row) == 1 else row


def count(connection: psycopg.Connection, table: str) -> int:
    (row,) = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchall()
    return int(row[0])


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about in time"
        threading.Event().wait(0.01)


# Migration


def test_an_upgrade_twice_is_one_upgrade(store, reader):
    tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    before = one(reader, tables)
    assert upgrade(store.database) == (schema.newest(), schema.newest())
    assert one(reader, tables) == before
    assert count(reader, "eo_tasks_schema") == 1


def test_an_upgrade_leaves_what_is_stored(store, image):
    staged = image()
    store.put_image(CELL_YEAR, staged)
    upgrade(store.database)
    assert store.image_record(CELL_YEAR) == staged.record


def test_two_upgrades_at_the_same_time_both_succeed(login, open_database, reader):
    found: list[tuple[str | None, str]] = []
    reader.execute("SELECT pg_advisory_lock(%s)", [schema.LOCK])
    threads = [threading.Thread(target=lambda: found.append(upgrade(open_database(login)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
    wait_until(lambda: one(reader, waiting) == 2)
    reader.execute("SELECT pg_advisory_unlock(%s)", [schema.LOCK])
    for thread in threads:
        thread.join(DEADLINE_S)
    assert sorted(found, key=str) == sorted([(None, schema.newest()), (schema.newest(), schema.newest())], key=str)
    check(open_database(login))


def test_an_upgrade_that_fails_changes_nothing(login, open_database, reader):
    reader.execute("CREATE VIEW eo_coverage AS SELECT 1 AS somebodys")
    with pytest.raises(StorageError, match="eo_coverage"):
        upgrade(open_database(login))
    assert one(reader, "SELECT to_regclass('eo') IS NULL AND to_regclass('eo_tasks_schema') IS NULL")


def test_the_tables_are_the_ones_that_the_models_describe(store, reader):
    for name, table in Base.metadata.tables.items():
        rows = reader.execute(
            "SELECT column_name, is_nullable FROM information_schema.columns WHERE table_name = %s", [name]
        ).fetchall()
        described = {column.name: column.nullable or column.computed is not None for column in table.columns}
        assert {column: nullable == "YES" for column, nullable in rows} == described, name


# What is told of a database that cannot be used


def failure_of_check(login: Login, kind: type[EOTasksError] = StorageError) -> str:
    """The message of ``check``: one line, and the password nowhere in it or in the errors behind it."""
    database = Database(login)
    with closing(database), pytest.raises(kind) as caught:
        check(database)
    assert type(caught.value) is kind
    everything = "".join(traceback.format_exception(caught.value))
    assert login.password is None or login.password.get_secret_value() not in everything
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_database_without_tables_is_told(login):
    assert failure_of_check(login).endswith("has no tables of ours. Run: eo-tasks db upgrade")


def test_a_database_without_postgis_is_told(login, postgres_server, open_database):
    name = f"test_{uuid4().hex}"
    postgres_server.create_database(name, template="template1")
    bare = replace(login, database=name)
    try:
        assert failure_of_check(bare).endswith("CREATE EXTENSION postgis")
        with closing(Database(bare)) as database, pytest.raises(StorageError, match="has no PostGIS"):
            upgrade(database)
    finally:
        postgres_server.drop_database(name)


def test_an_older_schema_is_told(store, login, monkeypatch):
    monkeypatch.setattr(schema, "newest", lambda: "0002")
    assert failure_of_check(login).endswith("has the schema 0001, this version needs 0002. Run: eo-tasks db upgrade")


def test_an_unknown_schema_is_told_and_not_upgraded(store, login, reader):
    reader.execute("UPDATE eo_tasks_schema SET version_num = '9999'")
    assert failure_of_check(login).endswith("has the schema 9999 of a later version: update eo-tasks.")
    with pytest.raises(StorageError, match="9999 of a later version"):
        upgrade(store.database)
    assert one(reader, "SELECT version_num FROM eo_tasks_schema") == "9999"


def test_a_wrong_password_is_told(login):
    message = failure_of_check(replace(login, password=SecretStr("not-the-password")))
    assert "password authentication failed" in message
    assert message.endswith("Set DB_USER and DB_PASSWORD to a login that it knows.")


def test_no_password_is_told(login, monkeypatch):
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    assert failure_of_check(replace(login, password=None)).endswith("Set DB_PASSWORD.")


def test_an_unknown_database_is_told(login):
    message = failure_of_check(replace(login, database="nowhere"))
    assert 'database "nowhere" does not exist' in message
    assert message.endswith("eo-tasks db init")


def test_a_refused_connection_is_told_and_passes(login, postgres_server):
    postgres_server.stop()
    message = failure_of_check(login, StoreUnavailableError)
    assert f"{login} does not answer" in message
    assert "Connection refused" in message


def test_a_server_without_tls_is_told_where_tls_is_asked_for(login):
    message = failure_of_check(replace(login, sslmode="require"))
    assert "does not support SSL" in message
    assert "DB_SSLMODE=prefer" in message


# What readers outside this project rely on


def test_the_columns_of_eo_have_their_names_and_types(store, reader):
    statement = (
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = 'eo'::regclass AND attnum > 0 ORDER BY attnum"
    )
    columns = dict(reader.execute(statement).fetchall())
    bands = [*(f"b{number:02}" for number in range(1, 9)), "b8a", "b09", "b10", "b11", "b12"]
    expected = {
        "id": "integer",
        "time": "timestamp with time zone",
        "month": "date",
        "grid_id": "integer",
        "bbox": "geography(Polygon,4326)",
        "width": "integer",
        "height": "integer",
        "data_type": "text",
        **dict.fromkeys(bands, "bytea"),
    }
    assert list(columns.items())[: len(expected)] == list(expected.items())
    assert columns["clear_count"] == "bytea"
    assert (columns["epsg"], columns["transform"]) == ("integer", "double precision[]")


def test_a_band_is_numpys_bytes_of_the_composite(store, reader, image):
    store.put_image(CELL_YEAR, image())
    row = one(reader, "SELECT b02, b03, b04, clear_count, data_type, height, width FROM eo")
    layers = [np.frombuffer(layer, row[4]).reshape(row[5], row[6]) for layer in row[:4]]
    np.testing.assert_array_equal(layers, [*DN, DN[0] % 7])
    assert one(reader, "SELECT b01 IS NULL AND b8a IS NULL AND bands = '{B02,B03,B04}' FROM eo")


def test_an_image_is_of_the_middle_of_august(store, reader, image):
    store.put_image(CELL_YEAR, image())
    moment, month, year = one(reader, "SELECT time, month, year FROM eo")
    assert moment == datetime(2022, 8, 15, tzinfo=UTC)
    assert (month, year) == (date(2022, 8, 1), 2022)


def test_an_image_knows_where_it_lies(store, reader, image):
    store.put_image(CELL_YEAR, image())
    assert one(reader, "SELECT epsg, transform FROM eo") == (32633, [500_000, 10, 0, 5_000_040, 0, -10])
    cover = (
        "SELECT ST_Covers(bbox, centre::geography), ST_Covers(bbox_4326, centre::geography), "
        "ST_Covers(geom, ST_Transform(centre, 3857)) FROM eo JOIN grid_cells USING (grid_id), "
        "ST_Transform(ST_SetSRID(ST_MakePoint(500030, 5000020), 32633), 4326) AS centre"
    )
    assert one(reader, cover) == (True, True, True)
    # 24 pixels of 100 m²; a metre of UTM is 0.9996 m on the ground at the central meridian.
    assert one(reader, "SELECT ST_Area(bbox) FROM eo") == pytest.approx(2400, rel=0.005)


def test_a_mask_is_the_pixels_of_its_png(store, reader, image, mask):
    put_both(store, image)
    files, record = mask()
    store.put_mask(PAIR, files, record)
    stored, kind, height, width = one(reader, "SELECT mask, data_type, height, width FROM eo_change")
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), rasterio.open(files.png) as png:
        np.testing.assert_array_equal(np.frombuffer(stored, kind).reshape(height, width), png.read(1))
    assert np.frombuffer(stored, kind).sum() == 3 * 255
    period = one(reader, "SELECT period_start, period_end, year_before, year_after FROM eo_change")
    assert period == (date(2022, 8, 1), date(2023, 8, 1), 2022, 2023)


def test_a_masks_probability_tells_unseen_pixels(store, reader, image, mask):
    put_both(store, image)
    store.put_mask(PAIR, *mask())
    probability = np.frombuffer(one(reader, "SELECT probability FROM eo_change"), np.uint8).reshape(4, 6)
    assert (probability[0, 0], probability[1, 0], probability[3, 5]) == (229, 0, 255)  # 0.9 × 254 = 228.6


def test_patches_of_change_are_polygons_with_their_area(store, reader, image, mask):
    put_both(store, image)
    store.put_mask(PAIR, *mask())
    store.put_mask(PAIR, *mask())
    areas = reader.execute("SELECT area_ha, ST_Area(geom::geography) FROM eo_change_polygons ORDER BY 1").fetchall()
    assert [area_ha for area_ha, _ in areas] == pytest.approx([0.01, 0.02])
    assert [area for _, area in areas] == pytest.approx([100, 200], rel=0.005)


def test_the_smaller_image_id_comes_first_though_the_later_year_was_stored_first(store, reader, image, mask):
    for grid_year in reversed(PAIR.grid_years):
        store.put_image(grid_year, image(grid_year))
    store.put_mask(PAIR, *mask())
    ids = dict(reader.execute("SELECT year, id FROM eo").fetchall())
    assert ids[2023] < ids[2022]
    assert one(reader, "SELECT img_a_id, img_b_id FROM eo_change") == (ids[2023], ids[2022])
    assert one(reader, "SELECT image_before_id, image_after_id FROM eo_changes") == (ids[2022], ids[2023])
    assert one(reader, "SELECT year_before, year_after FROM eo_changes") == (2022, 2023)


def test_bands_are_stored_uncompressed(store, reader):
    statement = (
        "SELECT attname FROM pg_attribute WHERE attrelid = 'eo'::regclass "
        "AND atttypid = 'bytea'::regtype AND attstorage <> 'e'"
    )
    assert reader.execute(statement).fetchall() == []
    assert one(reader, "SELECT attstorage FROM pg_attribute WHERE attrelid = 'eo'::regclass AND attname = 'b02'") == "e"


# Twice is once


def test_a_replaced_image_keeps_its_id(store, reader, image):
    store.put_image(CELL_YEAR, image())
    before = one(reader, "SELECT id, checksum FROM eo")
    store.put_image(CELL_YEAR, image(add=1))
    after = one(reader, "SELECT id, checksum FROM eo")
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_a_band_that_the_replacing_image_lacks_is_gone(store, reader, image, tmp_path):
    store.put_image(CELL_YEAR, image())
    lesser = Composite(PIXELS, ("B02", "B03"), DN[:2], DN[0], Origin("stac", "c"))
    write_composite(tmp_path / "lesser.tiff", lesser)
    store.put_image(CELL_YEAR, StagedImage(tmp_path / "lesser.tiff", {"grid_id": 463, "year": 2022}))
    assert one(reader, "SELECT b04 IS NULL AND bands = '{B02,B03}' FROM eo")


def test_a_mask_is_there_once_after_its_composite_was_deleted_and_stored_again(store, reader, image, mask, tmp_path):
    put_both(store, image)
    store.put_mask(PAIR, *mask())
    reader.execute("DELETE FROM eo WHERE year = 2022")
    put_both(store, image)
    store.put_mask(PAIR, *mask())
    assert count(reader, "eo_change") == 1
    assert count(reader, "eo_change_polygons") == 2
    store.mask_files(PAIR, tmp_path)


# Other processes

OPENED = """
import json, os, sys
from pathlib import Path
from pydantic import SecretStr
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.products.mask import MaskFiles
from eo_tasks.storage import StagedImage
from eo_tasks.storage.database.connection import Database, Login
from eo_tasks.storage.database.store import DatabaseStore

work = json.loads(Path(sys.argv[1]).read_text())
store = DatabaseStore(Database(Login(*work["login"][:4], SecretStr(os.environ["PASSWORD"]), "prefer")))
staged = [(GridYear(*unit), StagedImage(Path(cog), record)) for unit, cog, record in work["images"]]

def ready():
    print("ready", flush=True)
    sys.stdin.readline()
"""
PUTS = """
pair, png, record = work["mask"]
ready()
for _ in range(5):
    for grid_year, image in staged:
        store.put_image(grid_year, image)
    store.put_mask(YearPair(*pair), MaskFiles.beside(Path(png)), record)
store.database.close()
"""
DIES = """
from eo_tasks.cog import read_composite
from eo_tasks.storage.database.images import put_image

(grid_year, image), *_ = staged
with store.database.transaction(grid_year) as connection:
    put_image(connection, grid_year, read_composite(image.cog), image.record)
    ready()
"""
FORKS = """
(grid_year, image), *_ = staged
store.put_image(grid_year, image)
with store.database.transaction() as connection:  # a connection that is lent out is inherited too
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            try:
                own = GridYear(number, 2022)
                for _ in range(5):
                    store.put_image(own, image)
                    store.put_image(grid_year, image)
                    assert store.get_image(own).checksum == store.get_image(grid_year).checksum
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    connection.exec_driver_sql("SELECT 1")
assert codes == [0] * 4, codes
assert store.image_ids(2022) == {0, 1, 2, 3, grid_year.grid_id}
store.database.close()
"""


@contextmanager
def started(script: str, login: Login, work: dict[str, Any], folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a script on the database in a process of its own, which is gone when the block ends."""
    order = folder / f"{uuid4().hex}.json"
    order.write_text(json.dumps({"login": [login.host, login.port, login.database, login.user], **work}))
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    secret = login.password.get_secret_value() if login.password else ""
    with subprocess.Popen(
        [sys.executable, "-c", OPENED + script, str(order)],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(REPOSITORY), "PASSWORD": secret},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def work_of(image: Callable[..., StagedImage], pair: YearPair = PAIR) -> dict[str, Any]:
    made = [(grid_year, image(grid_year)) for grid_year in pair.grid_years]
    return {
        "images": [((unit.grid_id, unit.year), str(staged.cog), dict(staged.record)) for unit, staged in made],
    }


def await_ready(process: "subprocess.Popen[str]") -> None:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == "ready\n", line + (process.stderr.read() if process.stderr else "")


def finish(process: "subprocess.Popen[str]") -> None:
    _, errors = process.communicate("go\n", timeout=DEADLINE_S)
    assert process.returncode == 0, errors


def test_two_processes_that_put_the_same_at_once_make_one_row(store, login, reader, image, mask, tmp_path):
    files, record = mask()
    work = work_of(image) | {"mask": ((463, 2022, 2023), str(files.png), record)}
    with started(PUTS, login, work, tmp_path) as first, started(PUTS, login, work, tmp_path) as second:
        for process in (first, second):
            await_ready(process)
        assert first.stdin is not None
        first.stdin.write("go\n")
        first.stdin.flush()
        for process in (second, first):
            finish(process)
    assert {table: count(reader, table) for table in TABLES} == {
        "grid_cells": 1,
        "eo": 2,
        "eo_change": 1,
        "eo_change_polygons": 2,
    }


def test_a_process_that_is_killed_in_mid_insert_leaves_nothing(store, login, reader, image, tmp_path):
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    store.database.close()
    with started(DIES, login, work_of(image), tmp_path) as process:
        await_ready(process)
        assert one(reader, others) == 1
        process.kill()
        process.wait(DEADLINE_S)
    wait_until(lambda: one(reader, others) == 0)
    assert count(reader, "eo") == 0
    assert count(reader, "grid_cells") == 0
    store.put_image(CELL_YEAR, image())
    assert count(reader, "eo") == 1


def test_forked_children_use_connections_of_their_own(store, login, reader, image, tmp_path):
    with started(FORKS, login, work_of(image), tmp_path) as process:
        finish(process)
    assert count(reader, "eo") == 5


# A server that goes away


def test_a_crash_of_the_server_in_a_transaction_passes_and_leaves_nothing(store, postgres_server, image):
    def put_through_a_crash() -> None:
        with store.database.transaction(CELL_YEAR) as connection:
            images.put_image(connection, CELL_YEAR, read_composite(image().cog), image().record)
            postgres_server.restart_immediately()
            connection.execute(text("SELECT 1"))

    with pytest.raises(StoreUnavailableError, match=r"^Cell 463, 2022: "):
        put_through_a_crash()
    assert not store.has_image(CELL_YEAR)
    store.put_image(CELL_YEAR, image())
    assert store.image_record(CELL_YEAR) == image().record


def test_a_crash_of_the_server_before_the_commit_passes_and_leaves_nothing(store, postgres_server, image):
    def put_before_a_crash() -> None:
        with store.database.transaction(CELL_YEAR) as connection:
            images.put_image(connection, CELL_YEAR, read_composite(image().cog), image().record)
            postgres_server.restart_immediately()

    with pytest.raises(StoreUnavailableError, match=r"^Cell 463, 2022: "):
        put_before_a_crash()
    assert not store.has_image(CELL_YEAR)
    store.put_image(CELL_YEAR, image())


def test_a_crash_of_the_server_between_transactions_goes_unnoticed(store, postgres_server, image):
    store.put_image(CELL_YEAR, image())
    postgres_server.restart_immediately()
    np.testing.assert_array_equal(store.get_image(CELL_YEAR).dn, DN)


def test_a_store_is_used_again_once_the_server_is_back(store, postgres_server, image):
    postgres_server.stop()
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        store.put_image(CELL_YEAR, image())
    postgres_server.start()
    store.put_image(CELL_YEAR, image())
    assert store.has_image(CELL_YEAR)


def test_a_connection_that_an_administrator_ends_passes(store, reader):
    def be_ended() -> None:
        with store.database.transaction() as connection:
            connection.execute(text("SELECT 1"))
            reader.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'eo-tasks'")
            connection.execute(text("SELECT 1"))

    with pytest.raises(StoreUnavailableError):
        be_ended()
    store.check()


# A full disk


@pytest.fixture
def small_disk(postgres_server: PostgresServer) -> Iterator[Path]:
    """A file system of 4 MB that the server may use."""
    folder = Path(tempfile.mkdtemp(dir=postgres_server.folder))
    owner = postgres_server.folder.stat()
    access = f"size=4m,mode=700,uid={owner.st_uid},gid={owner.st_gid}"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", access, "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("this account may not mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def noise(tmp_path: Path) -> Callable[[int], StagedImage]:
    """Make a composite of 1.5 MB that does not compress, of that year."""

    def make(year: int) -> StagedImage:
        cog = tmp_path / "made" / f"noise_{year}.tiff"
        dn = np.random.default_rng(year).integers(1, 10_000, (3, 500, 500), np.uint16)
        pixels = PixelGrid(32633, (500_000, 5_000_000, 505_000, 5_005_000))
        composite = Composite(pixels, ("B02", "B03", "B04"), dn, np.full((500, 500), 4, np.uint16), Origin("stac", "c"))
        write_composite(cog, composite)
        return StagedImage(cog, {"year": year, "made_at": NOON, "pixels_sha256": composite.checksum})

    return make


def test_a_full_disk_is_told_and_what_was_stored_before_stays(store, reader, postgres_server, small_disk, noise):
    reader.execute(sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(str(small_disk))))
    reader.execute("ALTER TABLE eo SET TABLESPACE small")
    store.put_image(GridYear(463, 2021), noise(2021))
    with pytest.raises(StorageFullError, match=r"^Cell 463, 2022: the disk of .* is full .* Make room"):
        store.put_image(GridYear(463, 2022), noise(2022))
    assert store.image_ids(2022) == set()
    np.testing.assert_array_equal(store.get_image(GridYear(463, 2021)).dn, read_composite(noise(2021).cog).dn)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    store.put_image(GridYear(463, 2022), noise(2022))
    assert count(reader, "eo") == 2
    reader.execute("ALTER TABLE eo SET TABLESPACE pg_default")
    reader.execute("DROP TABLESPACE small")


# Strips


def test_strips_make_up_the_whole(store, image, monkeypatch):
    store.put_image(CELL_YEAR, image())
    whole = store.get_image(CELL_YEAR)
    monkeypatch.setattr(images, "READ_BYTES", 2 * 6 * 2 * 4)  # two rows of six pixels in three bands and the counts
    with store.open_image(CELL_YEAR) as opened:
        for start, stop in ((0, 1), (1, 2), (1, 3), (3, 4), (0, 2), (0, 4)):
            strip = opened.rows(start, stop)
            assert strip.pixels == PIXELS.rows(start, stop)
            np.testing.assert_array_equal(strip.dn, whole.dn[:, start:stop])
            np.testing.assert_array_equal(strip.clear_count, whole.clear_count[start:stop])


@pytest.mark.parametrize("change", ["UPDATE eo SET checksum = 'another'", "DELETE FROM eo"])
def test_an_image_that_is_gone_between_two_strips_is_told(store, reader, image, monkeypatch, change):
    store.put_image(CELL_YEAR, image())
    monkeypatch.setattr(images, "READ_BYTES", 1)
    with store.open_image(CELL_YEAR) as opened:
        opened.rows(0, 1)
        reader.execute(change)
        with pytest.raises(StorageError, match=r"^Cell 463, 2022: the composite was replaced while it was read\."):
            opened.rows(1, 2)


def test_an_image_that_is_replaced_between_two_strips_is_told(store, image, monkeypatch):
    store.put_image(CELL_YEAR, image())
    monkeypatch.setattr(images, "READ_BYTES", 1)
    with store.open_image(CELL_YEAR) as opened:
        opened.rows(0, 1)
        store.put_image(CELL_YEAR, image(add=1))
        with pytest.raises(StorageError, match="replaced while it was read"):
            opened.rows(1, 2)


@pytest.mark.parametrize("value", ["NULL", r"'\x00'", "set_byte(b03, 5, 255)"])
def test_an_image_with_broken_bytes_is_told(store, reader, image, value):
    store.put_image(CELL_YEAR, image())
    reader.execute(sql.SQL("UPDATE eo SET b03 = {}").format(sql.SQL(value)))
    with pytest.raises(StorageError, match=r"^Cell 463, 2022: the stored composite is broken: "):
        store.get_image(CELL_YEAR)


# Roles


def test_a_writer_puts_images_and_masks(store, add_login, open_database, image, mask):
    writing = DatabaseStore(open_database(add_login(WRITER)))
    writing.check()
    put_both(writing, image)
    writing.put_mask(PAIR, *mask())
    put_both(writing, image)
    writing.put_mask(PAIR, *mask())
    assert store.has_mask(PAIR, RECIPE)


@pytest.mark.parametrize("statement", ["DROP TABLE eo", "ALTER TABLE eo ADD COLUMN mine text", "TRUNCATE eo"])
def test_a_writer_cannot_change_the_tables(store, add_login, open_database, statement):
    writing = open_database(add_login(WRITER))
    with pytest.raises(StorageError, match=r"must be owner|permission denied"), writing.transaction() as connection:
        connection.execute(text(statement))
    check(writing)


def test_a_reader_reads_everything_and_writes_nothing(store, add_login, open_database, image, mask):
    put_both(store, image)
    store.put_mask(PAIR, *mask())
    member = add_login(READER)
    reading = DatabaseStore(open_database(member))
    reading.check()
    np.testing.assert_array_equal(reading.get_image(CELL_YEAR).dn, DN)
    with connected(member) as connection:
        assert all(count(connection, name) > 0 for name in (*TABLES, *VIEWS))
    with pytest.raises(StorageError, match=r"^Cell 463, 2022: .*permission denied.*Grant DB_USER the writer role: "):
        reading.put_image(CELL_YEAR, image(add=1))


def test_a_member_of_the_owner_upgrades_and_the_tables_belong_to_the_role(
    login, add_login, open_database, postgres_server, reader, image
):
    owner = role_name(login.database, OWNER)
    with postgres_server.connect() as connection:
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(owner)))
        connection.execute(
            sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(login.database), sql.Identifier(owner))
        )
    owning = open_database(add_login(OWNER))
    assert upgrade(owning) == (None, schema.newest())
    assert upgrade(owning) == (schema.newest(), schema.newest())
    owners = (
        "SELECT array_agg(DISTINCT pg_get_userbyid(relowner)::text), count(*) FROM pg_class WHERE relname = ANY(%s)"
    )
    names = [*TABLES, *VIEWS, schema.VERSION_TABLE]
    assert reader.execute(owners, [names]).fetchone() == ([owner], len(names))
    DatabaseStore(owning).put_image(CELL_YEAR, image())
    assert upgrade(open_database(login)) == (schema.newest(), schema.newest())  # now as the superuser
    writing = DatabaseStore(open_database(add_login(WRITER)))
    writing.put_image(CELL_YEAR, image(add=1))


# TLS


@pytest.fixture
def tls_login(tls_postgres_server: PostgresServer) -> Iterator[Login]:
    """The superuser's, to a database that serves TLS, whose certificate is checked."""
    name = f"test_{uuid4().hex}"
    tls_postgres_server.create_database(name)
    login = login_of(tls_postgres_server.admin_environment(name))
    yield replace(login, sslmode="verify-full", sslrootcert=str(tls_postgres_server.certificate))
    drop_roles(tls_postgres_server, name)
    tls_postgres_server.drop_database(name)


def test_the_connection_is_encrypted_where_the_certificate_is_the_right_one(tls_login, open_database):
    database = open_database(tls_login)
    upgrade(database)
    check(database)
    with database.transaction() as connection:
        assert connection.scalar(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"))


def test_a_server_with_another_certificate_is_refused(tls_login, tmp_path):
    other = tmp_path / "other.crt"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost"]
    written = ["-keyout", str(tmp_path / "other.key"), "-out", str(other)]
    subprocess.run(["openssl", "req", *kind, *written], check=True, capture_output=True)
    message = failure_of_check(replace(tls_login, sslrootcert=str(other)))
    assert "certificate verify failed" in message
    assert message.endswith("DB_SSLROOTCERT has to hold the certificate that vouches for it.")


def test_a_certificate_file_that_is_missing_is_told(tls_login, tmp_path):
    message = failure_of_check(replace(tls_login, sslrootcert=str(tmp_path / "none.crt")))
    assert message.endswith("Set DB_SSLROOTCERT to the file that vouches for it.")
