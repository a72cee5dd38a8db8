"""Change polygons of any number of masks as one GeoPackage and one GeoParquet file."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow  # type: ignore[import-untyped]
import pyarrow.parquet  # type: ignore[import-untyped]
import pyogrio.raw
import shapely
from pyproj import CRS

from eo_tasks import __version__
from eo_tasks.grid import YearPair
from eo_tasks.products.polygons import ChangePolygon

LAYER = "changes"
BATCH = 10_000  # polygons in memory at once, and in a row group
GEOPARQUET_VERSION = "1.1.0"  # https://geoparquet.org/releases/v1.1.0/

_COLUMNS = pyarrow.schema(
    [
        ("grid_id", pyarrow.int64()),
        ("year_before", pyarrow.int32()),
        ("year_after", pyarrow.int32()),
        ("area_ha", pyarrow.float64()),
        ("mean_probability", pyarrow.float64()),
        ("model", pyarrow.string()),
        ("threshold", pyarrow.float64()),
    ]
)
_GEOMETRY = pyarrow.field("geometry", pyarrow.binary())  # WKB


@dataclass(frozen=True)
class PolygonFiles:
    """The two files of the same polygons."""

    geopackage: Path
    geoparquet: Path

    @classmethod
    def named(cls, folder: Path, name: str) -> "PolygonFiles":
        """Both under one name."""
        return cls(folder / f"{name}.gpkg", folder / f"{name}.parquet")

    @property
    def all(self) -> tuple[Path, Path]:
        """Both."""
        return self.geopackage, self.geoparquet


@dataclass
class PolygonWriter:
    """Writes polygons as they come, and keeps few of them in memory; use it in ``with``.

    Attributes:
        files: What is written; nobody may read them before the block ends.
        epsg: CRS of all polygons.
        description: What they are, for those who open the files.
        facts: Told in the GeoParquet file's metadata, JSON-ready.
        number: Polygons so far.
        area_ha: Their area so far, hectares.
    """

    files: PolygonFiles
    epsg: int
    description: str
    facts: Mapping[str, Any]
    number: int = field(default=0, init=False)
    area_ha: float = field(default=0.0, init=False)
    _rows: list[tuple[Any, ...]] = field(default_factory=list, init=False)
    _bounds: list[float] = field(default_factory=list, init=False)
    _open: ExitStack = field(default_factory=ExitStack, init=False)

    def __enter__(self) -> Self:
        for file in self.files.all:
            file.unlink(missing_ok=True)
        self._parquet = self._open.enter_context(
            pyarrow.parquet.ParquetWriter(self.files.geoparquet, _COLUMNS.append(_GEOMETRY), compression="zstd")
        )
        return self

    def add(self, pair: YearPair, model: str, threshold: float | None, polygons: Sequence[ChangePolygon]) -> None:
        """Add the polygons of one mask."""
        for one in polygons:
            self._rows.append(
                (
                    *(pair.grid_id, pair.before, pair.after, one.area_ha, one.mean_probability),
                    *(model, threshold, one.geometry),
                )
            )
            self.number += 1
            self.area_ha += one.area_ha
            if len(self._rows) == BATCH:
                self._flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open:
            if error is None:
                if self._rows or not self._bounds:
                    self._flush()
                self._parquet.add_key_value_metadata({"geo": self._geo(), "eo_tasks": json.dumps(dict(self.facts))})

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * (len(_COLUMNS) + 1)
        shapes = np.array(columns.pop(), dtype=object)
        geometry = np.asarray(shapely.to_wkb(shapes), dtype=object)
        table = [pyarrow.array(values, one.type) for values, one in zip(columns, _COLUMNS, strict=True)]
        self._parquet.write_table(
            pyarrow.Table.from_arrays(
                [*table, pyarrow.array(geometry, _GEOMETRY.type)], schema=_COLUMNS.append(_GEOMETRY)
            )
        )
        is_first = not self.files.geopackage.exists()
        pyogrio.raw.write(
            self.files.geopackage,
            geometry,
            field_data=[
                np.asarray(values, object if one.type == pyarrow.string() else one.type.to_pandas_dtype())
                for values, one in zip(columns, _COLUMNS, strict=True)
            ],
            fields=_COLUMNS.names,
            layer=LAYER,
            driver="GPKG",
            geometry_type="Polygon",
            crs=f"EPSG:{self.epsg}",
            append=not is_first,
            layer_options={"GEOMETRY_NAME": "geometry", "DESCRIPTION": self.description} if is_first else None,
        )
        if len(shapes):
            self._bounds = _union(self._bounds, shapely.total_bounds(shapes).tolist())
        self._rows.clear()

    def _geo(self) -> str:
        """What makes the Parquet file a GeoParquet one."""
        column: dict[str, Any] = {
            "encoding": "WKB",
            "geometry_types": ["Polygon"],
            "crs": CRS.from_epsg(self.epsg).to_json_dict(),
        }
        if self._bounds:
            column["bbox"] = self._bounds
        return json.dumps(
            {
                "version": GEOPARQUET_VERSION,
                "primary_column": _GEOMETRY.name,
                "columns": {_GEOMETRY.name: column},
                "creator": {"library": "eo-tasks", "version": __version__},
            }
        )


def _union(bounds: Sequence[float], other: Sequence[float]) -> list[float]:
    if not bounds:
        return list(other)
    return [*map(min, bounds[:2], other[:2]), *map(max, bounds[2:], other[2:])]
