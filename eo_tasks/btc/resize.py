"""Windows to the network's size and back, on any device.

The network was trained on 8-bit images that OpenCV enlarged with ``INTER_LINEAR``. That is fixed-point arithmetic with
rounding of its own; any other bilinear interpolation changes an eighth of the levels by one and flips pixels of the
mask. ``enlarged`` gives OpenCV's results to the last bit.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eo_tasks.btc.network.published import INPUT_PX

COEFFICIENT_BITS = 11  # OpenCV, imgproc/src/resize.cpp: INTER_RESIZE_COEF_BITS


def enlarged(windows: Tensor) -> Tensor:
    """Resize RGB windows as the network's training did.

    Args:
        windows: 8-bit levels, shape (window, y, x, 3).

    Returns:
        Levels from 0 to 255 as float32, shape (window, 256, 256, 3).
    """
    at, across, down = (part.to(windows.device) for part in _linear_taps(windows.shape[1], INPUT_PX))
    levels = windows.to(torch.int32)
    left, right = (levels.index_select(2, at[tap]) * across[tap][:, None] for tap in (0, 1))
    rows = (left + right) >> 4
    upper, lower = ((rows.index_select(1, at[tap]) * down[tap][:, None, None]) >> 16 for tap in (0, 1))
    return ((upper + lower + 2) >> 2).to(torch.float32)


def reduced(probability: Tensor, side: int) -> Tensor:
    """Bring the network's answer back to the window's pixels: the mean over each of them.

    Args:
        probability: Shape (window, 256, 256).
        side: Pixels of a window; where that is more than 256, values are interpolated.
    """
    matrix = _back(side).to(probability)
    return matrix @ probability @ matrix.T


@lru_cache(maxsize=8)
def _linear_taps(source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels that each target pixel lies between, and their weights in 1/2048 across and down; (2, target).

    At the edges both are the same pixel. Across, OpenCV gives the first one all the weight there; down it does not, and
    rounds the two shares on their own.
    """
    centre = ((np.arange(target) + 0.5) * (source / target) - 0.5).astype(np.float32)
    first = np.floor(centre)
    fraction = centre - first
    inside = (first >= 0) & (first < source - 1)
    at = np.clip(np.stack([first, first + 1]), 0, source - 1).astype(np.int64)
    across, down = (
        torch.from_numpy(np.rint(np.stack([1 - part, part]) * np.float32(1 << COEFFICIENT_BITS)).astype(np.int32))
        for part in (np.where(inside, fraction, np.float32(0)), fraction)
    )
    return torch.from_numpy(at), across, down


@lru_cache(maxsize=8)
def _back(side: int) -> Tensor:
    """The matrix (side, 256) of ``reduced`` along one axis."""
    if side > INPUT_PX:
        unit = torch.eye(INPUT_PX)[None]
        return functional.interpolate(unit, side, mode="linear", align_corners=False)[0].T
    return torch.from_numpy(cover(INPUT_PX, side).astype(np.float32))


def cover(source: int, target: int) -> NDArray[np.float64]:
    """How much of each target pixel the source pixels make up, shape (target, source); rows sum to one."""
    step = source / target
    starts = np.arange(target)[:, None] * step
    ends = np.minimum(np.arange(source) + 1, starts + step)
    return np.asarray(np.clip(ends - np.maximum(np.arange(source), starts), 0, None) / step)
