"""``products``: what people open, made of what is stored."""

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click
from rasterio import Env

from eo_tasks.cli.exit_codes import SOME_FAILED
from eo_tasks.cli.network import bar
from eo_tasks.cli.options import YEARS, cell_options, chosen_ids
from eo_tasks.errors import PermanentError
from eo_tasks.settings import PipelineMode, load_settings

if TYPE_CHECKING:
    from eo_tasks.steps.pipeline import Pipeline
    from eo_tasks.steps.products import Made, Selection

KINDS = ("quicklooks", "polygons", "stac", "qgis")  # in this order: the later ones point to the earlier ones
OF_FILES = ("stac", "qgis")
SHOWN = 20  # failures that are told


class Kinds(click.ParamType[Any]):
    """Some of ``KINDS``, with commas."""

    name = ",".join(KINDS)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Read the text."""
        if isinstance(value, tuple):
            return value
        chosen = [kind.strip() for kind in str(value).split(",")]
        if unknown := [kind for kind in chosen if kind not in KINDS]:
            self.fail(f"{unknown[0]!r}: give some of {self.name}.", param, ctx)
        return tuple(kind for kind in KINDS if kind in chosen)


@click.command()
@click.option("--what", type=Kinds(), help="Only these; default: all.")
@click.option("--years", type=YEARS, help="Quicklooks and polygons of these years: 2021-2023 or 2021,2023.")
@cell_options
def products(what: tuple[str, ...] | None, years: tuple[int, ...] | None, **selection: Any) -> None:
    """Make what people open: pictures, polygons, a STAC catalog, a QGIS project.

    Of what is stored, in this process, into DATA_DIR. What is there and as it should be stays: call it as often as you
    like. The catalog and the project always hold all that is stored; polygons of some cells or years go into files of
    their own. Patches below MIN_CHANGE_HA are left out of the polygons. Ends with 3 if something could not be made, or
    nothing is stored.

    \b
    Examples:
      eo-tasks products
      eo-tasks products --what polygons --years 2022-2023
      eo-tasks products --what quicklooks,stac --cells 463,464
    """
    from eo_tasks.steps.pipeline import Pipeline
    from eo_tasks.steps.products import Selection, check_files
    from workers.resources import GDAL, gdal_cache_mb

    settings = load_settings()
    pipeline = Pipeline(settings)
    grid_ids = chosen_ids(lambda: pipeline.grid, **selection)
    chosen = Selection(None if years is None else frozenset(years), None if grid_ids is None else tuple(grid_ids))
    kinds = what or KINDS
    if what is not None and set(OF_FILES) & set(what):
        check_files(settings)
    if what is None and settings.pipeline_mode is PipelineMode.DATABASE_ONLY:
        kinds = tuple(kind for kind in KINDS if kind not in OF_FILES)
        click.echo(
            f"{' and '.join(OF_FILES)}: left out, for they point to files: eo-tasks export makes some.", err=True
        )
    pipeline.store.check()
    with Env(GDAL_CACHEMAX=gdal_cache_mb(settings, 1), **GDAL):
        made = [_tell(kind, _makers(pipeline, chosen)[kind]) for kind in kinds]
    if any(one.failures for one in made) or all(one.is_nothing for one in made):
        sys.exit(SOME_FAILED)


def _makers(pipeline: "Pipeline", chosen: "Selection") -> Mapping[str, Callable[[], "Made"]]:
    from eo_tasks.steps.products import export_polygons, make_catalog, make_project, make_quicklooks

    def quicklooks() -> "Made":
        with bar("Cells", None) as move_on:
            return make_quicklooks(pipeline, chosen, move_on)

    def polygons() -> "Made":
        with bar("Masks", None) as move_on:
            return export_polygons(pipeline, chosen, move_on)

    return {
        "quicklooks": quicklooks,
        "polygons": polygons,
        "stac": lambda: make_catalog(pipeline.settings),
        "qgis": lambda: make_project(pipeline.settings),
    }


def _tell(kind: str, make: Callable[[], "Made"]) -> "Made":
    """Make one kind, and say in one line what was made and where it is."""
    try:
        made = make()
    except PermanentError as error:
        raise type(error)(f"{kind}: {error}") from error
    counts = [f"{made.made} {made.what}"]
    if made.kept:
        counts.append(f"{made.kept} there already")
    if made.removed:
        counts.append(f"{made.removed} removed")
    if made.note:
        counts.append(made.note)
    click.echo(f"{kind}: {', '.join(counts)}: {made.where}" if not made.is_nothing else f"{kind}: nothing is stored.")
    for message in made.failures[:SHOWN]:
        click.echo(f"{kind}: not made: {message}", err=True)
    if len(made.failures) > SHOWN:
        click.echo(f"{kind}: and {len(made.failures) - SHOWN} more", err=True)
    return made
