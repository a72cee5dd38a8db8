"""How fields are cut: blocks of long parcels, each block with its own direction, farm tracks between them."""

import math

import numpy as np
from numpy.typing import NDArray

from eo_tasks.sample.crops import PARCEL_STYLES
from eo_tasks.sample.noise import Field, lattice_noise, smooth_noise

BLOCK_M = 420  # fields lie in blocks of about this size
STRIP_M = ((28, 110), (140, 420))  # width and length of parcels, from and to
WARP_M, WARP_PX = 45, 70  # how far and over what distance borders are bent
TRACK_M = 5


def draw_parcels(rng: np.random.Generator, x: Field, y: Field) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Cut the land into parcels.

    Args:
        rng: Of the parcels.
        x: Metres to the east, shape (1, x).
        y: Metres to the south, shape (y, 1).

    Returns:
        The parcel style of each pixel, and where farm tracks are; shape (y, x).
    """
    shape = (y.shape[0], x.shape[1])
    warped_x = x + WARP_M * smooth_noise(rng, shape, WARP_PX)
    warped_y = y + WARP_M * smooth_noise(rng, shape, WARP_PX)
    salt = int(rng.integers(2**31))
    i, j = np.floor(warped_y / BLOCK_M).astype(np.int32), np.floor(warped_x / BLOCK_M).astype(np.int32)
    nearest = np.full(shape, np.inf, np.float32)
    second = nearest.copy()
    block_i, block_j = np.zeros_like(i), np.zeros_like(j)
    for di in (-1, 0, 1):
        for dj in (-1, 0, 1):
            seed_y = (i + di + 0.1 + 0.8 * lattice_noise(i + di, j + dj, salt)) * BLOCK_M
            seed_x = (j + dj + 0.1 + 0.8 * lattice_noise(i + di, j + dj, salt + 1)) * BLOCK_M
            distance = np.hypot(warped_y - seed_y, warped_x - seed_x).astype(np.float32)
            closer = distance < nearest
            second = np.where(closer, nearest, np.minimum(second, distance))
            nearest = np.where(closer, distance, nearest)
            block_i, block_j = np.where(closer, i + di, block_i), np.where(closer, j + dj, block_j)
    chance = [lattice_noise(block_i, block_j, salt + number) for number in (2, 3, 4)]
    angle = chance[0] * np.float32(math.pi)
    width, length = (low + (high - low) * value**2 for (low, high), value in zip(STRIP_M, chance[1:], strict=True))
    strip = np.floor((warped_x * np.cos(angle) + warped_y * np.sin(angle)) / width).astype(np.int32)
    piece = np.floor((warped_y * np.cos(angle) - warped_x * np.sin(angle)) / length).astype(np.int32)
    style = lattice_noise(strip * 7919 + block_i, piece * 6007 + block_j, salt + 5) * PARCEL_STYLES
    return style.astype(np.uint16), (second - nearest) < TRACK_M
