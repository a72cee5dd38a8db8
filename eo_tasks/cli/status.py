"""``status``: where a running system stands."""

import json
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from threading import Event
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from eo_tasks.cli.board import board
from eo_tasks.cli.failures import failures_table
from eo_tasks.errors import BrokerError
from eo_tasks.overview.known import Known
from eo_tasks.overview.letters import WAITING
from eo_tasks.overview.summary import Summary, read_summary
from eo_tasks.settings import load_settings
from eo_tasks.state.connection import explained
from eo_tasks.state.entry import State

SHOWN_FAILURES = 20


@click.command()
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@click.option(
    "--every", "every_s", type=click.FloatRange(0.1), default=2, show_default=True, help="With --watch: seconds."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(watch: bool, every_s: float, as_json: bool) -> None:
    """Show where everything stands: stages, rate, time left, failures.

    Queues, workers and runs too; --json has it as the HTTP API does.

    \b
    Examples:
      eo-tasks status
      eo-tasks status --watch
      eo-tasks status --json
    """
    from eo_tasks.tasks.context import known

    if watch and as_json:
        raise click.UsageError("Give one of --watch and --json.")
    url = load_settings().redis_url
    if watch:
        _watch(known(), url, every_s)
        return
    with explained(url):
        summary = read_summary(known())
        workers = known().workers.all()
        stuck = known().ledger.waiting_for_a_person(most=SHOWN_FAILURES)
    if as_json:
        errors = {unit.id: entry.error for unit, entry in stuck.items()}
        reports = [asdict(worker) | {"is_alive": worker.is_alive(summary.at)} for worker in workers]
        click.echo(json.dumps({**_facts(summary), "errors": errors, "workers": reports}, indent=2))
        return
    console = Console()
    console.print(board(summary, workers))
    console.print(_counts_table(summary))
    if stuck:
        console.print(failures_table(stuck, number=summary.stuck))


def _watch(known: Known, url: str, every_s: float) -> None:
    """Show the board until a person has seen enough; a Redis that does not answer is waited for."""
    pause, console = Event(), Console()
    try:
        with Live(auto_refresh=False, console=console) if console.is_terminal else nullcontext() as live:
            while True:
                if live is None:  # a file or a pipe: one below the other
                    console.print(_look(known, url))
                else:
                    live.update(_look(known, url), refresh=True)
                pause.wait(every_s)
    except KeyboardInterrupt:
        return  # the system goes on; only looking ends


def _look(known: Known, url: str) -> RenderableType:
    try:
        with explained(url):
            return board(read_summary(known), known.workers.all())
    except BrokerError as error:
        return Text(f"{error} It is asked again.", "bold red")


def _facts(summary: Summary) -> dict[str, Any]:
    """In short, and as the dashboard's API gives it."""
    return {
        "runs": {run.id: str(run.state) for run in summary.runs},
        "units": {
            f"{stage.stage}_{period.period}": _known(period.states)
            for stage in summary.stages
            for period in stage.periods
            if _known(period.states)
        },
        "queues": dict(summary.queues),
        "waiting_for_a_person": summary.stuck,
        "orders": dict(summary.orders),
        "credits": {run.id: run.credits for run in summary.runs if run.credits},
        "notes": {run.id: run.note for run in summary.runs if run.note},
        "accounts": dict(summary.accounts),
        "summary": asdict(summary),
    }


def _known(states: Mapping[str, int]) -> dict[str, int]:
    """Without the units that nothing is known of."""
    return {state: number for state, number in states.items() if state in list(State)}


def _counts_table(summary: Summary) -> Table:
    periods = [(stage.stage, period) for stage in summary.stages for period in stage.periods]
    names = [WAITING, *map(str, State)]
    shown = [name for name in names if any(period.states.get(name) for _, period in periods)]
    table = Table("Stage", "Year", *shown, title="Units", title_justify="left")
    for stage, period in periods:
        numbers = (str(period.states.get(name, 0)) for name in shown)
        table.add_row(str(stage), "–".join(map(str, period.years)), *numbers)
    return table
