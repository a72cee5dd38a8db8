"""``logs``: what workers, the clock and the dashboard wrote, of the units and levels that are asked for."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from threading import Event

import click
from rich.console import Console
from rich.text import Text

from eo_tasks.logbook import LEVELS, Filter, Line, Tail, read_lines
from eo_tasks.logs import folder_of
from eo_tasks.settings import load_settings
from eo_tasks.units import Stage

LOOK_S = 0.5
COLOURS = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


@click.command()
@click.option("--stage", type=click.Choice([str(stage) for stage in Stage]), help="Only this stage.")
@click.option("--cell", "grid_id", type=int, help="Only this cell.")
@click.option("--year", type=int, help="Only this year, or pairs with it.")
@click.option("--unit", help="Only this unit, such as btc_463_2022_2023.")
@click.option("--level", type=click.Choice(LEVELS, case_sensitive=False), help="This level and graver ones.")
@click.option("--text", help="Only lines with this text.")
@click.option("-n", "most", type=click.IntRange(1), default=50, show_default=True, help="So many of the newest lines.")
@click.option("--follow", is_flag=True, help="Then show lines as they come, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one object a line.")
def logs(
    stage: str | None,
    grid_id: int | None,
    year: int | None,
    unit: str | None,
    level: str | None,
    text: str | None,
    most: int,
    follow: bool,
    as_json: bool,
) -> None:
    """Show what was logged, by stage, cell, year, level or text.

    The newest lines of all workers that share this DATA_DIR, the oldest of them first.

    \b
    Examples:
      eo-tasks logs
      eo-tasks logs --stage btc --level warning
      eo-tasks logs --cell 463 --year 2023 -n 200
      eo-tasks logs --follow --text "openEO"
    """
    folder = folder_of(load_settings().folder)
    wanted = Filter(None if stage is None else Stage(stage), grid_id, year, level, text, unit)
    if follow:
        _follow(folder, wanted, most, as_json)
        return
    shown = _newest(folder, wanted, most)
    _show(shown, as_json)
    if not shown and not as_json:
        click.echo(f"No line fits in {folder}.", err=True)


def _follow(folder: Path, wanted: Filter, most: int, as_json: bool) -> None:
    """Show the newest lines, then those that come, until a person has seen enough."""
    pause = Event()
    try:
        tail = Tail(folder)
        shown = _newest(folder, wanted, most)
        _show(shown, as_json)
        while True:
            _show([line for line in tail.new(wanted) if line not in shown], as_json)
            shown = []  # what was written in the meantime came twice
            pause.wait(LOOK_S)
    except KeyboardInterrupt:
        return  # the system goes on; only looking ends


def _newest(folder: Path, wanted: Filter, most: int) -> list[Line]:
    """The newest lines that fit, the oldest of them first."""
    found: list[Line] = []
    before = None
    while len(found) < most:
        page = read_lines(folder, wanted, most - len(found), before)
        found += page.lines
        before = page.before
        if before is None:
            break
    return found[::-1]


def _show(lines: Iterable[Line], as_json: bool) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for line in lines:
        if as_json:
            click.echo(json.dumps(asdict(line), ensure_ascii=False))
        else:
            console.print(_text(line))


def _text(line: Line) -> Text:
    """One line for people, and a traceback under it."""
    facts = " ".join(f"{name}={value}" for name, value in line.fields.items())
    parts = (line.at, f"{line.level:<8}", line.unit or line.worker or line.logger, line.event, facts)
    text = "  ".join(part for part in parts if part)
    return Text(f"{text}\n{line.exception}" if line.exception else text, COLOURS.get(line.level, ""))
