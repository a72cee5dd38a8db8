"""Options that several commands share, and how their text is read."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from eo_tasks.grid import Bounds, Grid
from eo_tasks.ranges import read_ranges


class Ranges(click.ParamType[Any]):
    """Whole numbers, as ``2021-2023`` or ``2021,2023``.

    Args:
        name: Of what they are.
        example: How they may be given.
    """

    def __init__(self, name: str, example: str) -> None:
        self.name = name
        self.example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Read the text."""
        if isinstance(value, tuple):
            return value
        try:
            return read_ranges(str(value))
        except ValueError:
            self.fail(f"{value!r}: give {self.name} as {self.example}.", param, ctx)


YEARS = Ranges("years", "2021-2023 or 2021,2023")


class BoundingBox(click.ParamType[Any]):
    """``xmin,ymin,xmax,ymax``."""

    name = "xmin,ymin,xmax,ymax"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Bounds:
        """Read the text."""
        if isinstance(value, tuple):
            return value
        try:
            xmin, ymin, xmax, ymax = map(float, str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}: give four numbers as xmin,ymin,xmax,ymax.", param, ctx)
        return xmin, ymin, xmax, ymax


def cell_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--cells``, ``--bbox``, ``--bbox-epsg`` and ``--inside``."""
    options = (
        click.option("--cells", help="Ids or labels of cells, such as 463,464 or SI_000463."),
        click.option("--bbox", type=BoundingBox(), help="Cells that this box touches, in the grid's CRS."),
        click.option("--bbox-epsg", type=int, help="CRS of --bbox, such as 4326 for longitude and latitude."),
        click.option(
            "--inside", type=click.Path(path_type=Path), help="Cells that the polygons of this vector file touch."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def chosen_ids(
    grid: Callable[[], Grid], cells: str | None, bbox: Bounds | None, bbox_epsg: int | None, inside: Path | None
) -> Sequence[int] | None:
    """The cells that the options name; ``None`` for all of them.

    Raises:
        GridError: There is no such cell.
    """
    if sum(option is not None for option in (cells, bbox, inside)) > 1:
        raise click.UsageError("Give one of --cells, --bbox and --inside.")
    if cells is not None:
        found = grid().select(cells.replace(",", " ").split())
    elif bbox is not None:
        found = grid().within(bbox, bbox_epsg)
    elif inside is not None:
        found = grid().inside(inside)
    else:
        return None
    return [cell.grid_id for cell in found]
