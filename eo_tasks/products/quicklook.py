"""Pictures for people: the two years and the change between them, side by side."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from eo_tasks.change import CHANGED, UNSEEN
from eo_tasks.files import written_aside
from eo_tasks.raster import Rgb

GAP_PX = 4
GAP_COLOUR = 255
CHANGE_COLOUR = (255, 32, 64)
UNSEEN_COLOUR = (128, 128, 128)


def outlined(picture: Rgb, classes: NDArray[np.uint8]) -> Rgb:
    """The picture with changed areas outlined and unseen ones greyed.

    Args:
        picture: What to draw on, shape (y, x, 3).
        classes: 0 unchanged, 1 changed, 255 not seen; shape (y, x).
    """
    change = classes == CHANGED
    around = np.pad(change, 1)
    inner = around[1:-1, :-2] & around[1:-1, 2:] & around[:-2, 1:-1] & around[2:, 1:-1]
    drawn = picture.copy()
    drawn[classes == UNSEEN] = UNSEEN_COLOUR
    drawn[change & ~inner] = CHANGE_COLOUR
    return drawn


def sheet(rows: Sequence[Sequence[Rgb]]) -> Rgb:
    """Pictures of one size in rows, with gaps between."""
    return _joined([_joined(row, axis=1) for row in rows], axis=0)


def write_picture(path: Path, picture: Rgb) -> None:
    """Write a PNG atomically."""
    height, width, _ = picture.shape
    with written_aside(path) as aside, rasterio.MemoryFile() as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver="PNG", width=width, height=height, count=3, dtype="uint8") as sink:
            sink.write(picture.transpose(2, 0, 1))
        aside.write_bytes(memory.getbuffer())


def _joined(pictures: Sequence[Rgb], axis: int) -> Rgb:
    parts: list[Rgb] = []
    for picture in pictures:
        gap = list(picture.shape)
        gap[axis] = GAP_PX
        parts += [picture, np.full(gap, GAP_COLOUR, np.uint8)]
    return np.concatenate(parts[:-1], axis=axis)
