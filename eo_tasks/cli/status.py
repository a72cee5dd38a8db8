"""``status``: where a running system stands."""

import json
from collections import Counter

import click
from rich.console import Console
from rich.table import Table

from eo_tasks.cli.failures import failures_table
from eo_tasks.settings import load_settings
from eo_tasks.state.connection import connect, explained
from eo_tasks.state.entry import State
from eo_tasks.state.queues import queue_lengths
from eo_tasks.units import Stage

SHOWN_FAILURES = 20


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(as_json: bool) -> None:
    """Show how many units of each stage and year are in which state, and what failed."""
    from eo_tasks.celery import CONTROL, UNIT_QUEUES
    from eo_tasks.tasks.context import accounts, ledger, orders, runs

    settings = load_settings()
    with explained(settings.redis_url):
        counts = ledger().all_counts()
        lengths = queue_lengths(connect(settings.broker_url), (*UNIT_QUEUES, CONTROL))
        stuck = ledger().waiting_for_a_person(most=SHOWN_FAILURES)
        known = runs().all()
        on_order = Counter(str(order.state) for order in orders().all())
        spent = {run.id: paid for run in known if (paid := accounts().spent(run.id))}
        standings = accounts().all()
    states = {run.id: str(run.state) for run in known}
    notes = {run.id: run.note for run in known if run.note}
    number = sum(held for by_state in counts.values() for state, held in by_state.items() if state.needs_a_person)
    if as_json:
        units = {f"{stage}_{period}": numbers for (stage, period), numbers in counts.items()}
        errors = {unit.id: entry.error for unit, entry in stuck.items()}
        shown = {"runs": states, "units": units, "queues": lengths, "waiting_for_a_person": number, "errors": errors}
        shown |= {"orders": on_order, "credits": spent, "notes": notes}
        shown["accounts"] = {account: standing.reason for account, standing in standings.items()}
        click.echo(json.dumps(shown, indent=2))
        return
    console = Console()
    console.print(_counts_table(counts))
    console.print("Queued: " + ", ".join(f"{name} {length}" for name, length in lengths.items()))
    if states:
        console.print("Runs: " + ", ".join(f"{run_id} {state}" for run_id, state in states.items()))
    for run_id, note in notes.items():
        console.print(f"Run {run_id}: {note}")
    if on_order:
        console.print("Orders: " + ", ".join(f"{state} {held}" for state, held in on_order.items()))
    if spent:
        console.print("Credits: " + ", ".join(f"run {run_id} {paid:.1f}" for run_id, paid in spent.items()))
    for account, standing in standings.items():
        console.print(f"Account {account}: {standing.reason}")
    if stuck:
        console.print(failures_table(stuck, number=number))


def _counts_table(counts: dict[tuple[Stage, str], dict[State, int]]) -> Table:
    shown = [state for state in State if any(state in numbers for numbers in counts.values())]
    table = Table("Stage", "Year", *map(str, shown), title="Units", title_justify="left")
    for (stage, period), numbers in counts.items():
        table.add_row(stage, period.replace("_", "–"), *(str(numbers.get(state, 0)) for state in shown))
    return table
