"""``errors`` and ``retry``: what failed, by its reason, and another try."""

import json
import sys
from collections.abc import Sequence
from threading import Event
from time import monotonic

import click
from rich.console import Console
from rich.table import Column, Table

from eo_tasks.cli.completion import complete_errors, complete_runs
from eo_tasks.cli.deeds import write_down
from eo_tasks.cli.exit_codes import SOME_FAILED
from eo_tasks.errors import PermanentError
from eo_tasks.settings import load_settings
from eo_tasks.state.connection import explained
from eo_tasks.state.entry import Entry, State
from eo_tasks.units import Stage, Unit

LOOK_S = 1.0


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def errors(as_json: bool) -> None:
    """Show what failed, by its reason.

    Each kind of error with its number and an example.

    \b
    Examples:
      eo-tasks errors
      eo-tasks errors --json
    """
    from eo_tasks.tasks.context import ledger

    with explained(load_settings().redis_url):
        groups = ledger().error_groups()
        examples = {group.fingerprint: ledger().stuck_units([group.fingerprint], most=3) for group in groups}
    if as_json:
        shown = [
            {
                "id": group.fingerprint,
                "class": group.error_class,
                "number": group.number,
                "message": group.template,
                "example": group.example,
                "units": [unit.id for unit in examples[group.fingerprint][:3]],
            }
            for group in groups
        ]
        click.echo(json.dumps(shown, indent=2))
        return
    if not groups:
        click.echo("No unit waits for you.")
        return
    columns = (Column("Id", no_wrap=True), "Error", "Units", "Example", "Such as")
    table = Table(*columns, title="What units wait for", title_justify="left")
    for group in groups:
        such_as = ", ".join(unit.id for unit in examples[group.fingerprint][:3])
        table.add_row(group.fingerprint, group.error_class, str(group.number), group.example, such_as)
    Console().print(table)
    click.echo("Try them again with: eo-tasks retry --error ID [--canary 5]")


@click.command()
@click.option("--cell", "grid_id", type=int, help="Only this cell.")
@click.option("--year", type=int, help="Only this year, or pairs with it.")
@click.option("--stage", type=click.Choice([str(stage) for stage in Stage]), help="Only this stage.")
@click.option(
    "--error",
    "kind",
    shell_complete=complete_errors,
    help="Only this kind: an id of eo-tasks errors, or a class such as SourceError.",
)
@click.option("--run", "run_name", shell_complete=complete_runs, help="Only what this run wants: its id, or latest.")
@click.option("--empty", is_flag=True, help="Those that had no imagery, instead of those that failed.")
@click.option("--canary", type=click.IntRange(1), help="Try so many first, and the rest only if all of them succeed.")
@click.option(
    "--wait", "wait_s", type=click.IntRange(1), default=3600, show_default=True, help="For canaries, seconds."
)
def retry(
    grid_id: int | None,
    year: int | None,
    stage: str | None,
    kind: str | None,
    run_name: str | None,
    empty: bool,
    canary: int | None,
    wait_s: int,
) -> None:
    """Try failed units again.

    All of them, or those that every given option takes.

    \b
    Examples:
      eo-tasks retry
      eo-tasks retry --cell 1041 --year 2021
      eo-tasks retry --error SourceError --canary 5
    """
    from eo_tasks.tasks.control import choose

    with explained(load_settings().redis_url):
        of_stage = None if stage is None else Stage(stage)
        chosen = choose(kind, grid_id, year, of_stage, run_name, is_empty=empty)
        if not chosen:
            raise PermanentError("No failed unit matches; see eo-tasks errors.")
        if canary is not None and canary < len(chosen):
            _send(chosen[:canary], "canaries")
            _wait_for(chosen[:canary], wait_s)
            chosen = chosen[canary:]
        _send(chosen, "units")


def failures_table(failures: dict[Unit, Entry], most: int = 20, number: int | None = None) -> Table:
    """Failed units with their last errors, the first of ``number`` in all."""
    title = f"{len(failures) if number is None else number} units wait for you"
    table = Table("Unit", "State", "Tries", "Error", title=title, title_justify="left")
    for unit, entry in list(failures.items())[:most]:
        table.add_row(unit.id, str(entry.state), str(entry.attempts), entry.error)
    return table


def _send(units: Sequence[Unit], what: str) -> None:
    from eo_tasks.tasks.control import retry as try_again

    done = try_again(units)
    first = units[0].id + (f" and {len(units) - 1} more" if len(units) > 1 else "")
    write_down("retry", first, f"{done.sent} sent, {done.ready} ready, {done.unwanted} of no run")
    click.echo(
        f"{done.sent + done.ready} {what} are tried again: {done.sent} queued now, {done.ready} when there is room."
    )
    if done.unwanted:
        click.echo(f"{done.unwanted} belong to no run: enqueue their years again.")


def _wait_for(canaries: Sequence[Unit], wait_s: int) -> None:
    """Wait until the canaries have ended; leave the command if not all of them ended well."""
    from eo_tasks.tasks.context import ledger

    pause, until = Event(), monotonic() + wait_s
    while True:
        states = [entry.state for entry in ledger().entries(canaries).values()]
        if all(state.is_settled for state in states) or monotonic() > until:
            break
        pause.wait(LOOK_S)
    well = sum(state.is_done or state is State.EMPTY for state in states)
    if well < len(canaries):
        ended = sum(state.is_settled for state in states)
        click.echo(
            f"{well} of {len(canaries)} canaries succeeded, {ended - well} failed: the rest is left alone.", err=True
        )
        sys.exit(SOME_FAILED)
    click.echo(f"All {len(canaries)} canaries succeeded.")
