"""``login`` and ``openeo check``: once before the first run, by a person."""

import sys
import webbrowser
from datetime import UTC, datetime, timedelta

import click

from eo_tasks.cli.exit_codes import INTERRUPTED
from eo_tasks.grid import Cell
from eo_tasks.settings import ImagerySource, OpenEOAuth, Settings, load_settings

BACKENDS = [str(ImagerySource.OPENEO), str(ImagerySource.OPENEO2)]
_backend = click.option(
    "--source", type=click.Choice(BACKENDS), default=BACKENDS[0], show_default=True, help="Which backend."
)


@click.command()
@_backend
@click.option("--no-browser", is_flag=True, help="Print the address only: the browser is on another machine.")
@click.option(
    "--wait", "wait_s", type=click.IntRange(10), default=600, show_default=True, help="For the person, seconds."
)
def login(source: str, no_browser: bool, wait_s: int) -> None:
    """Log in to an openEO backend as a person.

    Workers use it from then on. Not needed where client credentials, or user name and password, are set.

    \b
    Examples:
      eo-tasks login
      eo-tasks login --source openeo2 --no-browser
    """
    from eo_tasks.sources.openeo.device import DeviceCode, log_in
    from eo_tasks.sources.openeo.login import Login

    settings = load_settings()
    person = Login.of_person(settings, ImagerySource(source))

    def show(code: DeviceCode) -> None:
        click.echo(f"Log in at {person}:\n\n  Open   {code.address}\n  Enter  {code.code}\n")
        if code.whole_address:
            click.echo(f"or open {code.whole_address}\n")
        if not no_browser and _open_browser(code.whole_address or code.address):
            click.echo("A browser opens with it.")
        click.echo(f"Waiting for {min(wait_s, code.expires_s):g} s at most …")

    try:
        stored = log_in(person, show, wait_s)
    except KeyboardInterrupt:
        click.echo("Interrupted: no token was kept.", err=True)
        sys.exit(INTERRUPTED)
    until = ""
    if stored.lasts_s is not None:
        until = (
            f" It is good until {datetime.now(UTC) + timedelta(seconds=stored.lasts_s):%Y-%m-%d %H:%M} UTC if unused."
        )
    click.echo(
        f"Logged in at {person} as {stored.user}, by {stored.issuer}, client {stored.client}.\n"
        f"The refresh token is in {person.token_file} (mode 600).{until}"
    )
    if (other := _other_login(settings, ImagerySource(source))) is not None:
        click.echo(f"Workers do not use it: they log in with {other}. Unset that, or leave it so.")
    again = "" if source == BACKENDS[0] else f" --source {source}"
    click.echo(f"Next: eo-tasks openeo check{again}")


@click.group()
def openeo() -> None:
    """Look at an openEO backend.

    Example: eo-tasks openeo check
    """


@openeo.command()
@_backend
@click.option("--no-request", is_flag=True, help="Have nothing computed: it would cost a few credits.")
def check(source: str, no_request: bool) -> None:
    """Check login, account, limits, collection and jobs, and have a few pixels computed.

    Ends with 1 at the first thing that is not in order.

    \b
    Examples:
      eo-tasks openeo check
      eo-tasks openeo check --source openeo2 --no-request
    """
    from eo_tasks.sources.openeo.check import Check

    settings = load_settings()
    checked = Check(settings, ImagerySource(source), _first_cell(settings))
    for finding in checked.findings(is_request_made=not no_request):
        click.echo(f"✓ {finding.what:<11}{finding.told}")


def _first_cell(settings: Settings) -> Cell | None:
    if settings.grid_file is None:
        return None
    from eo_tasks.grid_file import read_grid

    return min(read_grid(settings.grid_file, settings.grid_layer).cells, key=lambda cell: cell.grid_id)


def _other_login(settings: Settings, source: ImagerySource) -> str | None:
    """What workers log in with in the place of the kept token."""
    from eo_tasks.sources.openeo.login import Login

    used = Login.from_settings(settings, source)
    is_kept_token = used.method is OpenEOAuth.REFRESH_TOKEN and used.refresh_token is None
    return None if is_kept_token else used.described


def _open_browser(address: str) -> bool:
    """Open a page in a browser with windows; one that runs in this terminal would hide the code."""
    try:
        browser = webbrowser.get()
        is_windowed = type(browser) is not webbrowser.GenericBrowser
        return is_windowed and browser.open(address)
    except webbrowser.Error:
        return False
