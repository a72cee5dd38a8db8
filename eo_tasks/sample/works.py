"""Works that alter the land, each drawn by itself: built, dug, paved; and forest cut, which is no construction."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from eo_tasks.sample.fabric import ESTATE, INDUSTRY, build
from eo_tasks.sample.materials import Material
from eo_tasks.sample.noise import lattice_noise, smooth_noise

SUB_M = 5  # the landscape is drawn on pixels of half Sentinel-2's size, so that edges mix


class Work(StrEnum):
    """Kinds of alteration."""

    HALLS = "halls"
    ESTATE = "estate"
    QUARRY = "quarry"
    ROAD = "road"
    CLEAR_CUT = "clear cut"  # vegetation change: an altered image, but not a change as BTC's labels mean it


CONSTRUCTION = (Work.HALLS, Work.ESTATE, Work.QUARRY, Work.ROAD)
# Length and width in metres, from and to; so that the smallest is about 8 × 8 pixels and a road 4 pixels wide.
SIZES_M = {
    Work.HALLS: ((110, 300), (90, 200)),
    Work.ESTATE: ((140, 320), (110, 260)),
    Work.QUARRY: ((120, 280), (110, 220)),
    Work.ROAD: ((450, 1100), (40, 50)),
    Work.CLEAR_CUT: ((90, 220), (80, 160)),
}


@dataclass(frozen=True, eq=False)
class Drawing:
    """New ground cover.

    Attributes:
        footprint: Altered ground, shape (y, x) in pixels of ``SUB_M``.
        material: Its new cover, of the same shape.
        tone: Its relative brightness, of the same shape.
    """

    footprint: NDArray[np.bool_]
    material: NDArray[np.uint8]
    tone: NDArray[np.float32]


def draw_work(rng: np.random.Generator, work: Work, length_m: float, width_m: float) -> Drawing:
    """Draw one work of a size, at a random angle, in the smallest box that holds it."""
    angle = rng.uniform(0, math.pi)
    half = math.hypot(length_m, width_m) / 2 if work is not Work.QUARRY else max(length_m, width_m) * 0.75
    if work is Work.ROAD:  # its box is long and narrow
        half_x, half_y = (
            (length_m * abs(along) + (width_m + length_m / 4) * across) / 2 + 10
            for along, across in ((math.cos(angle), abs(math.sin(angle))), (math.sin(angle), abs(math.cos(angle))))
        )
    else:
        half_x = half_y = half
    x, y = np.meshgrid(
        np.arange(-half_x, half_x, SUB_M, dtype=np.float32), np.arange(-half_y, half_y, SUB_M, dtype=np.float32)
    )
    u = np.asarray(x * math.cos(angle) + y * math.sin(angle), np.float32)
    v = np.asarray(y * math.cos(angle) - x * math.sin(angle), np.float32)
    salt = int(rng.integers(2**31))
    bend = length_m / 10 * rng.uniform(-1, 1)
    inside = (abs(u) <= length_m / 2) & (abs(v) <= width_m / 2)
    tone = np.ones(x.shape, np.float32)
    match work:
        case Work.HALLS:
            material, tone = build(u + np.float32(length_m / 2 + 12), v + np.float32(width_m / 2 + 12), INDUSTRY, salt)
        case Work.ESTATE:
            material, tone = build(u + np.float32(length_m / 2), v + np.float32(width_m / 2), ESTATE, salt)
            inside &= abs(u) / length_m + abs(v) / width_m < 0.85  # corners cut
        case Work.QUARRY:
            wobble = 1 + 0.16 * np.clip(smooth_noise(rng, x.shape, 14), -2, 2)
            inside = (u / length_m) ** 2 + (v / width_m) ** 2 <= (wobble / 2) ** 2
            material = np.full(x.shape, Material.ROCK, np.uint8)
            terrace = np.floor((u + 20 * smooth_noise(rng, x.shape, 12)) / 35).astype(np.int64)
            tone = 0.72 + 0.45 * lattice_noise(terrace, np.zeros_like(terrace), salt)
        case Work.ROAD:
            from_axis = abs(v - bend * (1 - (2 * u / length_m) ** 2))
            inside = (abs(u) <= length_m / 2) & (from_axis <= width_m / 2)
            is_verge = (from_axis > width_m / 2 - 8) | (from_axis < 2.5)
            material = np.where(is_verge, np.uint8(Material.TRACK), np.uint8(Material.ASPHALT))
        case Work.CLEAR_CUT:
            inside &= 1 + 0.3 * np.clip(smooth_noise(rng, x.shape, 10), -1.5, 1.5) > 1.6 * (
                abs(u) / length_m + abs(v) / width_m
            )
            material = np.full(x.shape, Material.CLEARING, np.uint8)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Drawing(inside[box], material[box], tone[box].astype(np.float32))
