"""``eo-tasks run`` and ``eo-tasks sample``."""

import shutil
import signal
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from eo_tasks.cli.exit_codes import SOME_FAILED
from eo_tasks.cli.failures import failures_table
from eo_tasks.cli.made import print_empty, print_made, print_sample_score, write_overview
from eo_tasks.cli.options import YEARS, cell_options, chosen_ids
from eo_tasks.errors import PermanentError
from eo_tasks.grid import Bounds
from eo_tasks.progress import Progress
from eo_tasks.sample import Sample, write_sample
from eo_tasks.settings import ImagerySource, override_environment
from eo_tasks.units import Stage

SAMPLE_CHECKPOINT = files("eo_tasks.sample") / "checkpoint"


@click.command()
@click.option("--years", type=YEARS, help="2021-2023 or 2021,2023. Without years and grid, the sample is mapped.")
@click.option("--grid", "grid_file", type=click.Path(path_type=Path), help="Grid file (GRID_FILE).")
@click.option("--layer", help="Layer of the grid file (GRID_LAYER).")
@cell_options
@click.option("--source", help="openeo, stac, or several in order of preference (IMAGERY_SOURCE).")
@click.option("--stac", help="STAC API or catalog.json (STAC_URL).")
@click.option("--checkpoint", help="BTC checkpoint, hub id or folder (BTC_MODEL_CHECKPOINT).")
@click.option("--data-dir", help="Where everything is kept (DATA_DIR).")
@click.option("--flower/--no-flower", default=True, show_default=True, help="Start Flower too.")
@click.option("--dashboard/--no-dashboard", default=True, show_default=True, help="Start the dashboard too.")
def run(
    years: tuple[int, ...] | None,
    grid_file: Path | None,
    layer: str | None,
    cells: str | None,
    bbox: Bounds | None,
    bbox_epsg: int | None,
    inside: Path | None,
    source: str | None,
    stac: str | None,
    checkpoint: str | None,
    data_dir: str | None,
    flower: bool,
    dashboard: bool,
) -> None:
    """Do the whole job on this machine.

    Redis, workers, beat, dashboard and Flower start, work and stop.

    \b
    Examples:
      eo-tasks run
      eo-tasks run --years 2021-2023 --grid slovenia.gpkg --cells 463,464 --source openeo
    """
    given = {
        "GRID_FILE": grid_file,
        "GRID_LAYER": layer,
        "IMAGERY_SOURCE": source,
        "STAC_URL": stac,
        "BTC_MODEL_CHECKPOINT": checkpoint,
        "DATA_DIR": data_dir,
    }
    settings = override_environment({name: str(value) for name, value in given.items() if value is not None})
    console = Console()
    sampled = None
    if years is None and settings.grid_file is None:
        sampled = _make_sample(settings.folder / "sample", console)
        settings, years = override_environment(sample_environment(sampled)), sampled.years
    if years is None:
        raise PermanentError("No years: give them with --years 2021-2023.")
    signal.signal(signal.SIGTERM, _terminate)

    from eo_tasks.local.run import run_locally
    from eo_tasks.tasks.context import pipeline

    ids = chosen_ids(lambda: pipeline().grid, cells, bbox, bbox_epsg, inside)
    if sampled is not None and ids is None:
        ids = sampled.grid_ids
    with StageBars(console) as bars:
        shown = {"with_flower": flower, "with_dashboard": dashboard}
        finished = run_locally(settings, years, ids, **shown, announce=console.print, follow=bars.show)
    if finished.progress is None:
        console.print("Nothing to do: every composite and every mask is there already.")
    print_made(console, pipeline(), finished.run.wanted)
    if (picture := write_overview(pipeline(), finished.run.wanted)) is not None:
        console.print(f"Picture: {picture}")
    if sampled is not None:
        print_sample_score(console, pipeline(), finished.run.wanted, sampled)
    if finished.progress is not None and finished.progress.empty:
        print_empty(console, finished.progress.empty)
        if not finished.progress.stages[Stage.DOWNLOAD].done:
            sys.exit(SOME_FAILED)  # nothing was found anywhere: more likely a wrong question than an empty country
    if finished.progress is not None and finished.progress.failures:
        console.print(failures_table(dict(finished.progress.failures)))
        console.print("Failed units are tried again with: eo-tasks run … (the same command), after the cause is gone.")
        sys.exit(SOME_FAILED)


@click.group()
def sample() -> None:
    """Make the sample area that ships with the project.

    Example: eo-tasks sample make data/sample
    """


@sample.command()
@click.argument("folder", type=click.Path(path_type=Path))
def make(folder: Path) -> None:
    """Write the sample's scenes, grid, truth and network, and print the settings that use them.

    Example: eo-tasks sample make data/sample
    """
    made = write_sample(folder.resolve())
    cells, years = ",".join(map(str, made.grid_ids)), f"{made.years[0]}-{made.years[-1]}"
    click.echo(f"# Scenes cover --years {years} --cells {cells}; {made.imaged_file} is a grid of these cells alone.")
    for name, value in sample_environment(made).items():
        click.echo(f"{name}={value}")


def sample_environment(made: Sample) -> Mapping[str, str]:
    """The settings that use a sample; its results go beside it, apart from those of real data."""
    checkpoint = made.grid_file.parent / "checkpoint"
    shutil.copytree(str(SAMPLE_CHECKPOINT), checkpoint, dirs_exist_ok=True)  # one path on every machine
    return {
        "DATA_DIR": str(made.grid_file.parent),
        "WORK_DIR": "",  # of a bucket
        "GRID_FILE": str(made.grid_file),
        "IMAGERY_SOURCE": str(ImagerySource.STAC),
        "STAC_URL": str(made.catalog),
        "BTC_MODEL_CHECKPOINT": str(checkpoint),
    }


def _make_sample(folder: Path, console: Console) -> Sample:
    console.print(f"No years and no grid given: mapping the sample area in {folder}.")
    with console.status("Making the sample's scenes"):
        return write_sample(folder.resolve())


class StageBars:
    """One live bar per stage, from the first look on."""

    def __init__(self, console: Console) -> None:
        columns = (TextColumn("{task.description:<9}"), BarColumn(), MofNCompleteColumn())
        self._bars = Bars(*columns, TimeElapsedColumn(), TextColumn("{task.fields[note]}"), console=console)
        self._tasks: dict[Stage, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tasks:
            self._bars.stop()

    def show(self, progress: Progress) -> None:
        """Draw where the stages are now."""
        self._bars.start()
        for stage, now in progress.stages.items():
            parts = {
                "there already": now.was_done,
                "running": now.running,
                "failed": now.failed,
                "blocked": now.blocked,
                "no imagery": now.empty,
            }
            note = ", ".join(f"{number} {what}" for what, number in parts.items() if number)
            task = self._tasks.get(stage)
            if task is None:
                task = self._tasks[stage] = self._bars.add_task(str(stage), total=now.total, note=note)
            self._bars.update(task, completed=now.done, note=note)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
