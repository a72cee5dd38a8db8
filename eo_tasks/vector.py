"""Polygons out of any vector file that GDAL reads."""

from pathlib import Path
from typing import TYPE_CHECKING

from eo_tasks.errors import GridError

if TYPE_CHECKING:
    from geopandas import GeoDataFrame


def read_polygons(path: Path, layer: str | None = None) -> "GeoDataFrame":
    """Read the polygons of a layer; the first layer that has some if none is named.

    Raises:
        GridError: The file or layer is missing, cannot be read, has no polygons or no CRS.
    """
    import geopandas
    from pyogrio.errors import DataLayerError, DataSourceError

    if not path.exists():
        raise GridError(f"{path}: no such file.")
    try:
        layers = geopandas.list_layers(path)
        names = list(layers["name"])
        with_polygons = [
            name
            for name, kind in zip(names, layers["geometry_type"], strict=True)
            if "Polygon" in str(kind) or kind == "Unknown"  # a mix, such as of Polygon and MultiPolygon
        ]
        if layer is None and not with_polygons:
            raise GridError(f"{path}: no layer has polygons; it has {', '.join(names) or 'no layers'}.")
        frame = geopandas.read_file(path, layer=layer or with_polygons[0])
    except DataLayerError as error:
        raise GridError(f"{path}: no layer {layer!r}; it has {', '.join(names)}.") from error
    except DataSourceError as error:
        raise GridError(f"{path}: not a vector file that GDAL can read ({error}).") from error
    if "geometry" not in frame or frame.empty:
        raise GridError(f"{path}: layer {layer or with_polygons[0]!r} has no polygons.")
    if frame.crs is None:
        raise GridError(f"{path}: has no CRS. Write it into the file, for instance with ogr2ogr -a_srs EPSG:32633.")
    return frame
