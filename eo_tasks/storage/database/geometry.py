"""Places as PostGIS has them, made there from bounds in the CRS of the grid."""

from typing import Any

from geoalchemy2 import Geography, Geometry
from sqlalchemy import ColumnElement, Double, Integer, bindparam, cast, func

from eo_tasks.grid import Bounds

LONLAT, WEB_MERCATOR = 4326, 3857


def box(bounds: Bounds, epsg: int, to: int) -> ColumnElement[Any]:
    """A rectangle of one CRS as a polygon in another."""
    return _transformed(func.ST_MakeEnvelope(*bounds, epsg), to)


def lonlat_box(bounds: Bounds, epsg: int) -> ColumnElement[Any]:
    """A rectangle as a geography."""
    return _lonlat(func.ST_MakeEnvelope(*bounds, epsg))


def _transformed(shape: ColumnElement[Any], to: int) -> ColumnElement[Any]:
    return func.ST_Transform(shape, to, type_=Geometry("POLYGON", srid=to))


def _lonlat(shape: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(_transformed(shape, LONLAT), Geography("POLYGON", srid=LONLAT))


_EDGES = ("xmin", "ymin", "xmax", "ymax")
_ENVELOPE = func.ST_MakeEnvelope(*(bindparam(edge, type_=Double) for edge in _EDGES), bindparam("crs", type_=Integer))
LONLAT_BOX = _lonlat(_ENVELOPE)  # of a statement that is made once; its place comes with the parameters


def box_parameters(bounds: Bounds, epsg: int) -> dict[str, float]:
    """What a statement with ``LONLAT_BOX`` in it is executed with."""
    return {**dict(zip(_EDGES, bounds, strict=True)), "crs": epsg}
