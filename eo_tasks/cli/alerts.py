"""``alerts``: what someone should know, and whether its channels work."""

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from time import time

import click
from rich.console import Console
from rich.table import Table

from eo_tasks.alerts import NotTakenError, open_channels, read_alerts, try_channel
from eo_tasks.settings import load_settings
from eo_tasks.state.connection import connect, explained

SHOWN = 10


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_context
def alerts(context: click.Context, as_json: bool) -> None:
    """Show the alerts that last, and those that ended lately.

    \b
    Examples:
      eo-tasks alerts
      eo-tasks alerts test
    """
    if context.invoked_subcommand is not None:
        return
    settings = load_settings()
    with explained(settings.result_url), connect(settings.result_url) as redis:
        found = read_alerts(redis)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2))
        return
    if not found.active and not found.recent:
        click.echo("No alerts.")
        return
    table = Table("Since", "Until", "Rule", "What", title="Alerts", title_justify="left")
    for one in (*found.active, *found.recent[:SHOWN]):
        until = _time(one["until"]) if "until" in one else "lasts"
        table.add_row(_time(one["since"]), until, one["rule"], one["message"])
    Console().print(table)


@alerts.command()
def test() -> None:
    """Send a test alert by every channel that is set, and say which took it.

    Ends with 1 if none is set, or one does not take it.

    Example: eo-tasks alerts test
    """
    channels = open_channels(load_settings())
    if not channels:
        raise click.ClickException("No channel is set: set ALERT_WEBHOOK_URL, or ALERT_EMAIL_TO and SMTP_HOST.")
    all_took_it = True
    for channel in channels:
        try:
            try_channel(channel, time())
        except NotTakenError as error:
            click.echo(f"!! {error}", err=True)
            all_took_it = False
        else:
            click.echo(f"ok {channel.name}: taken")
    sys.exit(0 if all_took_it else 1)


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
