"""What people do to the land between two years: build, dig, pave; and cut forest, which is no construction."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from eo_tasks.sample.fabric import ESTATE, INDUSTRY, build
from eo_tasks.sample.materials import Material
from eo_tasks.sample.noise import lattice_noise, smooth_noise

SUB_M = 5  # the landscape is drawn on pixels of half Sentinel-2's size, so that edges mix
TRIES = 400


class Work(StrEnum):
    """Kinds of alteration."""

    HALLS = "halls"
    ESTATE = "estate"
    QUARRY = "quarry"
    ROAD = "road"
    CLEAR_CUT = "clear cut"  # vegetation change: an altered image, but not a change as BTC's labels mean it


# Length and width in metres, from and to; so that the smallest is about 8 × 8 pixels and a road 4 pixels wide.
SIZES_M = {
    Work.HALLS: ((110, 300), (90, 200)),
    Work.ESTATE: ((140, 320), (110, 260)),
    Work.QUARRY: ((120, 280), (110, 220)),
    Work.ROAD: ((450, 1100), (40, 50)),
    Work.CLEAR_CUT: ((90, 220), (80, 160)),
}
CONSTRUCTION = (Work.HALLS, Work.ESTATE, Work.QUARRY, Work.ROAD)
BUILDABLE = (Material.FIELD, Material.CONIFER, Material.BROADLEAF)
FOREST = (Material.CONIFER, Material.BROADLEAF)


@dataclass(frozen=True)
class Plot:
    """Where and when some works are wanted: rows and columns from and to, in pixels of 10 m."""

    year: int
    rows: tuple[int, int]
    columns: tuple[int, int]
    works: tuple[Work, ...]


@dataclass(frozen=True, eq=False)
class Alteration:
    """New ground cover from a year on.

    Attributes:
        year: First year that shows it.
        top: First row, in pixels of ``SUB_M``.
        left: First column.
        footprint: Altered ground, shape (y, x).
        material: Its new cover, of the same shape.
        tone: Its relative brightness.
    """

    year: int
    work: Work
    top: int
    left: int
    footprint: NDArray[np.bool_]
    material: NDArray[np.uint8]
    tone: NDArray[np.float32]

    @property
    def is_construction(self) -> bool:
        """Whether it counts as change."""
        return self.work in CONSTRUCTION

    @property
    def place(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        height, width = self.footprint.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def plan_works(
    rng: np.random.Generator, material: NDArray[np.uint8], plots: Sequence[Plot]
) -> tuple[Alteration, ...]:
    """Find room for the works of all plots on fields and in forest, none touching another.

    A work for which a plot has no room is left out.
    """
    room = {work: np.isin(material, FOREST if work is Work.CLEAR_CUT else BUILDABLE) for work in Work}
    done = []
    for plot in sorted(plots, key=lambda plot: plot.year):
        for work in plot.works:
            if (found := _find_room(rng, room[work], plot, work)) is None:
                continue
            done.append(found)
            rows, columns = (slice(max(part.start - 6, 0), part.stop + 6) for part in found.place)
            for free in room.values():
                free[rows, columns] = False
    return tuple(done)


def _find_room(rng: np.random.Generator, room: NDArray[np.bool_], plot: Plot, work: Work) -> Alteration | None:
    scale = 10 // SUB_M
    for _ in range(TRIES):
        length_m, width_m = (rng.uniform(*span) for span in SIZES_M[work])
        made = _make(rng, plot.year, work, length_m, width_m)
        height, width = made.footprint.shape
        top_end, left_end = plot.rows[1] * scale - height, plot.columns[1] * scale - width
        if top_end <= plot.rows[0] * scale or left_end <= plot.columns[0] * scale:
            continue
        top, left = rng.integers(plot.rows[0] * scale, top_end), rng.integers(plot.columns[0] * scale, left_end)
        placed = Alteration(plot.year, work, int(top), int(left), made.footprint, made.material, made.tone)
        # A road may cross what is there already; the rest keeps away from it.
        needed = 0.85 if work is Work.ROAD else 0.97
        if room[placed.place][made.footprint].mean() >= needed:
            return placed
    return None


def _make(rng: np.random.Generator, year: int, work: Work, length_m: float, width_m: float) -> Alteration:
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
    u = x * math.cos(angle) + y * math.sin(angle)
    v = -x * math.sin(angle) + y * math.cos(angle)
    salt = int(rng.integers(2**31))
    bend = length_m / 10 * rng.uniform(-1, 1)
    inside = (abs(u) <= length_m / 2) & (abs(v) <= width_m / 2)
    tone = np.ones(x.shape, np.float32)
    match work:
        case Work.HALLS:
            material, tone = build(u + length_m / 2 + 12, v + width_m / 2 + 12, INDUSTRY, salt)
        case Work.ESTATE:
            material, tone = build(u + length_m / 2, v + width_m / 2, ESTATE, salt)
            inside &= abs(u) / length_m + abs(v) / width_m < 0.85  # corners cut
        case Work.QUARRY:
            wobble = 1 + 0.16 * smooth_noise(rng, x.shape, 14)
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
            inside &= 1 + 0.3 * smooth_noise(rng, x.shape, 10) > 1.6 * (abs(u) / length_m + abs(v) / width_m)
            material = np.full(x.shape, Material.CLEARING, np.uint8)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Alteration(year, work, 0, 0, inside[box], material[box], tone[box].astype(np.float32))
