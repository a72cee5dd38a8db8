"""Images in and out of PostgreSQL: ours beside bare binary COPY, psycopg2, and files.

    python -m benchmarks.database [--images 40] [--rounds 5]

Starts its own PostgreSQL. Every image is committed, or synchronised to the disk, by itself. ``psycopg2`` is its
``execute`` into a table as people make it; ``psycopg2 external`` into one whose bytes are uncompressed, as ours are.
Prints a table and writes ``benchmarks/results/database.json``.
"""

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import psycopg
import psycopg2
from rich.console import Console
from rich.table import Table

from benchmarks.orchestration.system import commit
from eo_tasks import __version__
from eo_tasks.files import write_json
from eo_tasks.grid import GridYear
from eo_tasks.raster import Composite, Origin, PixelGrid
from eo_tasks.settings import Settings, load_settings
from eo_tasks.storage.database import images, schema
from eo_tasks.storage.database.connection import Database, Login
from tests.postgres import PostgresServer, database_settings, find_postgres

RESULTS = Path(__file__).parent / "results" / "database.json"
SIDE_PX = 400
PIXELS = PixelGrid(32633, (500_000, 5_000_000, 500_000 + 10 * SIDE_PX, 5_000_000 + 10 * SIDE_PX))
BANDS = ("B02", "B03", "B04")
YEAR = 2023
WRITERS = (1, 2, 4)
COLUMNS = "grid_id, b02, b03, b04, clear_count"
BARE = "CREATE TABLE {0} (grid_id integer PRIMARY KEY, b02 bytea, b03 bytea, b04 bytea, clear_count bytea)"
EXTERNAL = tuple(
    f"ALTER TABLE {{0}} ALTER {column} SET STORAGE EXTERNAL" for column in ("b02", "b03", "b04", "clear_count")
)
TABLES = {"copied": EXTERNAL, "plain": (), "uncompressed": EXTERNAL}
EMPTY = ("TRUNCATE eo, copied, plain, uncompressed", "CHECKPOINT")


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=40)
    options.add_argument("--rounds", type=int, default=5)
    asked = options.parse_args()
    programs = find_postgres()
    if programs is None:
        raise SystemExit("PostgreSQL with PostGIS is needed.")
    with PostgresServer(programs, settings={"max_wal_size": "4GB", "shared_buffers": "512MB"}) as server:
        server.create_database("bench")
        environment = database_settings(server.admin_environment("bench"))
        schema.upgrade(Database(Login.of_admin(load_settings(**environment))))
        with server.connect("bench") as connection:
            version = connection.execute("SHOW server_version").fetchone()
            for table, more in TABLES.items():
                for statement in (BARE, *more):
                    connection.execute(statement.format(table))

            def clear() -> None:
                for statement in EMPTY:
                    connection.execute(statement)

            found: dict[str, dict[str, float]] = {}
            for writers in WRITERS:
                found |= measure(writers, asked.images, asked.rounds, environment, clear)
        found = dict(sorted(found.items(), key=lambda item: item[0].startswith("read")))
    about = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "commit": commit(),
        "cores": os.cpu_count(),
        "postgresql": None if version is None else version[0],
        "timescaledb": None,
        "image_bytes": len(image().dn.tobytes()) + image().clear_count.nbytes,
        "images_each": asked.images,
        "rounds": asked.rounds,
    }
    write_json(RESULTS, {**about, "mb_per_s": found})
    report(found)


def report(found: Mapping[str, Mapping[str, float]]) -> None:
    """Print MB/s, and ours as shares of the others."""
    names = list(next(iter(found.values())))
    table = Table("All together, MB/s", *names, *(f"ours / {name}" for name in names[1:]))
    for what, rates in found.items():
        shares = (f"{rates[names[0]] / rates[name]:.2f}" for name in names[1:])
        table.add_row(what, *(f"{rates[name]:.0f}" for name in names), *shares)
    Console().print(table)


def measure(
    writers: int, number: int, rounds: int, environment: Mapping[str, str], clear: Callable[[], None]
) -> dict[str, dict[str, float]]:
    """MB/s of all processes together, by direction and way; each round has every way, another one first."""
    rates: dict[str, dict[str, list[float]]] = {way: {way: [] for way in WAYS} for way in ("write", "read")}
    size = image().dn.nbytes + image().clear_count.nbytes
    with TemporaryDirectory() as folder, ProcessPoolExecutor(writers, mp_context=get_context("spawn")) as pool:
        for turn in range(rounds + 1):  # the first one warms up
            clear()
            for direction, found in rates.items():
                for way in rotated(list(WAYS), turn):
                    jobs = [
                        (direction, way, first * (number + 1), number, dict(environment), folder)
                        for first in range(writers)
                    ]
                    spans = list(pool.map(work, jobs))
                    seconds = max(end for _, end in spans) - min(begun for begun, _ in spans)
                    if turn:
                        found[way].append(size * number * writers / seconds / 1e6)
    return {
        f"{direction} × {writers}": {way: round(median(values), 1) for way, values in found.items()}
        for direction, found in rates.items()
    }


