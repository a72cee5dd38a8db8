"""``enqueue``, ``status`` and ``retry``: talk to a running system."""

import json

import click
from rich.console import Console
from rich.table import Table

from eo_tasks.cli.options import Years, cell_options, chosen_ids
from eo_tasks.errors import PermanentError
from eo_tasks.settings import load_settings
from eo_tasks.state.connection import connect, explained
from eo_tasks.state.entry import Entry, Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.queues import queue_lengths
from eo_tasks.units import Stage, Unit

ENQUEUE_S = 60


@click.command()
@click.option("--years", type=Years(), required=True, help="2021-2023 or 2021,2023.")
@cell_options
def enqueue(years: tuple[int, ...], **selection: object) -> None:
    """Enqueue what is missing of cells × years.

    The same as celery -A eo_tasks call enqueue_years.
    """
    from celery.exceptions import TimeoutError as ResultTimeoutError

    from eo_tasks.tasks.context import pipeline
    from eo_tasks.tasks.enqueue import enqueue_years

    ids = chosen_ids(lambda: pipeline().grid, **selection)  # type: ignore[arg-type]
    with explained(load_settings().redis_url):
        connect(load_settings().broker_url).ping()
        request = enqueue_years.delay(list(years), ids)
        try:
            click.echo(json.dumps(request.get(timeout=ENQUEUE_S), indent=2))
        except ResultTimeoutError:
            raise PermanentError(
                f"The request is queued, but no control worker took it within {ENQUEUE_S} s: "
                "start one with celery -A beat worker."
            ) from None


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Show how many units of each stage and year are in which state."""
    from eo_tasks.celery import CONTROL, UNIT_QUEUES

    settings = load_settings()
    with explained(settings.redis_url):
        ledger = _ledger()
        counts = {place: ledger.counts(*place) for place in ledger.periods()}
        lengths = queue_lengths(connect(settings.broker_url), (*UNIT_QUEUES, CONTROL))
        stuck = ledger.waiting_for_a_person()
    if as_json:
        units = {f"{stage}_{period}": numbers for (stage, period), numbers in counts.items()}
        errors = {unit.id: entry.error for unit, entry in stuck.items()}
        click.echo(json.dumps({"units": units, "queues": lengths, "errors": errors}, indent=2))
        return
    console = Console()
    console.print(_counts_table(counts))
    console.print("Queued: " + ", ".join(f"{name} {length}" for name, length in lengths.items()))
    if stuck:
        console.print(failures_table(stuck))


@click.command()
@click.option("--cell", "grid_id", type=int, help="Only this cell.")
@click.option("--year", type=int, help="Only this year, or pairs with it.")
@click.option("--stage", type=click.Choice([str(stage) for stage in Stage]), help="Only this stage.")
def retry(grid_id: int | None, year: int | None, stage: str | None) -> None:
    """Try failed units again; the sweep sends them within seconds.

    Example: eo-tasks retry --cell 1041 --year 2021
    """
    settings = load_settings()
    with explained(settings.redis_url):
        ledger = _ledger()
        chosen = [
            unit
            for unit in ledger.waiting_for_a_person()
            if grid_id in (None, unit.grid_id) and (year is None or year in unit.years) and stage in (None, unit.stage)
        ]
        done = ledger.forget(chosen)
    if not done:
        raise PermanentError("No failed unit matches; see eo-tasks status.")
    click.echo(f"{done} units will be tried again within {settings.sweep_s:g} s.")


def failures_table(failures: dict[Unit, Entry], most: int = 20) -> Table:
    """Failed units with their last errors."""
    table = Table("Unit", "State", "Tries", "Error", title=f"{len(failures)} units wait for you", title_justify="left")
    for unit, entry in list(failures.items())[:most]:
        table.add_row(unit.id, str(entry.state), str(entry.attempts), entry.error)
    return table


def _counts_table(counts: dict[tuple[Stage, str], dict[State, int]]) -> Table:
    shown = [state for state in State if any(state in numbers for numbers in counts.values())]
    table = Table("Stage", "Year", *map(str, shown), title="Units", title_justify="left")
    for (stage, period), numbers in counts.items():
        table.add_row(stage, period.replace("_", "–"), *(str(numbers.get(state, 0)) for state in shown))
    return table


def _ledger() -> Ledger:
    settings = load_settings()
    return Ledger(connect(settings.result_url), Limits(settings.lease_s, settings.max_attempts, settings.max_deaths))
