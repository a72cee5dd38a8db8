"""Where people live: villages, a town with its works, and the roads between them."""

import math

import numpy as np
from numpy.typing import NDArray
from shapely import LineString

from eo_tasks.sample.fabric import INDUSTRY, TOWN, VILLAGE, Fabric, build
from eo_tasks.sample.materials import Material
from eo_tasks.sample.noise import Field, smooth_noise

VILLAGE_KM2 = 2.2  # area per village
Place = tuple[float, float]  # metres to the east and south


def choose_places(rng: np.random.Generator, shape: tuple[int, int], from_river_m: Field) -> list[Place]:
    """Centres of settlements (x, y) in metres, apart from each other and from the river; the town first."""
    area_km2 = shape[0] * shape[1] / 10_000
    wanted, centres = max(2, round(area_km2 / VILLAGE_KM2)), list[Place]()
    for _ in range(wanted * 40):
        row, column = (int(rng.integers(round(length * 0.06), round(length * 0.94))) for length in shape)
        x, y = column * 10.0, row * 10.0
        apart_m = 1100 if len(centres) < 2 else 850
        if from_river_m[row, column] > 260 and all(math.hypot(x - a, y - b) > apart_m for a, b in centres):
            centres.append((x, y))
        if len(centres) == wanted:
            break
    return centres


def draw_roads(rng: np.random.Generator, centres: list[Place], shape: tuple[int, int]) -> list[LineString]:
    """Each settlement is joined to the nearest one before it, the first two to the border of the area."""
    height_m, width_m = shape[0] * 10.0, shape[1] * 10.0
    edges = [
        (rng.uniform(0, width_m), -100.0),
        (rng.uniform(0, width_m), height_m + 100),
        (-100.0, rng.uniform(0, height_m)),
    ]
    lines = [_bent(rng, start, end) for start, end in zip(centres, edges, strict=False)]
    for number, (x, y) in enumerate(centres[1:], start=1):
        nearest = min(centres[:number], key=lambda other: math.hypot(x - other[0], y - other[1]))
        lines.append(_bent(rng, (x, y), nearest))
    return lines


def draw_motorway(rng: np.random.Generator, shape: tuple[int, int]) -> LineString:
    """A road across the area from west to east."""
    height_m, width_m = shape[0] * 10.0, shape[1] * 10.0
    start, end = rng.uniform(0.1, 0.9, 2) * height_m
    return _bent(rng, (-100.0, start), (width_m + 100, end), bend=0.05)


def _bent(rng: np.random.Generator, start: Place, end: Place, bend: float = 0.12) -> LineString:
    """A line that swings to both sides of the straight one."""
    t = np.linspace(0, 1, 40)
    straight = np.outer(1 - t, start) + np.outer(t, end)
    dx, dy = np.subtract(end, start)
    first, second = rng.normal(0, bend, 2)
    sideways = first * np.sin(np.pi * t) + second * np.sin(2 * np.pi * t)
    return LineString(straight + np.outer(sideways, (-dy, dx)))


def build_settlement(
    rng: np.random.Generator,
    material: NDArray[np.uint8],
    tone: Field,
    x: Field,
    y: Field,
    centre: Place,
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
    centre: Place,
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