def rotated(ways: list[str], turn: int) -> list[str]:
    """The ways, with another one first each time."""
    first = turn % len(ways)
    return ways[first:] + ways[:first]


def work(job: tuple[str, str, int, int, dict[str, str], str]) -> tuple[float, float]:
    """Do one process's part; gives when it began and ended."""
    direction, way, first, number, environment, folder = job
    with WAYS[way](load_settings(**environment), Path(folder)) as (write, read):
        do = write if direction == "write" else read
        do(first + number)  # connects, and fills caches
        begun = perf_counter()
        for grid_id in range(first, first + number):
            do(grid_id)
        return begun, perf_counter()


def image() -> Composite:
    """A composite of fields and noise, which gains little when it is compressed, as real ones do."""
    if not _images:
        rng = np.random.default_rng(1)
        fields = np.kron(rng.integers(300, 4_000, (len(BANDS), SIDE_PX // 20, SIDE_PX // 20)), np.ones((20, 20)))
        dn = (fields + rng.normal(0, 40, fields.shape)).clip(1).astype(np.uint16)
        _images.append(Composite(PIXELS, BANDS, dn, dn[0], Origin("bench", "")))
    return _images[0]


_images: list[Composite] = []
Way = tuple[Callable[[int], object], Callable[[int], object]]


def layers() -> list[bytes]:
    """The bytes of the composite's bands and counts."""
    return [layer.tobytes() for layer in (*image().dn, image().clear_count)]


def arrays(parts: Sequence[Any]) -> list[np.ndarray]:
    """Bytes as pixels: what every reader has to end with."""
    return [np.frombuffer(part, np.uint16).reshape(PIXELS.shape) for part in parts]


@contextmanager
def ours(settings: Settings, _: Path) -> Iterator[Way]:
    """What the store does with a composite in memory."""
    database = Database(Login.of_worker(settings))
    record = {"pixels_sha256": image().checksum, "made_at": None, "source": "bench"}

    def write(grid_id: int) -> None:
        grid_year = GridYear(grid_id, YEAR)
        with database.transaction(grid_year) as connection:
            images.put_image(connection, grid_year, image(), record)

    def read(grid_id: int) -> Composite:
        return images.StoredImage.open(database, GridYear(grid_id, YEAR)).rows(0, SIDE_PX)

    yield write, read
    database.close()


@contextmanager
def copy(settings: Settings, _: Path) -> Iterator[Way]:
    """Bare binary COPY of the same bytes into a table of nothing else."""
    with closing(psycopg.connect(**_login(settings))) as connection:

        def write(grid_id: int) -> None:
            with connection.cursor().copy(f"COPY copied ({COLUMNS}) FROM STDIN (FORMAT binary)") as rows:
                rows.set_types(["int4", *["bytea"] * 4])
                rows.write_row([grid_id, *layers()])
            connection.commit()

        def read(grid_id: int) -> list[np.ndarray]:
            query = f"COPY (SELECT {COLUMNS} FROM copied WHERE grid_id = {grid_id:d}) TO STDOUT (FORMAT binary)"  # noqa: S608
            with connection.cursor().copy(query) as rows:
                rows.set_types(["int4", *["bytea"] * 4])
                found = list(rows.rows())
            connection.commit()
            return arrays(found[0][1:])

        yield write, read


def psycopg_2(table: str, settings: Settings, _: Path) -> Iterator[Way]:
    """psycopg2's ``execute``."""
    with closing(psycopg2.connect(**_login(settings))) as connection, connection.cursor() as cursor:

        def write(grid_id: int) -> None:
            values = [grid_id, *map(psycopg2.Binary, layers())]
            cursor.execute(f"INSERT INTO {table} ({COLUMNS}) VALUES (%s, %s, %s, %s, %s)", values)  # noqa: S608
            connection.commit()

        def read(grid_id: int) -> list[np.ndarray]:
            cursor.execute(f"SELECT {COLUMNS} FROM {table} WHERE grid_id = %s", [grid_id])  # noqa: S608
            row = cursor.fetchone()
            connection.commit()
            return arrays(row[1:])

        yield write, read


@contextmanager
def disk(_: Settings, folder: Path) -> Iterator[Way]:
    """Files of the same bytes, each synchronised to the disk."""

    def write(grid_id: int) -> None:
        with (folder / str(grid_id)).open("wb") as file:
            for layer in layers():
                file.write(layer)
            file.flush()
            os.fsync(file.fileno())

    def read(grid_id: int) -> np.ndarray:
        return np.frombuffer((folder / str(grid_id)).read_bytes(), np.uint16).reshape(4, *PIXELS.shape)

    yield write, read


WAYS = {
    "ours": ours,
    "copy": copy,
    "psycopg2": contextmanager(partial(psycopg_2, "plain")),
    "psycopg2 external": contextmanager(partial(psycopg_2, "uncompressed")),
    "disk": disk,
}


def _login(settings: Settings) -> dict[str, Any]:
    password = settings.db_password
    return {
        "host": settings.db_host,
        "port": settings.db_port,
        "dbname": settings.db_name,
        "user": settings.db_user,
        "password": None if password is None else password.get_secret_value(),
    }


if __name__ == "__main__":
    main()
