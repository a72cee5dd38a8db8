"""What one process works with, and what a step says of itself."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from eo_tasks.blocks import Blocks
from eo_tasks.errors import GridError
from eo_tasks.files import sha256
from eo_tasks.grid import Grid
from eo_tasks.grid_file import read_grid
from eo_tasks.settings import ImagerySource, Settings
from eo_tasks.sources import Source, open_backends, open_source
from eo_tasks.storage import WEIGHTS, Place, Record, Staging, Store, open_place, open_store
from eo_tasks.units import Unit

if TYPE_CHECKING:
    from eo_tasks.btc.model import Model
    from eo_tasks.sources.openeo.backend import Backend

WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Outcome:
    """What a step did.

    Attributes:
        is_skipped: The output was there already.
        facts: Small and JSON-ready.
    """

    is_skipped: bool
    facts: Mapping[str, Any]


def _always(unit: Unit) -> None:
    """Let a step publish what it made."""


def _whenever(unit: Unit) -> float:
    """Let a step take any output that is there for its own."""
    return 0


@dataclass(frozen=True)
class Pipeline:
    """The grid, source, store and network that one process works with, each opened when first needed.

    Attributes:
        confirm: Called by a step right before it publishes; raises where the unit is not this process's any more.
        not_before: Tells a step what it need not make again: what was made no earlier than that, seconds since 1970.
    """

    settings: Settings
    confirm: Callable[[Unit], None] = _always
    not_before: Callable[[Unit], float] = _whenever

    @cached_property
    def grid(self) -> Grid:
        """The grid of ``GRID_FILE``."""
        path = self.settings.grid_file or self.settings.folder / "grid.gpkg"
        if self.settings.grid_file is None and not path.exists():
            raise GridError(f"No grid: set GRID_FILE, or make {path} with eo-tasks grid make.")
        return read_grid(path, self.settings.grid_layer)

    @cached_property
    def source(self) -> Source:
        """The source of ``IMAGERY_SOURCE`` that makes a composite while one waits."""
        return open_source(self.settings)

    @cached_property
    def backends(self) -> Mapping[ImagerySource, "Backend"]:
        """Those of ``IMAGERY_SOURCE`` that composites are ordered from, in order of preference."""
        return open_backends(self.settings)

    @cached_property
    def blocks(self) -> Blocks:
        """The cells that are ordered together."""
        return Blocks.of(self.grid.cells, self.settings.openeo_block_km)

    @cached_property
    def store(self) -> Store:
        """The store of ``PIPELINE_MODE``."""
        return open_store(self.settings, self.place)

    @cached_property
    def place(self) -> Place:
        """Where ``DATA_DIR`` is."""
        return open_place(self.settings)

    @cached_property
    def staging(self) -> Staging:
        """Composites between download and store."""
        return Staging(self.place)

    @contextmanager
    def scratch(self, prefix: str) -> Iterator[Path]:
        """A folder of this machine that is gone afterwards; what a killed process leaves of it is found by its name."""
        self.settings.folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.settings.folder, prefix=prefix) as folder:
            yield Path(folder)

    @cached_property
    def model(self) -> "Model":
        """The network of ``BTC_MODEL_CHECKPOINT``, on the device of ``BTC_DEVICE``."""
        from eo_tasks.btc.model import configured_model

        return configured_model(self.settings)

    @cached_property
    def recipe(self) -> Record:
        """What decides a mask beside its two composites; a mask of another recipe is stale."""
        chosen = self.settings
        return {
            "checkpoint": chosen.btc_model_checkpoint,
            "revision": chosen.btc_model_revision,
            WEIGHTS: self._weights_sha256,
            "threshold": chosen.btc_threshold,
            "window_px": chosen.btc_window_px,
            "stride_px": chosen.btc_stride_px,
            "stretch": [[band, *ends] for band, ends in chosen.btc_stretch.items()],  # red, green, blue
        }

    @property
    def _weights_sha256(self) -> str | None:
        """Fingerprint of weights that can be looked at here: other weights in the same folder make masks stale."""
        if "model" in self.__dict__:
            return self.model.weights_sha256
        weights = Path(self.settings.btc_model_checkpoint).expanduser() / WEIGHTS_FILE
        return sha256(weights) if weights.is_file() else None
