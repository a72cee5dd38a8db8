"""Cells in ``grid_cells``: all of a grid that a person asked for, and at least those that have images."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from eo_tasks.grid import Cell
from eo_tasks.storage.database.geometry import WEB_MERCATOR, box, lonlat_box
from eo_tasks.storage.database.models import GridCell

AT_ONCE = 500


def put_cells(connection: Connection, cells: Sequence[Cell]) -> int:
    """Insert the cells that are not there, and move those that lie elsewhere now.

    Returns:
        How many rows were written.
    """
    known = {
        row.grid_id: (row.epsg, tuple(row.bounds), row.label)
        for row in connection.execute(select(GridCell.grid_id, GridCell.epsg, GridCell.bounds, GridCell.label))
    }
    new = [cell for cell in cells if known.get(cell.grid_id) != (cell.epsg, tuple(cell.bounds), cell.label)]
    for part in _parts(new):
        statement = insert(GridCell).values([_row(cell) for cell in part])
        names = [column.name for column in GridCell.__table__.columns if not column.primary_key]
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[GridCell.grid_id], set_={name: statement.excluded[name] for name in names}
            )
        )
    return len(new)


def add_cell(connection: Connection, cell: Cell) -> None:
    """Insert a cell unless it is there: what a grid file says of it is better than what an image does."""
    if connection.scalar(select(GridCell.grid_id).where(GridCell.grid_id == cell.grid_id)) is None:
        connection.execute(insert(GridCell).values(_row(cell)).on_conflict_do_nothing())


def _parts(cells: list[Cell]) -> list[list[Cell]]:
    return [cells[first : first + AT_ONCE] for first in range(0, len(cells), AT_ONCE)]


def _row(cell: Cell) -> dict[str, Any]:
    xmin, ymin, xmax, ymax = cell.bounds
    return {
        "grid_id": cell.grid_id,
        "index_x": round(xmin / (xmax - xmin)),
        "index_y": round(ymin / (ymax - ymin)),
        "geom": box(cell.bounds, cell.epsg, WEB_MERCATOR),
        "bbox_4326": lonlat_box(cell.bounds, cell.epsg),
        "label": cell.label,
        "epsg": cell.epsg,
        "bounds": list(cell.bounds),
    }
