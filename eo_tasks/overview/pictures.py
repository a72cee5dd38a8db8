"""Composites, masks and probabilities as PNGs for a screen."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from eo_tasks.change import UNSEEN
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.products.mask import PROBABILITY_SCALE, MaskLayers, read_mask_layers
from eo_tasks.raster import to_rgb
from eo_tasks.settings import Settings
from eo_tasks.storage import Store

MOST_PX = 1024  # of a side; larger images are thinned out
CHANGE = (230, 60, 40, 200)
HIDDEN = (120, 120, 120, 160)

# Low to high: transparent, violet, orange, yellow; lightness rises with probability, for those who see no colours.
_RAMP = np.array([[68, 1, 84, 0], [114, 31, 129, 110], [220, 80, 60, 190], [253, 231, 37, 230]], np.float64)


def picture_of_image(store: Store, grid_year: GridYear, settings: Settings) -> bytes:
    """A composite in the colours that the network sees.

    Raises:
        StorageError: It is not stored.
    """
    return as_png(_thinned(to_rgb(store.get_image(grid_year), settings.btc_stretch)))


def picture_of_mask(store: Store, pair: YearPair) -> bytes:
    """Changed pixels red, unseen ones grey, the rest transparent.

    Raises:
        StorageError: It is not stored.
    """
    layers = _layers(store, pair)
    picture = np.zeros((*layers.classes.shape, 4), np.uint8)
    picture[layers.changed] = CHANGE
    picture[layers.classes == UNSEEN] = HIDDEN
    return as_png(_thinned(picture))


def picture_of_probability(store: Store, pair: YearPair) -> bytes:
    """Probability of change, from transparent over violet to yellow; unseen pixels grey.

    Raises:
        StorageError: It is not stored.
    """
    layers = _layers(store, pair)
    steps = np.linspace(0, PROBABILITY_SCALE, len(_RAMP))
    levels = np.arange(256)
    table = np.stack([np.interp(levels, steps, channel) for channel in _RAMP.T], axis=1).astype(np.uint8)
    table[UNSEEN] = HIDDEN
    return as_png(_thinned(table[layers.probability]))


def as_png(picture: NDArray[np.uint8]) -> bytes:
    """A PNG of a picture of shape (y, x, 3) or (y, x, 4)."""
    height, width, bands = picture.shape
    with rasterio.MemoryFile() as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver="PNG", width=width, height=height, count=bands, dtype="uint8") as sink:
            sink.write(picture.transpose(2, 0, 1))
        return bytes(memory.getbuffer())


def _layers(store: Store, pair: YearPair) -> MaskLayers:
    with TemporaryDirectory(prefix="eo-tasks-") as scratch:
        files, _ = store.mask_files(pair, Path(scratch))
        return read_mask_layers(files)


def _thinned(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    step = -(-max(picture.shape[:2]) // MOST_PX)
    return picture[::step, ::step]
