"""Patches of change as polygons."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio.features
import shapely
from numpy.typing import NDArray

from eo_tasks.products.mask import PROBABILITY_SCALE
from eo_tasks.products.patches import number_patches
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
    changed: NDArray[np.bool_], probability: NDArray[np.uint8], pixels: PixelGrid, min_ha: float = 0
) -> tuple[ChangePolygon, ...]:
    """Draw a mask's patches of change, the largest first, equal ones in the order of their first pixels, row by row.

    Args:
        changed: Changed pixels, shape (y, x).
        probability: Probability × 254, shape (y, x); 255 where not seen, which no changed pixel is.
        pixels: Where they lie.
        min_ha: Smaller patches are left out, hectares.
    """
    patches, number = number_patches(changed)
    if not number:
        return ()
    sizes = np.bincount(patches.ravel(), minlength=number + 1)
    sums = np.bincount(patches.ravel(), weights=probability.ravel().astype(np.float64), minlength=number + 1)
    least_px = min_ha / pixels.pixel_ha - 1e-6  # a patch that is exactly as large stays
    is_kept = sizes >= least_px
    is_kept[0] = False
    found = rasterio.features.shapes(
        patches,
        mask=is_kept[patches],
        connectivity=4,  # for 8-connected outlines may cross themselves
        transform=pixels.transform,
    )
    outlines = {int(patch): outline["coordinates"] for outline, patch in found}
    order = sorted(outlines, key=lambda patch: (-sizes[patch], patch))
    shapes = _polygons([outlines[patch] for patch in order])
    return tuple(
        ChangePolygon(
            shape, float(sizes[patch]) * pixels.pixel_ha, float(sums[patch]) / (float(sizes[patch]) * PROBABILITY_SCALE)
        )
        for shape, patch in zip(shapes, order, strict=True)
    )


def _polygons(outlines: Sequence[Sequence[Sequence[tuple[float, float]]]]) -> Iterable[Any]:
    """Polygons from their rings, the outer one first; all at once, for there may be many."""
    if not outlines:
        return ()
    rings = list(chain.from_iterable(outlines))
    points = np.array(list(chain.from_iterable(rings)))
    lines = shapely.linearrings(points, indices=np.repeat(np.arange(len(rings)), [len(ring) for ring in rings]))
    return shapely.polygons(lines, indices=np.repeat(np.arange(len(outlines)), [len(rings) for rings in outlines]))  # type: ignore[no-any-return]
