"""``download``, ``store`` and ``btc --years``: one stage alone, in this process, without a queue."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rasterio import Env

from eo_tasks.cli.exit_codes import SOME_FAILED
from eo_tasks.cli.network import OPTIONS, bar, settings_from, torch_needed
from eo_tasks.cli.options import YEARS, cell_options, chosen_ids
from eo_tasks.errors import EmptyCompositeError
from eo_tasks.settings import Settings, load_settings
from eo_tasks.steps import Outcome

if TYPE_CHECKING:
    from eo_tasks.steps.alone import BTCProcessor, Ending, Follow, ImageStore, Processed, SentinelDownloader
    from eo_tasks.units import Unit

_years = click.option("--years", type=YEARS, required=True, help="2023, 2021-2023 or 2021,2023.")
_json = click.option("--json", "as_json", is_flag=True, help="What was done, for programs.")


@click.command()
@_years
@cell_options
@_json
def download(years: tuple[int, ...], as_json: bool, **selection: Any) -> None:
    """Make composites in this process.

    One after the other; eo-tasks store takes them from there. Needs no Redis and no worker. What is stored or staged is
    skipped. A cell that fails does not keep the others from being made; it is tried again by the same command. Ends
    with 3 if some fail, or nothing is found at all.

    \b
    Examples:
      eo-tasks download --years 2023
      eo-tasks download --years 2023 --cells 463
    """
    from eo_tasks.steps.alone import SentinelDownloader

    with _at_work(load_settings(), "Downloads") as follow:
        made = _process(SentinelDownloader(follow=follow), years, selection)
    _tell(made, as_json=as_json, empty="no imagery")


@click.command()
@_years
@cell_options
@_json
def store(years: tuple[int, ...], as_json: bool, **selection: Any) -> None:
    """Store composites that were downloaded.

    Needs no Redis and no worker. What is stored is skipped. Ends with 3 if some fail, or there is nothing to store.

    \b
    Examples:
      eo-tasks store --years 2023
      eo-tasks store --years 2023 --cells 463
    """
    from eo_tasks.steps.alone import ImageStore

    with _at_work(load_settings(), "Composites") as follow:
        made = _process(ImageStore(follow=follow), years, selection)
    _tell(made, as_json=as_json, empty="nothing staged")


@click.command()
@click.option("--years", type=YEARS, required=True, help="Two or more: 2022-2023 or 2021,2023.")
@cell_options
@_json
@settings_from(*OPTIONS)
def stored(years: tuple[int, ...], as_json: bool, settings: Settings, **selection: Any) -> None:
    """Map the change between stored composites of consecutive years, into the store.

    Needs no Redis and no worker. Masks are named after the earlier year. What is stored already, made by the same
    network and settings of the same composites, is skipped. Ends with 3 if some fail, or no pair is stored.

    \b
    Examples:
      eo-tasks btc --years 2022-2023
      eo-tasks btc --years 2021-2023 --cells 463,464 --device cuda
    """
    if len(set(years)) < 2:
        raise click.UsageError("--years: give two or more, such as 2022-2023.")
    with torch_needed():
        from eo_tasks.btc import series  # noqa: F401  # before anything is read
        from eo_tasks.steps.alone import BTCProcessor

    with _at_work(settings, "Pairs") as follow:
        made = _process(BTCProcessor(settings, follow), years, selection)
    _tell(made, as_json=as_json, empty="without both composites")


def _process(
    stage: "SentinelDownloader | ImageStore | BTCProcessor", years: tuple[int, ...], selection: dict[str, Any]
) -> "Processed":
    ids: Sequence[int] | None = chosen_ids(lambda: stage.pipeline.grid, **selection)
    return stage.process(years, ids)


@contextmanager
def _at_work(settings: Settings, what: str) -> Iterator["Follow"]:
    """GDAL as the workers have it, and a count on the terminal; failures are told as they come."""
    from workers.resources import GDAL, gdal_cache_mb

    with Env(GDAL_CACHEMAX=gdal_cache_mb(settings, 1), **GDAL), bar(what, None) as move_on:

        def follow(unit: "Unit", ending: "Ending") -> None:
            move_on(1)
            if not isinstance(ending, Outcome | EmptyCompositeError):
                click.echo(f"{unit.id} failed: {type(ending).__name__}: {ending}", err=True)

        yield follow


def _tell(made: "Processed", *, as_json: bool, empty: str) -> None:
    """Say what was done, and leave with 3 where that is not well."""
    if as_json:
        failures = {unit.id: f"{type(error).__name__}: {error}" for unit, error in made.failures.items()}
        counts = {"done": made.done, "skipped": made.skipped, "empty": made.empty, "failed": made.failed}
        click.echo(json.dumps({"stage": str(made.stage), **counts, "failures": failures}, indent=2))
    else:
        told = f"{made.done} made, {made.skipped} there already, {made.empty} {empty}, {made.failed} failed"
        click.echo(f"{made.stage}: {told}.")
    if made.failed or not made.done + made.skipped:
        sys.exit(SOME_FAILED)
