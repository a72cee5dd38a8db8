"""``backup`` and ``restore``: everything that is stored, into a folder and back."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eo_tasks.cli.exit_codes import SOME_FAILED
from eo_tasks.cli.network import bar
from eo_tasks.errors import StorageError
from eo_tasks.settings import load_settings

if TYPE_CHECKING:
    from eo_tasks.steps.backup import Copied

SHOWN = 20  # failures that are told
KINDS = ("composites", "masks", "staged composites", "checkpoint files", "grid files")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--verify", is_flag=True, help="Read every file of the backup afterwards, and compare it with its record."
)
def backup(folder: Path, verify: bool) -> None:
    """Copy all that is stored into a folder.

    Composites, masks, what is downloaded and not stored yet, checkpoint files, the grid; of files, a bucket or the
    database, as PIPELINE_MODE and DATA_DIR say. FOLDER is laid out as DATA_DIR. Called again it copies what is new or
    was made again; a run may go on meanwhile. Redis needs no backup, and settings, secrets and the network are yours to
    keep. Ends with 3 if something is broken.

    Example: eo-tasks backup /mnt/backup/country
    """
    from eo_tasks.steps.backup import back_up, left_out
    from eo_tasks.steps.backup import verify as verified
    from eo_tasks.steps.pipeline import Pipeline

    pipeline = Pipeline(load_settings())
    if folder.resolve() == pipeline.settings.folder.resolve():
        raise StorageError(f"{folder}: that is where the data are. Name another folder, best on another disk.")
    _check_writable(folder)
    with bar("Copied", None) as move_on:
        made = back_up(pipeline, folder, move_on)
    _tell(made, "copied")
    if number := left_out(pipeline):
        click.echo(f"Left out: {number} masks to other later years; files hold the newest from a year on.", err=True)
    if verify:
        with bar("Verified", None) as move_on:
            found = verified(folder, move_on)
        _tell(found, "whole", KINDS[:2])
        made.failures.extend(found.failures)
    if made.failures:
        sys.exit(SOME_FAILED)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--unfinished", is_flag=True, help="Take a backup that was cut off.")
def restore(folder: Path, unfinished: bool) -> None:
    """Copy a backup to where PIPELINE_MODE and DATA_DIR say.

    Every file is compared with its record on the way. What is stored already, made as late or later, stays: nothing
    that was made since is lost. Then enqueue the same years again. Ends with 3 if something is broken.

    \b
    Examples:
      eo-tasks restore /mnt/backup/country
      DATA_DIR=s3://bucket/country eo-tasks restore /mnt/backup/country
    """
    from eo_tasks.steps.backup import GRID
    from eo_tasks.steps.backup import restore as restored
    from eo_tasks.steps.pipeline import Pipeline

    pipeline = Pipeline(load_settings())
    pipeline.store.check()
    with bar("Copied", None) as move_on:
        made = restored(pipeline, folder, move_on, unfinished=unfinished)
    _tell(made, "copied", KINDS[:-1])
    chosen = pipeline.settings.grid_file
    if (folder / GRID).is_dir() and (chosen is None or not chosen.exists()):
        click.echo(f"The grid of the backup is in {folder / GRID}: set GRID_FILE to it, or to a copy.", err=True)
    if made.failures:
        sys.exit(SOME_FAILED)


def _tell(made: "Copied", done: str, kinds: tuple[str, ...] = KINDS) -> None:
    for kind in kinds:
        click.echo(f"{kind}: {made.counts[kind]} {done}")
    for message in made.failures[:SHOWN]:
        click.echo(f"Not {done}: {message}", err=True)
    if len(made.failures) > SHOWN:
        click.echo(f"and {len(made.failures) - SHOWN} more", err=True)


def _check_writable(folder: Path) -> None:
    probe = folder / ".eo-tasks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written to ({error.strerror}). Name another folder.") from error
