"""Change masks in ``eo_change``, and their polygons in ``eo_change_polygons``."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from sqlalchemy import Connection, Row, and_, bindparam, delete, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import aliased

from eo_tasks.change import CHANGED, UNCHANGED, UNSEEN
from eo_tasks.errors import StorageError
from eo_tasks.grid import YearPair
from eo_tasks.products.mask import MaskLayers, picture_of
from eo_tasks.products.polygons import ChangePolygon as Polygon
from eo_tasks.products.polygons import change_polygons
from eo_tasks.raster import PixelGrid
from eo_tasks.storage.database.connection import BINARY
from eo_tasks.storage.database.geometry import LONLAT, lonlat_box
from eo_tasks.storage.database.images import any_of, gdal_transform, image_id, made_at, month_of
from eo_tasks.storage.database.models import Change, ChangePolygon, Image
from eo_tasks.storage.store import Record, is_made_of, is_of_recipe

_KEY = ("img_a_id", "img_b_id", "period_start")


def put_mask(connection: Connection, pair: YearPair, layers: MaskLayers, record: Record) -> None:
    """Insert a mask and its polygons; one that is there is replaced.

    Raises:
        StorageError: Its composites are not in the database.
    """
    pixels = layers.pixels
    key = _key(connection, pair)
    statement = upsert(Change).values(
        **key,
        grid_id=pair.grid_id,
        period_end=month_of(pair.after),
        bbox=lonlat_box(pixels.bounds, pixels.epsg),
        width=pixels.width,
        height=pixels.height,
        data_type=layers.classes.dtype.name,
        mask=picture_of(layers.classes).tobytes(),
        probability=layers.probability.tobytes(),
        epsg=pixels.epsg,
        transform=gdal_transform(pixels),
        checksum=record["pixels_sha256"],
        model=str((record.get("model") or {}).get("checkpoint", "")),
        threshold=record["threshold"],
        changed_ha=record["changed_ha"],
        seen_ha=record["seen_ha"],
        made_at=made_at(record),
        record=dict(record),
    )
    columns = [column.name for column in Change.__table__.columns if column.computed is None]
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(_KEY),
            set_={name: statement.excluded[name] for name in columns if name not in _KEY},
        )
    )
    # A composite that was deleted and stored again has another id: the mask of the old one has another key.
    has_key = and_(*(getattr(Change, name) == value for name, value in key.items()))
    connection.execute(delete(Change).where(*_is(pair), ~has_key))
    connection.execute(delete(ChangePolygon).where(*_is(pair, ChangePolygon)))
    polygons = change_polygons(layers.changed, layers.probability, pixels)
    if polygons:
        shape = func.ST_Transform(func.ST_GeomFromWKB(bindparam("wkb"), pixels.epsg), LONLAT)
        place = key | {"grid_id": pair.grid_id, "period_end": month_of(pair.after), "geom": shape}
        connection.execute(insert(ChangePolygon).values(place), [_patch(polygon) for polygon in polygons])


def read_mask(connection: Connection, pair: YearPair) -> tuple[MaskLayers, Record] | None:
    """A mask and its record.

    Raises:
        StorageError: Its bytes are not what they should be.
    """
    columns = (Change.epsg, Change.transform, Change.width, Change.height, Change.mask, Change.probability)
    statement = select(*columns, Change.checksum, Change.record).where(*_is(pair))
    row = connection.execute(statement, execution_options=BINARY).one_or_none()
    if row is None:
        return None
    layers = _layers(row)
    if layers is None or layers.checksum != row.checksum:
        raise StorageError(f"{pair}: the stored mask is broken: its bytes are not what they should be.")
    return layers, row.record


def mask_record(connection: Connection, pair: YearPair) -> Record | None:
    """The record of a mask."""
    return connection.scalar(select(Change.record).where(*_is(pair)))


def mask_records(connection: Connection, before: int, among: Collection[int] | None) -> dict[YearPair, Record]:
    """Records of the masks from a year on to any other."""
    statement = select(Change.grid_id, Change.year_after, Change.record).where(Change.period_start == month_of(before))
    if among is not None:
        statement = statement.where(Change.grid_id == any_of(among))
    return {YearPair(row.grid_id, before, row.year_after): row.record for row in connection.execute(statement)}


@dataclass(frozen=True)
class Standing:
    """What of one mask decides whether it has to be made again.

    Attributes:
        is_current: It was made by the recipe asked for, of the composites that are stored now.
    """

    grid_id: int
    record: Record
    is_current: bool


def standings(
    connection: Connection, before: int, after: int, recipe: Record, among: Collection[int] | None
) -> Iterable[Standing]:
    """How the masks of two years stand."""
    earlier, later = aliased(Image), aliased(Image)
    statement = (
        select(
            Change.grid_id,
            Change.record["recipe"].label("recipe"),
            Change.record["images_sha256"].label("images_sha256"),
            Change.record["made_at"].label("made_at"),
            earlier.checksum.label("earlier_pixels"),
            earlier.record["sha256"].label("earlier_file"),
            later.checksum.label("later_pixels"),
            later.record["sha256"].label("later_file"),
        )
        .outerjoin(earlier, (earlier.grid_id == Change.grid_id) & (earlier.month == Change.period_start))
        .outerjoin(later, (later.grid_id == Change.grid_id) & (later.month == Change.period_end))
        .where(Change.period_start == month_of(before), Change.period_end == month_of(after))
    )
    if among is not None:
        statement = statement.where(Change.grid_id == any_of(among))
    for row in connection.execute(statement):
        record = {"recipe": row.recipe, "images_sha256": row.images_sha256, "made_at": row.made_at}
        images = [
            None if pixels is None else {"pixels_sha256": pixels, "sha256": file}
            for pixels, file in ((row.earlier_pixels, row.earlier_file), (row.later_pixels, row.later_file))
        ]
        yield Standing(row.grid_id, record, is_of_recipe(record, recipe) and is_made_of(record, images))


def _key(connection: Connection, pair: YearPair) -> dict[str, Any]:
    ids = [image_id(connection, grid_year) for grid_year in pair.grid_years]
    if missing := [str(year) for year, one in zip((pair.before, pair.after), ids, strict=True) if one is None]:
        raise StorageError(
            f"{pair}: the composites of {' and '.join(missing)} are not in the database, so its mask cannot be either. "
            "Copy them there first: eo-tasks sync"
        )
    first, second = sorted(one for one in ids if one is not None)
    return {"img_a_id": first, "img_b_id": second, "period_start": month_of(pair.before)}


def _is(pair: YearPair, table: type[Change] | type[ChangePolygon] = Change) -> tuple[Any, ...]:
    return (
        table.grid_id == pair.grid_id,
        table.period_start == month_of(pair.before),
        table.period_end == month_of(pair.after),
    )


def _patch(polygon: Polygon) -> dict[str, Any]:
    return {
        "wkb": shapely.to_wkb(polygon.geometry),
        "area_ha": polygon.area_ha,
        "mean_probability": polygon.mean_probability,
    }


def _layers(row: Row[Any]) -> MaskLayers | None:
    size = row.width * row.height
    if row.probability is None or {len(row.mask), len(row.probability)} != {size}:
        return None
    x, resolution_m, _, y, *_ = row.transform
    bounds = (x, y - row.height * resolution_m, x + row.width * resolution_m, y)
    pixels = PixelGrid(row.epsg, bounds, resolution_m)
    mask, probability = (np.frombuffer(part, np.uint8).reshape(pixels.shape) for part in (row.mask, row.probability))
    classes = np.where(probability == UNSEEN, UNSEEN, np.where(mask > 0, CHANGED, UNCHANGED)).astype(np.uint8)
    return MaskLayers(pixels, classes, probability)
