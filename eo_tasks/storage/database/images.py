"""Composites in ``eo``: one row a cell and month, each band's bytes in a column of its own."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ARRAY, Connection, Integer, Row, Select, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import Insert, insert

from eo_tasks.errors import StorageError
from eo_tasks.grid import Cell, GridYear
from eo_tasks.raster import NODATA, Composite, Origin, PixelGrid
from eo_tasks.storage.database.cells import add_cell
from eo_tasks.storage.database.connection import BINARY, Database
from eo_tasks.storage.database.geometry import LONLAT_BOX, box_parameters
from eo_tasks.storage.database.models import COLUMN_OF, Image
from eo_tasks.storage.store import Record

MONTH = 8  # stands for the season, as ``_08`` does in the names of files
TYPE = np.dtype("<u2")
READ_BYTES = 32_000_000  # of a composite at once; a larger one comes in strips
COUNTS = "clear_count"
_KEPT = ("id", "month", "grid_id")  # by an image that is replaced: changes refer to its id
_THIS = (Image.grid_id == bindparam("cell"), Image.month == bindparam("in_month"))


def month_of(year: int) -> date:
    """First day of the month that a year's composite is filed under."""
    return date(year, MONTH, 1)


def made_at(record: Record) -> datetime | None:
    """When a record says that its file was made."""
    return datetime.fromisoformat(record["made_at"]) if record.get("made_at") else None


def gdal_transform(pixels: PixelGrid) -> list[float]:
    """From (column, row) to coordinates, in GDAL's order."""
    return list(pixels.transform.to_gdal())


def put_image(connection: Connection, grid_year: GridYear, composite: Composite, record: Record) -> None:
    """Insert a composite; one that is there is replaced and keeps its id."""
    pixels = composite.pixels
    add_cell(connection, Cell(grid_year.grid_id, pixels.epsg, pixels.bounds, record.get("label")))
    layers = dict.fromkeys(COLUMN_OF.values()) | {
        COLUMN_OF[band]: _bytes(layer) for band, layer in zip(composite.bands, composite.dn, strict=True)
    }
    row = {
        "time": datetime(grid_year.year, MONTH, 15, tzinfo=UTC),
        "month": month_of(grid_year.year),
        "grid_id": grid_year.grid_id,
        "width": pixels.width,
        "height": pixels.height,
        "data_type": composite.dn.dtype.name,
        **layers,
        "clear_count": _bytes(composite.clear_count),
        "bands": list(composite.bands),
        "epsg": pixels.epsg,
        "transform": gdal_transform(pixels),
        "nodata": NODATA,
        "checksum": record["pixels_sha256"],
        "made_at": made_at(record),
        "record": dict(record),
    }
    connection.execute(_insertion(), row | box_parameters(pixels.bounds, pixels.epsg))


@cache
def _insertion() -> Insert:
    """Made once: to put it together takes longer than to send it."""
    statement = insert(Image).values(bbox=LONLAT_BOX)
    columns = [column.name for column in Image.__table__.columns if column.computed is None]
    return statement.on_conflict_do_update(
        index_elements=[Image.grid_id, Image.month],
        set_={name: statement.excluded[name] for name in columns if name not in _KEPT},
    )


