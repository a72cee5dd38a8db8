"""``sync``, ``export`` and ``import``: composites and masks between files and the database."""

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from eo_tasks.cli.exit_codes import SOME_FAILED
from eo_tasks.cli.options import YEARS, Ranges
from eo_tasks.grid import GridYear
from eo_tasks.settings import load_settings
from eo_tasks.steps.sync import Copy, Synchronised, copy_all, differences, newest_first
from eo_tasks.storage import FileStore, LocalStore, Store, open_database_store, open_place

SHOWN = 20  # copies that --dry-run names
KINDS = ("composites", "masks")
IDS = Ranges("ids of cells", "463,464 or 463-470")


def _choices(command: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option("--years", type=YEARS, help="Years, such as 2021-2023; masks only of two of them."),
        click.option("--cells", type=IDS, help="Ids of cells, such as 463,464 or 463-470."),
        click.option("--dry-run", is_flag=True, help="Show what would be copied, and copy nothing."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command()
@_choices
def sync(years: tuple[int, ...] | None, cells: tuple[int, ...] | None, dry_run: bool) -> None:
    """Bring DATA_DIR and the database to the same.

    Composites and masks, whatever PIPELINE_MODE is. What one side lacks is copied there; of two that differ the one
    that was made later is kept. Ends with 3 if some cannot be copied.

    \b
    Examples:
      eo-tasks sync --dry-run
      eo-tasks sync --years 2022-2023 --cells 463-470
    """
    settings = load_settings()
    _bring(FileStore(open_place(settings)), settings.folder, years, cells, dry_run=dry_run)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@_choices
def export(folder: Path, years: tuple[int, ...] | None, cells: tuple[int, ...] | None, dry_run: bool) -> None:
    """Copy composites and masks from the database to files.

    FOLDER is laid out as DATA_DIR. What is there already, made as late or later, stays. Ends with 3 if some cannot be
    copied.

    Example: eo-tasks export archive --years 2022-2023
    """
    _bring(LocalStore(folder), folder, years, cells, dry_run=dry_run, to_database=False)


@click.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@_choices
def import_(folder: Path, years: tuple[int, ...] | None, cells: tuple[int, ...] | None, dry_run: bool) -> None:
    """Copy composites and masks from files to the database.

    FOLDER is laid out as DATA_DIR. What is there already, made as late or later, stays. Ends with 3 if some cannot be
    copied.

    Example: eo-tasks import archive --dry-run
    """
    scratch = Path(tempfile.gettempdir())  # FOLDER may be a medium that is only read
    _bring(LocalStore(folder), scratch, years, cells, dry_run=dry_run, to_files=False)


def _bring(
    files: Store,
    scratch: Path,
    years: tuple[int, ...] | None,
    cells: tuple[int, ...] | None,
    *,
    dry_run: bool,
    to_files: bool = True,
    to_database: bool = True,
) -> None:
    def copies(database: Store) -> Iterator[Copy]:
        for year in newest_first(files, database, years):
            for one in differences(files, database, year, cells, to_files=to_files, to_database=to_database):
                if isinstance(one.what, GridYear) or years is None or one.what.after in years:
                    yield one

    targets = ["database"] * to_database + ["files"] * to_files
    kinds = [f"{kind} → {target}" for target in targets for kind in KINDS]
    with _opened() as database:
        if dry_run:
            _show(list(copies(database)), kinds)
        else:
            _tell(copy_all(copies(database), files, database, scratch), kinds)


@contextmanager
def _opened() -> Iterator[Store]:
    """The database, looked at before any file is."""
    store = open_database_store(load_settings())
    try:
        store.check()
        yield store
    finally:
        store.database.close()


def _show(copies: list[Copy], kinds: list[str]) -> None:
    counts = Counter(one.kind for one in copies)
    for kind in kinds:
        click.echo(f"{kind}: {counts[kind]} to copy")
    for one in copies[:SHOWN]:
        click.echo(f"  {one}")
    if len(copies) > SHOWN:
        click.echo(f"  and {len(copies) - SHOWN} more")


def _tell(made: Synchronised, kinds: list[str]) -> None:
    for kind in kinds:
        click.echo(f"{kind}: {made.copied.get(kind, 0)} copied")
    for message in made.failures:
        click.echo(f"Not copied: {message}", err=True)
    if made.failures:
        sys.exit(SOME_FAILED)
