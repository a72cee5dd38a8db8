"""Windows over an image of any size, and their results blended back without seams."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

WEIGHT_FLOOR = 1e-3  # the outermost pixels of the image lie under one window's border only


def window_origins(shape: tuple[int, int], window_px: int, stride_px: int) -> list[tuple[int, int]]:
    """Upper left corners (row, column) of windows that cover an image of ``shape``; the last ones end at its edge."""
    rows, columns = (_starts(length, window_px, stride_px) for length in shape)
    return [(row, column) for row in rows for column in columns]


def _starts(length: int, window_px: int, stride_px: int) -> list[int]:
    last = max(length - window_px, 0)
    return [*range(0, last, stride_px), last]


def padded(image: NDArray[np.uint8], window_px: int) -> NDArray[np.uint8]:
    """The image, filled up with zeros to at least one window; shape (y, x, band)."""
    missing = [max(window_px - length, 0) for length in image.shape[:2]]
    return np.pad(image, ((0, missing[0]), (0, missing[1]), (0, 0))) if any(missing) else image


def blend_weight(window_px: int) -> NDArray[np.float32]:
    """A smooth weight that falls towards a window's border, shape (window_px, window_px)."""
    centre = (np.arange(window_px) + 0.5) / window_px
    ramp = np.maximum(np.sin(np.pi * centre) ** 2, WEIGHT_FLOOR)
    return np.outer(ramp, ramp).astype(np.float32)


class Blend:
    """Sums weighted windows into one image."""

    def __init__(self, shape: tuple[int, int], window_px: int) -> None:
        self._weight = blend_weight(window_px)
        self._sum = np.zeros(shape, np.float64)
        self._total = np.zeros(shape, np.float64)

    def add(self, origin: tuple[int, int], values: NDArray[np.float32]) -> None:
        """Add one window's values, shape (window_px, window_px); what lies outside the image is left out."""
        row, column = origin
        height, width = (
            min(len(self._weight), end - start) for start, end in zip(origin, self._sum.shape, strict=True)
        )
        place = np.s_[row : row + height, column : column + width]
        weight = self._weight[:height, :width]
        self._sum[place] += weight * values[:height, :width]
        self._total[place] += weight

    def result(self) -> NDArray[np.float32]:
        """The weighted mean, shape as given at the start."""
        return (self._sum / self._total).astype(np.float32)


def batches(origins: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    """The origins in lists of at most ``size``."""
    for start in range(0, len(origins), size):
        yield origins[start : start + size]
