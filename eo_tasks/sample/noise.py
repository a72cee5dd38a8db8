"""Random fields: smooth, fractal, or one number per lattice point."""

import math

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

# Standard deviation of a uniform cubic B-spline surface over independent knots of unit variance: the mean over one
# interval of the sum of squared weights, which is 151/315 per axis (the autocorrelation of the cubic B-spline at 0).
SPLINE_STD = 151 / 315


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale_px: float) -> Field:
    """A field of zero mean and about unit variance whose features are about ``scale_px`` wide."""
    (first_row, row_weights), (first_column, column_weights) = (_spline(length, scale_px) for length in shape)
    knots = rng.standard_normal((int(first_row[-1]) + 4, int(first_column[-1]) + 4), dtype=np.float32)
    # Sums of four terms instead of a matrix product, whose rounding depends on the number of threads.
    across = np.zeros((len(knots), shape[1]), np.float32)
    for tap, weight in enumerate(column_weights):
        across += weight * knots[:, first_column + tap]
    field = np.zeros(shape, np.float32)
    for tap, weight in enumerate(row_weights):
        field += weight[:, None] * across[first_row + tap]
    return field / np.float32(SPLINE_STD)


def fractal_noise(rng: np.random.Generator, shape: tuple[int, int], scale_px: float, octaves: int = 4) -> Field:
    """Smooth noise with details down to ``scale_px / 2 ** (octaves - 1)``; zero mean, about unit variance."""
    amplitudes = 0.5 ** np.arange(octaves)
    field = np.zeros(shape, np.float32)
    for octave, amplitude in enumerate(amplitudes):
        field += np.float32(amplitude) * smooth_noise(rng, shape, scale_px / 2**octave)
    return field / np.float32(math.sqrt(float((amplitudes**2).sum())))


def lattice_noise(i: NDArray[np.integer], j: NDArray[np.integer], salt: int) -> Field:
    """One number in [0, 1) for each lattice point (i, j), the same wherever it is asked for.

    The bits are mixed as in the finaliser of MurmurHash3 (Appleby, public domain).
    """
    mixed = np.asarray(i).astype(np.uint32) * np.uint32(0x9E3779B1) ^ np.asarray(j).astype(np.uint32)
    mixed = mixed * np.uint32(0x85EBCA77) + np.uint32(salt & 0xFFFFFFFF)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = (mixed ^ (mixed >> np.uint32(shift))) * np.uint32(factor)
    mixed ^= mixed >> np.uint32(16)
    return (mixed >> np.uint32(8)).astype(np.float32) / np.float32(2**24)


def blurred(field: Field, edge_weight: float) -> Field:
    """The field under a separable kernel ``(edge_weight, 1 - 2 edge_weight, edge_weight)``, borders repeated."""
    for axis in (-2, -1):
        width = [(0, 0)] * field.ndim
        width[axis] = (1, 1)
        wide = np.pad(field, width, mode="edge")
        length = field.shape[axis]
        before, after = (wide.take(range(start, start + length), axis) for start in (0, 2))
        field = np.asarray((1 - 2 * edge_weight) * field + edge_weight * (before + after), np.float32)
    return field


def dilated(flags: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """True within ``radius_px`` of a True, in the chessboard metric."""
    for axis in (0, 1):
        wide = np.pad(flags, [(radius_px, radius_px) if a == axis else (0, 0) for a in (0, 1)])
        length = flags.shape[axis]
        flags = np.logical_or.reduce(
            [wide[(slice(None),) * axis + (slice(s, s + length),)] for s in range(2 * radius_px + 1)]
        )
    return flags


def block_mean(field: NDArray[np.floating], size_px: int) -> Field:
    """Means over blocks of ``size_px``; shape (…, y / size_px, x / size_px)."""
    *lead, height, width = field.shape
    blocks = field.reshape(*lead, height // size_px, size_px, width // size_px, size_px)
    return np.asarray(blocks.mean(axis=(-3, -1), dtype=np.float32))


def _spline(length: int, scale_px: float) -> tuple[NDArray[np.int64], Field]:
    """Each pixel's first knot, and the cubic B-spline weights of four knots from there, shape (4, length)."""
    at = np.arange(length) / scale_px
    first = np.floor(at).astype(np.int64)
    t = at - first
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, 1 + 3 * t * (1 + t - t**2), t**3]) / 6
    return first, weights.astype(np.float32)
