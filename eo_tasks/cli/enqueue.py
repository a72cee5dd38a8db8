"""``enqueue`` and ``plan``: ask a running system for cells × years, or look first at what that would do."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from eo_tasks.cli.deeds import write_down
from eo_tasks.cli.options import YEARS, cell_options, chosen_ids
from eo_tasks.errors import PermanentError
from eo_tasks.settings import load_settings
from eo_tasks.state.connection import connect, explained
from eo_tasks.units import Stage

ENQUEUE_S = 60
YEARS_OPTION = click.option("--years", type=YEARS, required=True, help="2021-2023 or 2021,2023.")
RESUME_OPTION = click.option(
    "--resume/--no-resume", default=True, show_default=True, help="Keep what is stored, or make all anew."
)


@click.command()
@YEARS_OPTION
@cell_options
@RESUME_OPTION
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def plan(years: tuple[int, ...], resume: bool, as_json: bool, **selection: Any) -> None:
    """Show what a request would do, skip and cost.

    It changes nothing.

    \b
    Examples:
      eo-tasks plan --years 2022-2024
      eo-tasks plan --years 2022-2024 --inside area.geojson --json
    """
    _plan(years, _chosen(selection), resume=resume, as_json=as_json)


@click.command()
@YEARS_OPTION
@cell_options
@RESUME_OPTION
@click.option("--dry-run", is_flag=True, help="Change nothing: the same as eo-tasks plan.")
@click.option("--json", "as_json", is_flag=True, help="The dry run for programs.")
def enqueue(years: tuple[int, ...], resume: bool, dry_run: bool, as_json: bool, **selection: Any) -> None:
    """Enqueue what is missing of cells × years.

    Prints a summary as JSON. The same as celery -A eo_tasks call enqueue_years. With --no-resume, outputs that are
    stored are replaced one by one, as the new ones are made.

    \b
    Examples:
      eo-tasks enqueue --years 2022-2024
      eo-tasks enqueue --years 2022,2024 --cells 463,464
      eo-tasks enqueue --years 2022-2024 --bbox 14.4,46.0,14.6,46.1 --bbox-epsg 4326
    """
    ids = _chosen(selection)
    if dry_run:
        _plan(years, ids, resume=resume, as_json=as_json)
        return
    with explained(load_settings().redis_url):
        connect(load_settings().broker_url).ping()
        answer = _ask(years, ids, resume=resume)
        write_down("enqueue", str(answer["run"]), f"{answer['planned']} units planned, {answer['enqueued']} enqueued")
    click.echo(json.dumps(answer, indent=2))


def _chosen(selection: Mapping[str, Any]) -> Sequence[int] | None:
    from eo_tasks.tasks.context import pipeline

    return chosen_ids(lambda: pipeline().grid, **selection)


def _plan(years: tuple[int, ...], ids: Sequence[int] | None, *, resume: bool, as_json: bool) -> None:
    from eo_tasks.tasks.enqueue import make_run

    with explained(load_settings().redis_url):
        connect(load_settings().broker_url).ping()
        show_forecast(make_run(years, ids, resume=resume), as_json=as_json)


def show_forecast(run: Any, *, as_json: bool) -> None:
    """Print what a request would do."""
    from eo_tasks.tasks.forecast import forecast

    made = forecast(run)
    kinds = {
        "todo": "To do",
        "done": "Stored already",
        "in_flight": "In flight",
        "stuck": "Failed",
        "empty": "No imagery",
        "blocked": "After a failed one",
    }
    if as_json:
        units = {str(stage): {what: made.number(stage, what) for what in kinds} for stage in Stage}
        busy = {str(stage): seconds for stage, seconds in made.busy_s.items()}
        facts = {"run": run.id, "units": units, "stale_masks": made.stale_masks}
        facts["requests"] = made.requests
        click.echo(json.dumps(facts | {"credits": made.credits, "busy_s": busy}, indent=2))
        return
    title = f"Run {run.id}: {len(run.wanted.grid_ids)} cells, {len(run.wanted.years)} years; nothing was changed"
    table = Table("Stage", *kinds.values(), "Time", title=title, title_justify="left")
    for stage in Stage:
        numbers = (str(made.number(stage, what)) for what in kinds)
        table.add_row(str(stage), *numbers, _duration(made.busy_s[stage]))
    console = Console()
    console.print(table)
    downloads = made.number(Stage.DOWNLOAD, "todo")
    by = "" if made.requests is None else f" by {made.requests} requests"
    cost = "unknown until the first job tells its cost" if made.credits is None else f"about {made.credits:,.0f}"
    click.echo(f"{made.stale_masks} stale masks, {downloads} downloads{by}; credits: {cost}.")
    limit = load_settings().openeo_max_credits
    if made.credits is not None and limit is not None and made.credits > limit:
        click.echo(f"The run will be paused before it has cost OPENEO_MAX_CREDITS={limit:g}.")
    click.echo("Times are for workers as there were; 'unknown' until units of that stage were made.")


def _ask(years: tuple[int, ...], ids: Any, *, resume: bool) -> Any:
    from celery.exceptions import TimeoutError as ResultTimeoutError

    from eo_tasks.tasks.enqueue import enqueue_years

    request = enqueue_years.delay(list(years), ids, resume)
    try:
        return request.get(timeout=ENQUEUE_S)
    except ResultTimeoutError:
        raise PermanentError(
            f"The request is queued, but no control worker took it within {ENQUEUE_S} s: "
            "start one with celery -A beat worker."
        ) from None


def _duration(seconds: float | None) -> str:
    return "unknown" if seconds is None else str(timedelta(seconds=round(seconds)))
