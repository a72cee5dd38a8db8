"""Whether the values of a backend's file can be what was asked for: reflectance × 10000, and counts of observations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

LEAST_PX = 100  # fewer clear pixels say nothing: a hole in the clouds may well be all of one value
LOWEST_DN, HIGHEST_DN = -1_000, 20_000  # −0.1 is the offset of processing baseline 04.00; snow and glint stay below 2
FRACTION = 2  # reflectance itself stays below; DN of a whole image do not
MOST_OUTSIDE = 0.05  # share of clear values
MOST_OBSERVATIONS = 1_000  # of a pixel in a year, over which a count is none; in fact some 150, orbits overlapping


@dataclass(frozen=True, eq=False)
class Values:
    """What the clear pixels of an image, or of a part of it, are like; per band, the counts last.

    Attributes:
        clear_px: Pixels that the counts call clear.
        lowest: Least value of each band; infinite where it has no data.
        highest: Greatest value of each band.
        outside: Values that are no plausible DN.
    """

    clear_px: int
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    outside: NDArray[np.int64]

    @classmethod
    def of(cls, image: NDArray[np.float64]) -> Self:
        """Look at bands, then counts, shape (band, y, x); NaN where there is no data."""
        clear = image[:, np.nan_to_num(image[-1]) != 0]
        return cls(
            clear.shape[1],
            np.fmin.reduce(clear, axis=1, initial=np.inf),
            np.fmax.reduce(clear, axis=1, initial=-np.inf),
            ((clear < LOWEST_DN) | (clear > HIGHEST_DN)).sum(axis=1),
        )

    def joined(self, other: Self) -> Self:
        """The same of two parts together."""
        return replace(
            self,
            clear_px=self.clear_px + other.clear_px,
            lowest=np.minimum(self.lowest, other.lowest),
            highest=np.maximum(self.highest, other.highest),
            outside=self.outside + other.outside,
        )

    def wrong(self, names: Sequence[str]) -> str | None:
        """What cannot be, in words; ``None`` if all can. ``names`` are those of the bands."""
        if self.clear_px == 0:
            return None
        if self.lowest[-1] < 0 or self.highest[-1] > MOST_OBSERVATIONS:
            return f"the counts of observations reach from {self.lowest[-1]:.6g} to {self.highest[-1]:.6g}"
        if self.clear_px < LEAST_PX:
            return None
        low, high, share = self.lowest[:-1], self.highest[:-1], self.outside[:-1] / self.clear_px
        if empty := [name for name, is_empty in zip(names, low > high, strict=True) if is_empty]:
            return f"{', '.join(empty)} has no data where {self.clear_px} pixels are counted as clear"
        if high.max() < FRACTION:
            return f"they reach from {low.min():.3g} to {high.max():.3g}, like reflectance itself or a mask"
        if (low == high).all():
            return f"one fills all of a band ({', '.join(f'{value:.6g}' for value in low)})"
        worst = int(share.argmax())
        if share[worst] > MOST_OUTSIDE:
            return f"{share[worst]:.0%} of {names[worst]} lie outside of {LOWEST_DN} to {HIGHEST_DN}"
        return None
