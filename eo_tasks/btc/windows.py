"""Windows over an image of any size, and their results blended back without seams, a strip of rows at a time."""

import numpy as np
from numpy.typing import NDArray

WEIGHT_FLOOR = 1e-3  # the outermost pixels of the image lie under one window's border only


def window_starts(length: int, window_px: int, stride_px: int) -> list[int]:
    """First pixels of windows that cover an axis; the last one ends at its edge, or alone reaches beyond it."""
    last = max(length - window_px, 0)
    return [*range(0, last, stride_px), last]


def blend_weight(window_px: int) -> NDArray[np.float32]:
    """A smooth weight that falls towards a window's border, shape (window_px, window_px)."""
    centre = (np.arange(window_px) + 0.5) / window_px
    ramp = np.maximum(np.sin(np.pi * centre) ** 2, WEIGHT_FLOOR)
    return np.outer(ramp, ramp).astype(np.float32)


class Blend:
    """The weighted mean of overlapping windows that come row by row; keeps one row of windows in memory.

    Args:
        width: Columns of the image.
        window_px: Side of a window.
    """

    def __init__(self, width: int, window_px: int) -> None:
        self._weight = blend_weight(window_px)
        self._width, self._first = width, 0
        self._sum = np.zeros((window_px, max(width, window_px)))
        self._total = np.zeros_like(self._sum)

    def add(self, column: int, values: NDArray[np.float32]) -> None:
        """Add the values of a window that starts at ``column`` of the first row not yet taken."""
        place = np.s_[:, column : column + len(self._weight)]
        self._sum[place] += self._weight * values
        self._total[place] += self._weight

    def take(self, stop: int) -> NDArray[np.float32]:
        """The rows up to ``stop`` that were not taken yet, shape (row, width); NaN where no window lay."""
        rows = stop - self._first
        with np.errstate(invalid="ignore"):
            mean = (self._sum[:rows, : self._width] / self._total[:rows, : self._width]).astype(np.float32)
        for kept in (self._sum, self._total):
            kept[:-rows] = kept[rows:].copy()
            kept[-rows:] = 0
        self._first = stop
        return mean
