"""The result of one BTC run, as a value."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eo_tasks.raster import PixelGrid

UNCHANGED, CHANGED, UNSEEN = 0, 1, 255  # of the mask raster


@dataclass(frozen=True, eq=False)
class ChangeMap:
    """Where one cell changed between two years.

    Attributes:
        probability: Probability of change, float32, shape (y, x); NaN where either year has no data.
        threshold: A pixel above it counts as changed.
    """

    pixels: PixelGrid
    probability: NDArray[np.float32]
    threshold: float

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Pixels with data in both years, shape (y, x)."""
        return ~np.isnan(self.probability)

    @property
    def change(self) -> NDArray[np.bool_]:
        """Changed pixels, shape (y, x)."""
        return np.asarray(self.probability > self.threshold)  # False where NaN

    @property
    def classes(self) -> NDArray[np.uint8]:
        """0 unchanged, 1 changed, 255 not seen; shape (y, x)."""
        return np.where(self.seen, np.where(self.change, CHANGED, UNCHANGED), UNSEEN).astype(np.uint8)

    @property
    def changed_ha(self) -> float:
        """Changed area, hectares."""
        return float(self.change.sum()) * self.pixels.pixel_ha

    @property
    def seen_ha(self) -> float:
        """Area with data in both years, hectares."""
        return float(self.seen.sum()) * self.pixels.pixel_ha
