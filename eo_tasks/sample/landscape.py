"""A believable piece of country: a river, hills with forest, parcels, roads, villages, a town, and what is built."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely import LineString, STRtree, points

from eo_tasks.sample.construction import SUB_M, Alteration, Plot, plan_works
from eo_tasks.sample.crops import PARCEL_STYLES
from eo_tasks.sample.fabric import INDUSTRY, TOWN, VILLAGE, Fabric, build
from eo_tasks.sample.materials import Material
from eo_tasks.sample.noise import Field, block_mean, fractal_noise, lattice_noise, smooth_noise

SCALE = 10 // SUB_M  # drawn pixels along a side of a 10 m pixel
FOREST_SHARE = 0.30  # of the area; Slovenia has more, its plains less
BLOCK_M = 420  # fields lie in blocks of about this size, each with its own direction
STRIP_M = ((28, 110), (140, 420))  # width and length of parcels, from and to
VILLAGE_KM2 = 2.2  # area per village
RIVER_M, VALLEY_M = 34, 700  # width of the river; how far its flat valley reaches


@dataclass(frozen=True, eq=False)
class Landscape:
    """Ground at 5 m: what covers it, and everything that stays the same over the years.

    Attributes:
        seed: What it was made from.
        material: Cover before the first alteration, shape (2 y, 2 x).
        tone: Relative brightness of objects, of the same shape.
        parcel: Parcel style, an index into ``crops.parcel_reflectance``, of the same shape.
        fine: Fine texture, unit variance, of the same shape.
        broad: Broad texture, unit variance, of the same shape.
        elevation_m: Height, at 10 m, shape (y, x).
    """

    seed: int
    material: NDArray[np.uint8]
    tone: Field
    parcel: NDArray[np.uint16]
    fine: Field
    broad: Field
    elevation_m: Field
    alterations: tuple[Alteration, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns in pixels of 10 m."""
        return self.material.shape[0] // SCALE, self.material.shape[1] // SCALE

    def cover(self, year: int) -> tuple[NDArray[np.uint8], Field]:
        """Material and tone in a year, at 5 m."""
        material, tone = self.material.copy(), self.tone.copy()
        for altered in self.alterations:
            if altered.year <= year:
                material[altered.place][altered.footprint] = altered.material[altered.footprint]
                tone[altered.place][altered.footprint] = altered.tone[altered.footprint]
        return material, tone

    def change(self, before: int, after: int) -> NDArray[np.bool_]:
        """Pixels of 10 m of which at least half was built on after ``before`` and not later than ``after``."""
        built = np.zeros(self.material.shape, np.float32)
        for altered in self.alterations:
            if altered.is_construction and before < altered.year <= after:
                built[altered.place][altered.footprint] = 1
        return np.asarray(block_mean(built, SCALE) >= 0.5)


def make_landscape(seed: int, shape: tuple[int, int], plots: Sequence[Plot] = ()) -> Landscape:
    """Make a landscape.

    Args:
        seed: The same seed gives the same land.
        shape: Rows and columns, in pixels of 10 m.
        plots: What is built where and when.
    """
    rng = np.random.default_rng([seed, 0])
    drawn = (shape[0] * SCALE, shape[1] * SCALE)
    y, x = (axis.astype(np.float32) * SUB_M for axis in np.indices(drawn, sparse=True))
    river = _river(rng, shape)
    elevation_m, from_river_m = _relief(rng, shape, river)
    material = np.full(drawn, Material.FIELD, np.uint8)
    tone = np.ones(drawn, np.float32)
    parcel, is_track = _parcels(rng, x, y)
    material[is_track] = Material.TRACK
    _plant_forest(rng, material, elevation_m, from_river_m)
    centres = _settle(rng, shape, from_river_m)
    roads = _roads(rng, centres, shape)
    _paint_lines(material, roads, 4.5, Material.ASPHALT)
    for number, centre in enumerate(centres):
        _build_settlement(rng, material, tone, x, y, centre, is_town=number == 0)
    _paint_lines(material, [river], RIVER_M / 2, Material.WATER)
    _paint_lines(material, [_motorway(rng, shape)], 13, Material.ASPHALT)
    texture = [fractal_noise(rng, drawn, scale, octaves) for scale, octaves in ((3.0, 2), (60.0, 3))]
    alterations = plan_works(np.random.default_rng([seed, 3]), material, plots)
    return Landscape(seed, material, tone, parcel, texture[0], texture[1], elevation_m, alterations)


