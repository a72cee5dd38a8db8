"""The command's groups, and how its errors are told: one line, a non-zero exit, no traceback.

What the exit codes say: ``cli/exit_codes.py``.
"""

import json
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from eo_tasks import __version__
from eo_tasks.cli.alerts import alerts
from eo_tasks.cli.backup import backup, restore
from eo_tasks.cli.btc import btc
from eo_tasks.cli.db import db
from eo_tasks.cli.doctor import doctor
from eo_tasks.cli.enqueue import enqueue, plan
from eo_tasks.cli.evaluate import evaluate
from eo_tasks.cli.exit_codes import EXPLAINED, INTERRUPTED
from eo_tasks.cli.failures import errors, retry
from eo_tasks.cli.grid import grid
from eo_tasks.cli.logs import logs
from eo_tasks.cli.openeo import login, openeo
from eo_tasks.cli.products import products
from eo_tasks.cli.report import report
from eo_tasks.cli.run import run, sample
from eo_tasks.cli.runs import cancel, pause, resume, runs, stop
from eo_tasks.cli.stages import download, store
from eo_tasks.cli.status import status
from eo_tasks.cli.sync import export, import_, sync
from eo_tasks.errors import EOTasksError
from eo_tasks.settings import load_settings

SECTIONS = {
    "On this machine": ("run", "sample", "grid"),
    "A running system": (
        *("plan", "enqueue", "status", "runs", "pause", "resume", "stop", "cancel"),
        *("errors", "retry", "logs", "alerts", "report", "products", "doctor"),
    ),
    "One stage alone": ("download", "store", "btc", "evaluate"),
    "Settings and accounts": ("config", "login", "openeo"),
    "Archives": ("db", "sync", "export", "import", "backup", "restore"),
}


class _OneLineErrors(click.Group):
    """Shows this project's errors as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EOTasksError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:  # whoever read the output has seen enough; click ends quietly
            raise
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'Input or output'}: {error.strerror or error}.") from error
        except KeyboardInterrupt:
            click.echo("Interrupted. Everything is stopped; the same command goes on where it was.", err=True)
            sys.exit(INTERRUPTED)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        known = {name for names in SECTIONS.values() for name in names}
        others = [name for name in self.list_commands(ctx) if name not in known]
        for title, names in {**SECTIONS, "More": others}.items():
            found = [(name, self.commands[name]) for name in names if name in self.commands]
            if found:
                with formatter.section(title):
                    limit = formatter.width - max(len(name) for name in (*known, *others)) - 6
                    formatter.write_dl([(name, one.get_short_help_str(limit)) for name, one in found])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write(f"\n{EXPLAINED}")


@click.group(cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="eo-tasks")
def main() -> None:
    """Map yearly change over a country: Sentinel-2 composites, BTC change masks, Celery.

    \b
    Examples:
      eo-tasks run                             the sample area, on this machine
      eo-tasks plan --years 2022-2024          what a request would do
      eo-tasks enqueue --years 2022-2024       ask a running system for it
      eo-tasks status --watch                  see how it goes on
      eo-tasks report -o report.html           what was made

    Complete it in the shell: eval "$(_EO_TASKS_COMPLETE=bash_source eo-tasks)", also zsh_source and fish_source.
    """


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def config(as_json: bool) -> None:
    """Show the effective settings, with secrets masked.

    \b
    Examples:
      eo-tasks config
      eo-tasks config --json
    """
    rows = load_settings().table()
    if as_json:
        click.echo(json.dumps({variable: value for variable, value, _ in rows}, indent=2))
        return
    table = Table("Variable", "Value", "Meaning", title="Settings", title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


for command in (
    *(run, sample, grid),
    *(plan, enqueue, status, runs, pause, resume, stop, cancel, errors, retry, logs, alerts, report, products, doctor),
    *(download, store, btc, evaluate),
    *(login, openeo, db, sync, export, import_, backup, restore),
):
    main.add_command(command)
