"""Pictures for people: the two years and the change between them, side by side."""

import struct
import warnings
import zlib
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
ZLEVEL = 4  # as small as by GDAL's 6, in half the time
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


def smaller(picture: Rgb, most_px: int) -> Rgb:
    """A picture of at most so many pixels a side, each the mean of a block; what is left over at the edges is cut off.

    Args:
        picture: Shape (y, x, 3).
        most_px: Of the longer side.
    """
    return np.asarray(_blocks(picture, most_px).mean(axis=(1, 3)).round().astype(np.uint8))


def smaller_classes(classes: NDArray[np.uint8], most_px: int) -> NDArray[np.uint8]:
    """Classes in the size of ``smaller``: changed where a pixel of the block is, else not seen where one is not."""
    blocks = _blocks(classes, most_px)
    return np.asarray(np.where((blocks == CHANGED).any(axis=(1, 3)), CHANGED, blocks.max(axis=(1, 3))))


def write_picture(path: Path, picture: Rgb, made_of: str = "") -> None:
    """Write a PNG atomically.

    Args:
        path: The file.
        picture: Shape (y, x, 3).
        made_of: What ``made_of`` gives back: a fingerprint of all that it was drawn of.
    """
    height, width, _ = picture.shape
    with written_aside(path) as aside, rasterio.MemoryFile() as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with memory.open(driver="PNG", width=width, height=height, count=3, dtype="uint8", zlevel=ZLEVEL) as sink:
            sink.write(picture.transpose(2, 0, 1))
        png = bytes(memory.getbuffer())
        aside.write_bytes(png[:_AFTER_HEADER] + _text_chunk(made_of) + png[_AFTER_HEADER:] if made_of else png)


def made_of(path: Path) -> str | None:
    """What a PNG was said to be made of; ``None`` if there is none, or it does not tell."""
    try:
        with path.open("rb") as file:
            file.seek(_AFTER_HEADER)
            length, kind = struct.unpack(">I4s", file.read(8))
            text = file.read(length) if kind == b"tEXt" else b""
    except (FileNotFoundError, NotADirectoryError, struct.error):
        return None
    keyword, _, told = text.partition(b"\0")
    return told.decode("latin-1") if keyword == _MADE_OF else None


# A text chunk right behind the header: https://www.w3.org/TR/png-3/#11tEXt
_AFTER_HEADER = 33  # eight bytes of signature, then IHDR: length, type, 13 bytes, checksum
_MADE_OF = b"eo-tasks:made-of"


def _text_chunk(told: str) -> bytes:
    body = b"tEXt" + _MADE_OF + b"\0" + told.encode("latin-1")
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def _blocks(image: NDArray[np.uint8], most_px: int) -> NDArray[np.uint8]:
    """Shape (y, rows of a block, x, columns of a block, …)."""
    height, width = image.shape[:2]
    step = min(-(-max(height, width) // most_px), height, width)
    height, width = height // step, width // step
    cut = image[: height * step, : width * step]
    return cut.reshape(height, step, width, step, *image.shape[2:])


def _joined(pictures: Sequence[Rgb], axis: int) -> Rgb:
    parts: list[Rgb] = []
    for picture in pictures:
        gap = list(picture.shape)
        gap[axis] = GAP_PX
        parts += [picture, np.full(gap, GAP_COLOUR, np.uint8)]
    return np.concatenate(parts[:-1], axis=axis)
