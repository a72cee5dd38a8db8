"""Patches of a mask: its pixels that share edges."""

import numpy as np
from numpy.typing import NDArray


def number_patches(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Number the patches of a mask from 1, in the order of their first pixels, row by row.

    Rows are cut into runs, and runs of neighbouring rows that share an edge are one patch. Each run points to an
    earlier one until all of a patch point to its first: Shiloach and Vishkin, "An O(log n) parallel connectivity
    algorithm", Journal of Algorithms 3 (1982).

    Args:
        mask: Shape (y, x).

    Returns:
        Numbers, 0 outside, shape (y, x); and how many there are.
    """
    begins = mask.copy()
    begins[:, 1:] &= ~mask[:, :-1]
    runs = np.cumsum(begins.ravel(), dtype=np.int32).reshape(mask.shape) - 1  # meaningless outside the mask
    shared = mask[:-1] & mask[1:]
    shared[:, 1:] &= begins[:-1, 1:] | begins[1:, 1:] | ~shared[:, :-1]  # one edge for each two runs is enough
    above, below = runs[:-1][shared], runs[1:][shared]
    first = np.arange(int(begins.sum()), dtype=np.int32)
    while len(above):
        ends = first[above], first[below]
        lowest = np.minimum(*ends)
        for end in ends:
            np.minimum.at(first, end, lowest)
        while not np.array_equal(shorter := first[first], first):
            first = shorter
        apart = first[above] != first[below]
        above, below = above[apart], below[apart]
    is_first = first == np.arange(len(first))
    numbers = np.cumsum(is_first, dtype=np.int32)[first]
    patches = np.zeros(mask.shape, np.int32)
    patches[mask] = numbers[runs[mask]]
    return patches, int(is_first.sum())
