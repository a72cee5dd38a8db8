"""Places as PostGIS has them, made there from bounds in the CRS of the grid."""

from typing import Any

from geoalchemy2 import Geography, Geometry
from sqlalchemy import ColumnElement, cast, func

from eo_tasks.grid import Bounds

LONLAT, WEB_MERCATOR = 4326, 3857


def box(bounds: Bounds, epsg: int, to: int) -> ColumnElement[Any]:
    """A rectangle of one CRS as a polygon in another."""
    return func.ST_Transform(func.ST_MakeEnvelope(*bounds, epsg), to, type_=Geometry("POLYGON", srid=to))


def lonlat_box(bounds: Bounds, epsg: int) -> ColumnElement[Any]:
    """A rectangle as a geography."""
    return cast(box(bounds, epsg, LONLAT), Geography("POLYGON", srid=LONLAT))
