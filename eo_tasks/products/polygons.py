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
    """Draw a mask's patches of change, the largest first, equal ones from the top left.

    Args:
        changed: Changed pixels, shape (y, x).
        probability: Probability × 254, shape (y, x); 255 where not seen, which no changed pixel is.
        pixels: Where they lie.
    """
    image = changed.astype(np.uint8)
    found = rasterio.features.shapes(image, mask=changed, connectivity=4, transform=pixels.transform)
    patches = [shape(outline) for outline, _ in found]  # in 4-connected ones no ring touches itself along an edge
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
    return tuple(
        ChangePolygon(
            patches[i], float(sizes[i]) * pixels.pixel_ha, float(sums[i]) / (float(sizes[i]) * PROBABILITY_SCALE)
        )
        for i in sorted(range(len(patches)), key=lambda i: (-sizes[i], -patches[i].bounds[3], patches[i].bounds[0]))
    )
