"""Options that choose the network and how it is run, for the commands that run it by themselves."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eo_tasks.errors import SettingsError
from eo_tasks.settings import Device, Precision, Settings, load_settings

if TYPE_CHECKING:
    from eo_tasks.btc.model import Model

# Each is named after the setting that it wins over.
CHECKPOINT = click.option("--checkpoint", "btc_model_checkpoint", help="Hub id or folder (BTC_MODEL_CHECKPOINT).")
REVISION = click.option("--revision", "btc_model_revision", help="Revision on the hub (BTC_MODEL_REVISION).")
THRESHOLD = click.option(
    "--threshold", "btc_threshold", type=float, help="A pixel above it counts as changed (BTC_THRESHOLD)."
)
DEVICE = click.option(
    "--device", "btc_device", type=click.Choice([str(device) for device in Device]), help="BTC_DEVICE."
)
PRECISION = click.option(
    "--precision",
    "btc_precision",
    type=click.Choice([str(precision) for precision in Precision]),
    help="BTC_PRECISION.",
)
WINDOW = click.option("--window", "btc_window_px", type=int, help="Side of a window, pixels (BTC_WINDOW_PX).")
STRIDE = click.option("--stride", "btc_stride_px", type=int, help="Distance of windows, pixels (BTC_STRIDE_PX).")
BATCH_SIZE = click.option("--batch-size", "btc_batch_size", type=int, help="Windows computed at once (BTC_BATCH_SIZE).")
OPTIONS = (CHECKPOINT, REVISION, THRESHOLD, DEVICE, PRECISION, WINDOW, STRIDE, BATCH_SIZE)
PLAIN = click.option("--plain", "is_plain", is_flag=True, help="Compute as published, in float32: slower, to compare.")

Command = Callable[..., Any]


def settings_from(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Give a command these options; it gets their values in ``settings``, over those of the environment."""

    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_settings(**given: Any) -> Any:
            names = [name for name in given if name in Settings.model_fields]
            chosen = {name: value for name in names if (value := given.pop(name)) is not None}
            return command(settings=load_settings(**chosen), **given)

        decorated: Command = with_settings
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def open_chosen(settings: Settings, *, is_plain: bool) -> "Model":
    """Load the network that the settings name.

    Raises:
        SettingsError: torch is not installed, or the device or memory does not suit.
        CheckpointError: The checkpoint cannot be used.
    """
    with torch_needed():
        from eo_tasks.btc.model import configured_model
    return configured_model(settings, is_plain=is_plain)


@contextmanager
def torch_needed() -> Iterator[None]:
    """Tell what to install where an import fails.

    Raises:
        SettingsError: It did.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise SettingsError(f"BTC needs {error.name}, which is not here: pip install 'eo-tasks[btc]'.") from error


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how far something is, on a terminal, ``None`` if nobody knows of how many; gives what moves it on."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=total)
        yield lambda done: bars.advance(task, done)
