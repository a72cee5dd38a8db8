"""``eo-tasks grid``: look at a grid file, or make one."""

from pathlib import Path

import click

from eo_tasks.cli.options import cell_options, chosen_ids
from eo_tasks.grid import Bounds, Grid
from eo_tasks.grid_file import make_grid, read_grid


@click.group()
def grid() -> None:
    """Look at a grid file, or make one.

    \b
    Examples:
      eo-tasks grid make --border slovenia.geojson --out slovenia.gpkg
      eo-tasks grid show slovenia.gpkg --cells 463
    """


@grid.command()
@click.option("--border", type=click.Path(path_type=Path), required=True, help="Vector file with the area's polygons.")
@click.option("--size", "size_m", type=int, default=5000, show_default=True, help="Side of a cell, metres.")
@click.option("--epsg", type=int, help="Projected CRS in metres; default: the UTM zone of the area.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("grid.gpkg"), show_default=True)
def make(border: Path, size_m: int, epsg: int | None, out: Path) -> None:
    """Cover an area with square cells.

    Example: eo-tasks grid make --border slovenia.geojson --size 5000 --out slovenia.gpkg
    """
    _describe(make_grid(border, size_m, out, epsg))


@grid.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--layer", help="Layer of the file; default: the first with polygons.")
@cell_options
def show(
    path: Path, layer: str | None, cells: str | None, bbox: Bounds | None, bbox_epsg: int | None, inside: Path | None
) -> None:
    """Check a grid file and list the cells that a selection takes.

    Example: eo-tasks grid show slovenia.gpkg --bbox 14.4,46.0,14.6,46.1 --bbox-epsg 4326
    """
    checked = read_grid(path, layer)
    _describe(checked)
    ids = chosen_ids(lambda: checked, cells, bbox, bbox_epsg, inside)
    for cell in checked.select(ids) if ids is not None else ():
        label = f" {cell.label}" if cell.label else ""
        click.echo(f"{cell.grid_id}{label} {','.join(f'{value:.2f}' for value in cell.bounds)}")


def _describe(grid: Grid) -> None:
    ids = sorted(cell.grid_id for cell in grid.cells)
    click.echo(f"{grid.path}: {len(grid.cells)} cells, ids {ids[0]} to {ids[-1]}, EPSG:{grid.epsg}")
