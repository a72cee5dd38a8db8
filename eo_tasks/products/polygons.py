"""Patches of change as polygons."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import rasterio.features
from numpy.typing import NDArray
from shapely.geometry import shape

from eo_tasks.products.mask import PROBABILITY_SCALE
from eo_tasks.raster import PixelGrid

if TYPE_CHECKING:
    from shapely import Polygon


@dataclass(frozen=True)
class ChangePolygon:
    """Changed pixels that share edges.

    Attributes:
        geometry: Their outline in the CRS of the pixels, with holes.
        area_ha: Their area, hectares.
        mean_probability: Their mean probability of change.
    """

    geometry: "Polygon"
    area_ha: float
    mean_probability: float


def change_polygons(
    changed: NDArray[np.bool_], probability: NDArray[np.uint8], pixels: PixelGrid
) -> tuple[ChangePolygon, ...]:
    """Draw a mask's patches of change, the largest first, equal ones in the order of their first pixels, row by row.

    Args:
        changed: Changed pixels, shape (y, x).
        probability: Probability × 254, shape (y, x); 255 where not seen, which no changed pixel is.
        pixels: Where they lie.
    """
    image = changed.astype(np.uint8)
    found = rasterio.features.shapes(image, mask=changed, connectivity=4, transform=pixels.transform)
    patches = [shape(outline) for outline, _ in found]  # 4-connected, for 8-connected outlines may cross themselves
    if not patches:
        return ()
    numbers = rasterio.features.rasterize(
        zip(patches, range(1, len(patches) + 1), strict=True),
        out_shape=pixels.shape,
        transform=pixels.transform,
        dtype=np.uint32,
    ).ravel()
    sizes = np.bincount(numbers, minlength=len(patches) + 1)[1:]
    sums = np.bincount(numbers, weights=probability.ravel().astype(np.float64), minlength=len(patches) + 1)[1:]
    firsts = np.empty(len(patches) + 1, np.intp)
    firsts[numbers[::-1]] = np.arange(numbers.size)[::-1]  # of a repeated number the last one assigned stays
    return tuple(
        ChangePolygon(
            patches[i], float(sizes[i]) * pixels.pixel_ha, float(sums[i]) / (float(sizes[i]) * PROBABILITY_SCALE)
        )
        for i in np.lexsort((firsts[1:], -sizes))
    )
