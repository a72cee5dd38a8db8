"""``report``: what the system or a run made and where it stands, as a file to keep or to send on."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eo_tasks.cli.completion import complete_runs
from eo_tasks.files import written_aside
from eo_tasks.settings import load_settings
from eo_tasks.state.connection import explained

if TYPE_CHECKING:
    from eo_tasks.report import Report

FORMATS = ("html", "csv", "json")
STDOUT = Path("-")


@click.command()
@click.option("--run", "run_name", shell_complete=complete_runs, help="Only this run: its id, or latest.")
@click.option("--format", "kind", type=click.Choice(FORMATS), help="Default: as FILE ends, else html.")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="FILE; default: report.html, or - for stdout."
)
def report(run_name: str | None, kind: str | None, out: Path | None) -> None:
    """Write a progress report as HTML, CSV or JSON.

    Stages, changed area, pictures, failures, workers, and every cell. The HTML is one file that needs nothing else; it
    shows the first cells. The CSV has a row for every cell and year.

    \b
    Examples:
      eo-tasks report
      eo-tasks report --run latest -o slovenia.csv
      eo-tasks report --format json -o - | jq .changes
    """
    from eo_tasks.report import make_report
    from eo_tasks.tasks.context import known, pipeline
    from eo_tasks.tasks.control import find_run

    suffix = "" if out is None else out.suffix.removeprefix(".").lower()
    kind = kind or (suffix if suffix in FORMATS else FORMATS[0])
    target = Path(f"report.{kind}") if out is None else out
    with explained(load_settings().redis_url):
        run = None if run_name is None else find_run(run_name)
        parts = _parts(make_report(known(), pipeline(), run, most_cells=None), kind)
        if target == STDOUT:
            for part in parts:
                sys.stdout.write(part)
            return
        with written_aside(target) as aside, aside.open("w", encoding="utf-8", newline="") as file:
            file.writelines(parts)
    click.echo(f"Report: {target}")


def _parts(made: "Report", kind: str) -> Iterable[str]:
    from eo_tasks.report import as_csv, as_html, as_json

    if kind == "csv":
        return as_csv(made)
    return [as_html(made) if kind == "html" else as_json(made)]
