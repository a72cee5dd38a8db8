"""Where works are put between two years: on open land, apart from each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eo_tasks.sample.materials import Material
from eo_tasks.sample.works import CONSTRUCTION, SIZES_M, SUB_M, Drawing, Work, draw_work

TRIES = 400
APART_PX = 6  # kept free around each work, pixels of ``SUB_M``
MOST, NEEDED_ROOM = 0.97, {Work.ROAD: 0.85}  # share of a work on open land; a road may cross what is there already
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
    """A work in its place; ``top`` and ``left`` count pixels of ``SUB_M``, ``year`` is the first that shows it."""

    year: int
    work: Work
    top: int
    left: int
    drawing: Drawing

    @property
    def is_construction(self) -> bool:
        """Whether it counts as change."""
        return self.work in CONSTRUCTION

    @property
    def place(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        height, width = self.drawing.footprint.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def plan_works(rng: np.random.Generator, material: NDArray[np.uint8], plots: Sequence[Plot]) -> tuple[Alteration, ...]:
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
            rows, columns = (slice(max(part.start - APART_PX, 0), part.stop + APART_PX) for part in found.place)
            for free in room.values():
                free[rows, columns] = False
    return tuple(done)


def _find_room(rng: np.random.Generator, room: NDArray[np.bool_], plot: Plot, work: Work) -> Alteration | None:
    scale = 10 // SUB_M
    for _ in range(TRIES):
        length_m, width_m = (rng.uniform(*span) for span in SIZES_M[work])
        drawing = draw_work(rng, work, length_m, width_m)
        height, width = drawing.footprint.shape
        top_end, left_end = plot.rows[1] * scale - height, plot.columns[1] * scale - width
        if top_end <= plot.rows[0] * scale or left_end <= plot.columns[0] * scale:
            continue
        top, left = rng.integers(plot.rows[0] * scale, top_end), rng.integers(plot.columns[0] * scale, left_end)
        placed = Alteration(plot.year, work, int(top), int(left), drawing)
        if room[placed.place][drawing.footprint].mean() >= NEEDED_ROOM.get(work, MOST):
            return placed
    return None
