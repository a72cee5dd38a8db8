"""``eo-tasks db``: the database, from nothing to this version's tables."""

from collections.abc import Sequence
from threading import Event
from time import monotonic

import click

from eo_tasks.errors import StoreUnavailableError
from eo_tasks.settings import Settings, load_settings

RETRY_S = 1.0


@click.group()
def db() -> None:
    """Make, upgrade and check the database.

    Of PIPELINE_MODE=database_only and hybrid.

    \b
    Examples:
      eo-tasks db init
      eo-tasks db upgrade
      eo-tasks db check
    """


@db.command()
@click.option(
    "--wait", "wait_s", type=click.IntRange(0), default=0, help="Wait so long for a server to start, seconds."
)
def init(wait_s: int) -> None:
    """Make database, roles, login and extensions, as DB_ADMIN_USER; needs an administrator of the server, once.

    Example: DB_ADMIN_USER=postgres DB_ADMIN_PASSWORD_FILE=admin.txt eo-tasks db init
    """
    for line in _set_up(load_settings(), monotonic() + wait_s):
        click.echo(line)
    click.echo("Next: eo-tasks db upgrade")


@db.command()
def upgrade() -> None:
    """Bring the tables to this version, as DB_ADMIN_USER or, where that is not set, DB_USER; the data stay.

    Example: eo-tasks db upgrade
    """
    from eo_tasks.storage.database import schema
    from eo_tasks.storage.database.connection import Database, Login

    database = Database(Login.of_admin(load_settings()))
    try:
        before, after = schema.upgrade(database)
    finally:
        database.close()
    told = f"has the schema {after} already" if before == after else f"went from {before or 'nothing'} to {after}"
    click.echo(f"The {database.login} {told}.")


@db.command()
def check() -> None:
    """Check whether workers can use the database, as DB_USER.

    Example: eo-tasks db check
    """
    from eo_tasks.storage import open_database_store

    settings = load_settings()
    open_database_store(settings).check()
    click.echo(f"The database {settings.db_name} at {settings.db_host}:{settings.db_port} can be used.")


@db.command()
def cells() -> None:
    """Insert the cells of GRID_FILE, so that coverage counts those without an image too.

    Example: GRID_FILE=grid.gpkg eo-tasks db cells
    """
    from eo_tasks.steps import Pipeline
    from eo_tasks.storage import open_database_store

    settings = load_settings()
    grid = Pipeline(settings).grid
    store = open_database_store(settings)
    try:
        store.put_cells(grid.cells)
    finally:
        store.database.close()
    click.echo(f"{len(grid.cells)} cells of {grid.path} are in the database.")


def _set_up(settings: Settings, until: float) -> Sequence[str]:
    """Set the database up, as soon as its server answers; both may be started at once."""
    from eo_tasks.storage.database.setup import set_up

    pause = Event()
    while True:
        try:
            return list(set_up(settings))
        except StoreUnavailableError:
            if monotonic() >= until:
                raise
        pause.wait(RETRY_S)
