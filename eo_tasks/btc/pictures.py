"""What the network is shown: RGB rows and where they hold data, read as they are needed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eo_tasks.raster import CompositeRows, Rgb, to_rgb


class Picture(Protocol):
    """An RGB image of any size that is read in strips from top to bottom."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        ...

    def rows(self, start: int, stop: int) -> tuple[Rgb, NDArray[np.bool_]]:
        """Rows as RGB, shape (row, x, 3), and where they hold data, shape (row, x)."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayPicture:
    """An image in memory.

    Attributes:
        rgb: 8-bit red, green, blue, shape (y, x, 3).
        valid: Where it holds data, shape (y, x); everywhere if not given.
    """

    rgb: Rgb
    valid: NDArray[np.bool_] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]

    def rows(self, start: int, stop: int) -> tuple[Rgb, NDArray[np.bool_]]:
        """Rows as RGB, and where they hold data."""
        rgb = self.rgb[start:stop]
        return rgb, np.ones(rgb.shape[:2], bool) if self.valid is None else self.valid[start:stop]


@dataclass(frozen=True, eq=False)
class CompositePicture:
    """A composite, each band's reflectance range shown as 0–255."""

    composite: CompositeRows
    stretch: Mapping[str, tuple[float, float]]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.composite.pixels.shape

    def rows(self, start: int, stop: int) -> tuple[Rgb, NDArray[np.bool_]]:
        """Rows as RGB, and where all bands hold data."""
        part = self.composite.rows(start, stop)
        return to_rgb(part, self.stretch), part.valid
