"""``runs``: list runs, and pause, resume, stop or cancel one."""

import json
from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Column, Table

from eo_tasks.cli.completion import complete_runs
from eo_tasks.cli.deeds import write_down
from eo_tasks.ranges import write_ranges
from eo_tasks.settings import load_settings
from eo_tasks.state.connection import explained
from eo_tasks.state.runs import Position, Run

LONGEST_CELLS = 30
COLUMNS = ("State", "Asked for", "Years", "Cells", "Looked at", "Found last")


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def runs(ctx: click.Context, as_json: bool) -> None:
    """List runs.

    Its subcommands are those of eo-tasks itself: pause, resume, stop, cancel.

    \b
    Examples:
      eo-tasks runs
      eo-tasks runs --json
      eo-tasks runs pause latest
    """
    if ctx.invoked_subcommand is not None:
        return
    from eo_tasks.tasks.context import runs as kept

    with explained(load_settings().redis_url):
        known = [(run, kept().position(run)) for run in kept().all()]
    if as_json:
        click.echo(json.dumps([_facts(run, position) for run, position in known], indent=2))
        return
    if not known:
        click.echo("No run was asked for yet: eo-tasks enqueue --years 2022-2023")
        return
    table = Table(Column("Run", no_wrap=True), *COLUMNS, title="Runs", title_justify="left")
    for run, position in known:
        asked = datetime.fromtimestamp(run.created_at, UTC).strftime("%Y-%m-%d %H:%M")
        cells = f"{len(run.wanted.grid_ids)}: {_short(write_ranges(run.wanted.grid_ids))}"
        looked = f"pass {position.passes + 1}, {position.cell} cells"
        tally = ", ".join(f"{what} {number}" for what, number in sorted(position.last.items()) if number)
        years = write_ranges(run.wanted.years) + (" (fresh)" if run.not_before else "")
        state = f"{run.state}: {run.note}" if run.note else str(run.state)
        table.add_row(run.id, state, asked, years, cells, looked, tally)
    Console().print(table)


def _command(name: str, text: str, said: str) -> click.Command:
    """One command on one run, by itself and as a subcommand of ``runs``."""

    @click.command(name, help=f"{text}\n\nRUN is its id, the beginning of that, or latest.\n\n{_example(name)}")
    @click.argument("run", shell_complete=complete_runs)
    def act(run: str) -> None:
        from eo_tasks.tasks import control

        with explained(load_settings().redis_url):
            found = control.find_run(run)
            number = getattr(control, name)(found)
            outcome = said.format(run=found.id, number=number)
            write_down(name, found.id, outcome)
        click.echo(outcome)

    runs.add_command(act)
    return act


def _example(name: str) -> str:
    return f"Example: eo-tasks {name} latest"


pause, resume, stop, cancel = (
    _command(name, text, said)
    for name, text, said in (
        (
            "pause",
            "Start nothing more of RUN until it is resumed; what is at work ends.",
            "Run {run} is paused; {number} queued units were taken back. Go on with: eo-tasks resume {run}",
        ),
        ("resume", "Have RUN go on, however it was halted.", "Run {run} goes on."),
        (
            "stop",
            "Finish what is started of RUN, and end it there.",
            "Run {run} ends with what is at work; {number} queued units were taken back.",
        ),
        (
            "cancel",
            "End RUN now and give up what is at work.",
            "Run {run} is canceled; {number} units were given up.",
        ),
    )
)


def _facts(run: Run, position: Position) -> dict[str, object]:
    return {
        "run": run.id,
        "state": str(run.state),
        "created_at": run.created_at,
        "since": run.since,
        "note": run.note,
        "years": list(run.wanted.years),
        "cells": len(run.wanted.grid_ids),
        "is_fresh": bool(run.not_before),
        "passes": position.passes,
        "cells_looked_at": position.cell,
        "tally": dict(position.tally),
        "last": dict(position.last),
    }


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_CELLS else text[: LONGEST_CELLS - 1] + "…"