def _river(rng: np.random.Generator, shape: tuple[int, int]) -> LineString:
    """A winding line across the area from west to east, in metres from its north-western corner."""
    height_m, width_m = shape[0] * 10, shape[1] * 10
    along = np.arange(-300, width_m + 300, 20.0)
    line = smooth_noise(rng, (1, len(along)), 28)[0] * 110 + smooth_noise(rng, (1, len(along)), 90)[0] * 260
    start, end = rng.uniform(0.25, 0.75, 2) * height_m
    sideways = smooth_noise(rng, (1, len(along)), 20)[0] * 90
    return LineString(np.c_[along + sideways, np.linspace(start, end, len(along)) + line])


def _relief(rng: np.random.Generator, shape: tuple[int, int], river: LineString) -> tuple[Field, Field]:
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


def _parcels(
    rng: np.random.Generator, x: Field, y: Field
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """The parcel style of each pixel, and the farm tracks between blocks of parcels."""
    shape = (y.shape[0], x.shape[1])
    warped_x = x + 45 * smooth_noise(rng, shape, 70)
    warped_y = y + 45 * smooth_noise(rng, shape, 70)
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
    width, length = (
        low + (high - low) * value**2 for (low, high), value in zip(STRIP_M, chance[1:], strict=True)
    )
    strip = np.floor((warped_x * np.cos(angle) + warped_y * np.sin(angle)) / width).astype(np.int32)
    piece = np.floor((warped_y * np.cos(angle) - warped_x * np.sin(angle)) / length).astype(np.int32)
    style = lattice_noise(strip * 7919 + block_i, piece * 6007 + block_j, salt + 5) * PARCEL_STYLES
    return style.astype(np.uint16), (second - nearest) < 7


def _plant_forest(rng: np.random.Generator, material: NDArray[np.uint8], elevation_m: Field, from_river_m: Field) -> None:
    """Forest on hills, in small woods, and along the river."""
    drawn = material.shape
    height = _enlarged(elevation_m)
    woods = (height - height.mean()) / (height.std() + 1) + 0.9 * fractal_noise(rng, drawn, 110, 5)
    is_forest = woods > np.quantile(woods, 1 - FOREST_SHARE)
    bank = _enlarged(from_river_m) - RIVER_M / 2
    is_forest |= bank < 22 + 30 * smooth_noise(rng, drawn, 25)
    is_conifer = fractal_noise(rng, drawn, 40, 4) + (height - height.mean()) / (3 * height.std() + 1) > 0.25
    material[is_forest] = np.where(is_conifer, Material.CONIFER, Material.BROADLEAF)[is_forest]
    is_conifer &= bank > 150
    material[is_forest & ~is_conifer] = Material.BROADLEAF


def _settle(rng: np.random.Generator, shape: tuple[int, int], from_river_m: Field) -> list[tuple[float, float]]:
    """Centres of settlements (x, y) in metres, apart from each other and from the river; the town first."""
    area_km2 = shape[0] * shape[1] / 10_000
    wanted, centres = max(2, round(area_km2 / VILLAGE_KM2)), list[tuple[float, float]]()
    for _ in range(wanted * 40):
        row, column = (int(rng.integers(length * 0.06, length * 0.94)) for length in shape)
        x, y = column * 10.0, row * 10.0
        apart_m = 1100 if len(centres) < 2 else 850
        if from_river_m[row, column] > 260 and all(math.hypot(x - a, y - b) > apart_m for a, b in centres):
            centres.append((x, y))
        if len(centres) == wanted:
            break
    return centres


def _roads(
    rng: np.random.Generator, centres: list[tuple[float, float]], shape: tuple[int, int]
) -> list[LineString]:
    """Each settlement is joined to the nearest one before it, the first two to the border of the area."""
    height_m, width_m = shape[0] * 10.0, shape[1] * 10.0
    edges = [(rng.uniform(0, width_m), -100.0), (rng.uniform(0, width_m), height_m + 100), (-100.0, rng.uniform(0, height_m))]
    lines = [_bent(rng, start, end) for start, end in zip(centres, edges, strict=False)]
    for number, (x, y) in enumerate(centres[1:], start=1):
        nearest = min(centres[:number], key=lambda other: math.hypot(x - other[0], y - other[1]))
        lines.append(_bent(rng, (x, y), nearest))
    return lines


def _motorway(rng: np.random.Generator, shape: tuple[int, int]) -> LineString:
    height_m, width_m = shape[0] * 10.0, shape[1] * 10.0
    start, end = rng.uniform(0.1, 0.9, 2) * height_m
    return _bent(rng, (-100.0, start), (width_m + 100, end), bend=0.05)


def _bent(
    rng: np.random.Generator, start: tuple[float, float], end: tuple[float, float], bend: float = 0.12
) -> LineString:
    """A line that swings to both sides of the straight one."""
    t = np.linspace(0, 1, 40)
    straight = np.outer(1 - t, start) + np.outer(t, end)
    dx, dy = np.subtract(end, start)
    first, second = rng.normal(0, bend, 2)
    sideways = first * np.sin(np.pi * t) + second * np.sin(2 * np.pi * t)
    return LineString(straight + np.outer(sideways, (-dy, dx)))


def _paint_lines(material: NDArray[np.uint8], lines: list[LineString], half_width_m: float, paint: Material) -> None:
    shapes = [(line.buffer(half_width_m), 1) for line in lines]
    drawn = rasterize(shapes, out_shape=material.shape, transform=(SUB_M, 0, 0, 0, SUB_M, 0), dtype="uint8")
    material[drawn == 1] = paint


def _build_settlement(
    rng: np.random.Generator,
    material: NDArray[np.uint8],
    tone: Field,
    x: Field,
    y: Field,
    centre: tuple[float, float],
    *,
    is_town: bool,
) -> None:
    """Paint a village or a town with its works."""
    radius_m = rng.uniform(430, 520) if is_town else rng.uniform(130, 260)
    angle = rng.uniform(0, math.pi)
    _quarter(rng, material, tone, x, y, centre, radius_m, angle, TOWN if is_town else VILLAGE)
    if is_town or rng.random() < 0.35:
        beside = (centre[0] + math.cos(angle) * radius_m, centre[1] + math.sin(angle) * radius_m)
        _quarter(rng, material, tone, x, y, beside, radius_m * 0.45, angle, INDUSTRY)


def _quarter(
    rng: np.random.Generator,
    material: NDArray[np.uint8],
    tone: Field,
    x: Field,
    y: Field,
    centre: tuple[float, float],
    radius_m: float,
    angle: float,
    fabric: Fabric,
) -> None:
    reach = radius_m * 1.8
    rows = slice(*np.searchsorted(y[:, 0], (centre[1] - reach, centre[1] + reach)))
    columns = slice(*np.searchsorted(x[0], (centre[0] - reach, centre[0] + reach)))
    dx, dy = x[:, columns] - centre[0], y[rows] - centre[1]
    if not (dx.size and dy.size):
        return
    u = (dx * math.cos(angle) + dy * math.sin(angle)).astype(np.float32)
    v = (dy * math.cos(angle) - dx * math.sin(angle)).astype(np.float32)
    if fabric is INDUSTRY:
        inside = np.maximum(abs(u), abs(v) * 1.3) < radius_m
    else:
        inside = np.hypot(u, v * 1.3) < radius_m * (1 + 0.28 * smooth_noise(rng, u.shape, 30))
    built, brightness = build(u, v, fabric, int(rng.integers(2**31)))
    inside &= material[rows, columns] != Material.WATER
    material[rows, columns][inside] = built[inside]
    tone[rows, columns][inside] = brightness[inside]


def _enlarged(field: Field) -> Field:
    """From 10 m to the drawn resolution."""
    return field.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
