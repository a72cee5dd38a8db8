"""The command's groups, and how its errors are told: one line, a non-zero exit, no traceback.

Exit codes: 0 done; 1 a setting, input or service cannot be used; 2 the command line is wrong; 3 the run ended with
failed units, or canaries failed; 130 interrupted.
"""

import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from eo_tasks import __version__
from eo_tasks.cli.btc import btc
from eo_tasks.cli.db import db
from eo_tasks.cli.doctor import doctor
from eo_tasks.cli.enqueue import enqueue
from eo_tasks.cli.evaluate import evaluate
from eo_tasks.cli.failures import errors, retry
from eo_tasks.cli.grid import grid
from eo_tasks.cli.openeo import login, openeo
from eo_tasks.cli.run import run, sample
from eo_tasks.cli.runs import runs
from eo_tasks.cli.status import status
from eo_tasks.cli.sync import export, import_, sync
from eo_tasks.errors import EOTasksError
from eo_tasks.settings import load_settings


class _OneLineErrors(click.Group):
    """Shows this project's errors as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EOTasksError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'Input or output'}: {error.strerror or error}.") from error
        except KeyboardInterrupt:
            click.echo("Interrupted. Everything is stopped; the same command goes on where it was.", err=True)
            sys.exit(130)


@click.group(cls=_OneLineErrors, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="eo-tasks")
def main() -> None:
    """Map yearly change over a country: Sentinel-2 composites, BTC change masks, Celery."""


@main.command()
def config() -> None:
    """Show the effective settings, with secrets masked."""
    table = Table("Variable", "Value", "Meaning", title="Settings", title_justify="left")
    for variable, value, meaning in load_settings().table():
        table.add_row(variable, value, meaning)
    Console().print(table)


for command in (
    *(run, sample, doctor, enqueue, status, runs, errors, retry, grid, btc, evaluate, login, openeo),
    *(db, sync, export, import_),
):
    main.add_command(command)
