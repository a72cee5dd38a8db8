"""The tables. ``grid_cells``, ``eo`` and ``eo_change`` have readers outside this project: names and meanings stay."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, ClassVar

from geoalchemy2 import Geography, Geometry
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Computed,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    LargeBinary,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

BANDS = (*(f"B{number:02}" for number in range(1, 9)), "B8A", *(f"B{number:02}" for number in range(9, 13)))
COLUMN_OF = {band: band.lower() for band in BANDS}  # of Sentinel-2, in the table ``eo``

_Box = Geography("POLYGON", srid=4326, spatial_index=False)


class Base(DeclarativeBase):
    """What all tables share."""

    type_annotation_map: ClassVar[Mapping[Any, Any]] = {
        float: Double,
        str: Text,
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text),
        list[float]: ARRAY(Double),
        dict[str, Any]: JSON,  # and not JSONB: a record is exported byte by byte as it was
    }


class GridCell(Base):
    """One square of the grid.

    Attributes:
        index_x: Column in the grid's lattice, counted in cells from the origin of its CRS.
        index_y: Row, likewise, northwards.
    """

    __tablename__ = "grid_cells"

    grid_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    index_x: Mapped[int]
    index_y: Mapped[int]
    geom: Mapped[Any] = mapped_column(Geometry("POLYGON", srid=3857, spatial_index=False))
    bbox_4326: Mapped[Any] = mapped_column(_Box)
    label: Mapped[str | None]
    epsg: Mapped[int]
    bounds: Mapped[list[float]]


class Image(Base):
    """One composite; a band that it lacks is null.

    Attributes:
        time: The 15th of the composite's month, UTC.
        month: Its first day.
        data_type: numpy's name of what the band bytes are, row by row from the north-west; little-endian.
        clear_count: Clear observations of each pixel, of the same type and shape.
        bands: Names of the composite's bands, in its order.
        transform: From (column, row) to coordinates of ``epsg``, as GDAL orders it.
        checksum: Fingerprint of the pixels.
        record: The JSON that lies beside the composite in local files.
    """

    __tablename__ = "eo"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    time: Mapped[datetime]
    month: Mapped[date] = mapped_column(Date, primary_key=True)
    grid_id: Mapped[int] = mapped_column(ForeignKey("grid_cells.grid_id"))
    bbox: Mapped[Any] = mapped_column(_Box)
    width: Mapped[int]
    height: Mapped[int]
    data_type: Mapped[str]
    b01: Mapped[bytes | None]
    b02: Mapped[bytes | None]
    b03: Mapped[bytes | None]
    b04: Mapped[bytes | None]
    b05: Mapped[bytes | None]
    b06: Mapped[bytes | None]
    b07: Mapped[bytes | None]
    b08: Mapped[bytes | None]
    b8a: Mapped[bytes | None]
    b09: Mapped[bytes | None]
    b10: Mapped[bytes | None]
    b11: Mapped[bytes | None]
    b12: Mapped[bytes | None]
    clear_count: Mapped[bytes | None] = mapped_column(LargeBinary)
    year: Mapped[int] = mapped_column(Computed("extract(year FROM month)::integer"))
    bands: Mapped[list[str]]
    epsg: Mapped[int]
    transform: Mapped[list[float]]
    nodata: Mapped[float | None]
    checksum: Mapped[str]
    made_at: Mapped[datetime | None]
    record: Mapped[dict[str, Any]]


class Change(Base):
    """One change mask. The smaller of the two image ids comes first; which image is the earlier one, the periods tell.

    Attributes:
        period_start: Month of the earlier image.
        period_end: Month of the later image.
        mask: 255 where changed, else 0; uint8.
        probability: Probability × 254 rounded, 255 where either year has no data; uint8.
        model: Name of the network.
    """

    __tablename__ = "eo_change"

    img_a_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    img_b_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    grid_id: Mapped[int] = mapped_column(ForeignKey("grid_cells.grid_id"))
    period_start: Mapped[date] = mapped_column(Date, primary_key=True)
    period_end: Mapped[date] = mapped_column(Date)
    bbox: Mapped[Any] = mapped_column(_Box)
    width: Mapped[int]
    height: Mapped[int]
    data_type: Mapped[str]
    mask: Mapped[bytes]
    probability: Mapped[bytes | None]
    year_before: Mapped[int] = mapped_column(Computed("extract(year FROM period_start)::integer"))
    year_after: Mapped[int] = mapped_column(Computed("extract(year FROM period_end)::integer"))
    epsg: Mapped[int]
    transform: Mapped[list[float]]
    checksum: Mapped[str]
    model: Mapped[str]
    threshold: Mapped[float]
    changed_ha: Mapped[float]
    seen_ha: Mapped[float]
    made_at: Mapped[datetime | None]
    record: Mapped[dict[str, Any]]


class ChangePolygon(Base):
    """One connected patch of change of a mask; goes and comes with it."""

    __tablename__ = "eo_change_polygons"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    img_a_id: Mapped[int]
    img_b_id: Mapped[int]
    grid_id: Mapped[int] = mapped_column(ForeignKey("grid_cells.grid_id"))
    period_start: Mapped[date] = mapped_column(Date)
    period_end: Mapped[date] = mapped_column(Date)
    geom: Mapped[Any] = mapped_column(Geometry("POLYGON", srid=4326, spatial_index=False))
    area_ha: Mapped[float]
    mean_probability: Mapped[float]