@dataclass(eq=False)
class StoredImage:
    """A composite in the database, read in strips; no connection is held between them.

    Attributes:
        checksum: Of the image that was opened: another one in its place is no more this one.
    """

    database: Database
    grid_year: GridYear
    pixels: PixelGrid
    bands: tuple[str, ...]
    checksum: str
    _held: Composite | None = field(default=None, init=False)
    _first: int = field(default=0, init=False)

    @classmethod
    def open(cls, database: Database, grid_year: GridYear) -> "StoredImage":
        """Look an image up, and read its first strip.

        Raises:
            StorageError: It is not stored, or its bytes are not what they should be.
        """
        with database.transaction(grid_year) as connection:
            row = connection.execute(_about(), _named(grid_year), execution_options=BINARY).one_or_none()
            if row is None:
                raise StorageError(
                    f"{grid_year}: no composite in the {database.login}. Enqueue that year again to make it."
                )
            image = cls(database, grid_year, _pixels(row), tuple(row.bands), row.checksum)
            image._read(connection, 0, 1)
        return image

    def rows(self, start: int, stop: int) -> Composite:
        """Some of its rows, counted from the top.

        Raises:
            StorageError: It was replaced or removed since, or its bytes are not what they should be.
        """
        if self._held is None or start < self._first or stop > self._first + self._held.pixels.height:
            with self.database.transaction(self.grid_year) as connection:
                self._read(connection, start, stop)
        return self._held.rows(start - self._first, stop - self._first)  # type: ignore[union-attr]  # it was read

    def _read(self, connection: Connection, start: int, stop: int) -> None:
        """Hold these rows, and more of them where that makes up ``READ_BYTES``."""
        row_bytes = self.pixels.width * TYPE.itemsize
        more = min(max(stop, start + READ_BYTES // (row_bytes * (len(self.bands) + 1))), self.pixels.height)
        pixels = self.pixels.rows(start, more)
        is_whole = pixels == self.pixels
        part = {} if is_whole else {"first": start * row_bytes + 1, "length": pixels.height * row_bytes}
        asked = _named(self.grid_year) | {"known": self.checksum} | part
        row = connection.execute(_layers(self.bands, is_whole), asked, execution_options=BINARY).one_or_none()
        if row is None:
            raise StorageError(f"{self.grid_year}: the composite was replaced while it was read. Enqueue it again.")
        if any(layer is None or len(layer) != pixels.height * row_bytes for layer in row):
            raise StorageError(f"{self.grid_year}: the stored composite is broken: its bytes are not width × height.")
        layers = np.stack([np.frombuffer(layer, TYPE).reshape(pixels.shape) for layer in row])
        composite = Composite(pixels, self.bands, layers[:-1], layers[-1], Origin(str(self.database.login), ""))
        if is_whole and composite.checksum != self.checksum:
            raise StorageError(f"{self.grid_year}: the stored composite is broken: its bytes have another checksum.")
        self._held, self._first = composite, start


@cache
def _about() -> Select[Any]:
    columns: list[Any] = [Image.epsg, Image.transform, Image.width, Image.height, Image.bands, Image.checksum]
    return select(*columns).where(*_THIS)


@cache
def _layers(bands: tuple[str, ...], is_whole: bool) -> Select[Any]:
    """The bytes of the bands and the counts, or the same part of each: it is read without the rest."""
    table = Image.__table__.columns
    columns = [table[name] for name in (*(COLUMN_OF[band] for band in bands), COUNTS)]
    part = bindparam("first", type_=Integer), bindparam("length", type_=Integer)
    parts = columns if is_whole else [func.substring(column, *part, type_=column.type) for column in columns]
    return select(*parts).where(*_THIS, Image.checksum == bindparam("known"))


def image_rows(
    connection: Connection, year: int, *columns: Any, among: Collection[int] | None = None
) -> Iterable[Row[Any]]:
    """Rows of the composites of that year, of these cells only."""
    statement = select(Image.grid_id, *columns).where(Image.month == month_of(year))
    if among is not None:
        statement = statement.where(Image.grid_id == any_of(among))
    return connection.execute(statement)


def any_of(grid_ids: Collection[int]) -> Any:
    """Any of these cells, as one value: a country's worth of them would be too many single ones."""
    return func.any(cast(list(grid_ids), ARRAY(Integer)))


def image_record(connection: Connection, grid_year: GridYear) -> Record | None:
    """The record of a composite."""
    found: Mapping[str, Any] | None = connection.scalar(select(Image.record).where(*_THIS), _named(grid_year))
    return found


def image_id(connection: Connection, grid_year: GridYear) -> int | None:
    """The row's id."""
    return connection.scalar(select(Image.id).where(*_THIS), _named(grid_year))


def _named(grid_year: GridYear) -> dict[str, Any]:
    return {"cell": grid_year.grid_id, "in_month": month_of(grid_year.year)}


def _pixels(row: Any) -> PixelGrid:
    x, resolution_m, _, y, *_ = row.transform
    bounds = (x, y - row.height * resolution_m, x + row.width * resolution_m, y)
    return PixelGrid(row.epsg, bounds, resolution_m)


def _bytes(layer: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(layer, TYPE).tobytes()
