"""The shape of the land: a river in its valley, hills, and forest on them."""

import numpy as np
from numpy.typing import NDArray
from shapely import LineString, STRtree, points

from eo_tasks.sample.materials import Material
from eo_tasks.sample.noise import Field, fractal_noise, smooth_noise

FOREST_SHARE = 0.30  # of the area; Slovenia has more, its plains less
RIVER_M, VALLEY_M = 34, 700  # width of the river; how far its flat valley reaches


def draw_river(rng: np.random.Generator, shape: tuple[int, int]) -> LineString:
    """A winding line across the area from west to east, in metres from its north-western corner."""
    height_m, width_m = shape[0] * 10, shape[1] * 10
    along = np.arange(-300, width_m + 300, 20.0)
    line = smooth_noise(rng, (1, len(along)), 28)[0] * 130 + smooth_noise(rng, (1, len(along)), 90)[0] * 260
    start, end = rng.uniform(0.25, 0.75, 2) * height_m
    sideways = smooth_noise(rng, (1, len(along)), 16)[0] * 120
    return LineString(np.c_[along + sideways, np.linspace(start, end, len(along)) + line])


def make_relief(rng: np.random.Generator, shape: tuple[int, int], river: LineString) -> tuple[Field, Field]:
    """Height and distance from the river in metres, shape (y, x) at 10 m."""
    coarse = 8
    rows, columns = (np.arange(0, length + coarse, coarse) * 10.0 for length in shape)
    grid_x, grid_y = np.meshgrid(columns, rows)
    tree = STRtree(list(map(LineString, np.stack([np.asarray(river.coords)[:-1], np.asarray(river.coords)[1:]], 1))))
    _, distance = tree.query_nearest(points(grid_x.ravel(), grid_y.ravel()), return_distance=True, all_matches=False)
    from_river = distance.reshape(grid_x.shape)
    fine_rows, fine_columns = (np.arange(length) / coarse for length in shape)
    across = np.stack([np.interp(fine_columns, np.arange(len(columns)), row) for row in from_river])
    down = np.stack([np.interp(fine_rows, np.arange(len(rows)), column) for column in across.T], axis=1)
    distance_m = down.astype(np.float32)
    hills = np.clip(fractal_noise(rng, shape, 130, 5) + 0.4, 0, None) * 75
    return (240 + hills * np.clip(distance_m / VALLEY_M, 0.05, 1)).astype(np.float32), distance_m


def plant_forest(
    rng: np.random.Generator, material: NDArray[np.uint8], elevation_m: Field, from_river_m: Field
) -> None:
    """Paint forest on hills, in small woods, and along the river.

    Args:
        rng: Of the woods.
        material: Painted on, shape (k y, k x).
        elevation_m: Shape (y, x).
        from_river_m: Shape (y, x).
    """
    drawn = material.shape
    height = _enlarged(elevation_m, drawn)
    woods = (height - height.mean()) / (height.std() + 1) + 0.9 * fractal_noise(rng, drawn, 110, 5)
    is_forest = woods > np.quantile(woods, 1 - FOREST_SHARE)
    bank = _enlarged(from_river_m, drawn) - RIVER_M / 2
    is_forest |= bank < 22 + 30 * smooth_noise(rng, drawn, 25)
    is_conifer = fractal_noise(rng, drawn, 40, 4) + (height - height.mean()) / (3 * height.std() + 1) > 0.25
    material[is_forest] = np.where(is_conifer, Material.CONIFER, Material.BROADLEAF)[is_forest]
    is_conifer &= bank > 150
    material[is_forest & ~is_conifer] = Material.BROADLEAF


def _enlarged(field: Field, shape: tuple[int, ...]) -> Field:
    """The field with its pixels repeated to fill a multiple of its shape."""
    factors = [length // own for length, own in zip(shape, field.shape, strict=True)]
    return field.repeat(factors[0], axis=0).repeat(factors[1], axis=1)
