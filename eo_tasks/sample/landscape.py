"""A believable piece of country: a river, hills with forest, parcels, roads, villages, a town, and what is built."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.features import rasterize
from shapely import LineString

from eo_tasks.sample.construction import Alteration, Plot, plan_works
from eo_tasks.sample.materials import Material
from eo_tasks.sample.noise import Field, block_mean, fractal_noise
from eo_tasks.sample.parcels import draw_parcels
from eo_tasks.sample.relief import RIVER_M, draw_river, make_relief, plant_forest
from eo_tasks.sample.settlements import build_settlement, choose_places, draw_motorway, draw_roads
from eo_tasks.sample.works import SUB_M

SCALE = 10 // SUB_M  # drawn pixels along a side of a 10 m pixel
ROAD_M, MOTORWAY_M = 9, 26


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
                drawing = altered.drawing
                material[altered.place][drawing.footprint] = drawing.material[drawing.footprint]
                tone[altered.place][drawing.footprint] = drawing.tone[drawing.footprint]
        return material, tone

    def change(self, before: int, after: int) -> NDArray[np.bool_]:
        """Pixels of 10 m of which at least half was built on after ``before`` and not later than ``after``."""
        built = np.zeros(self.material.shape, np.float32)
        for altered in self.alterations:
            if altered.is_construction and before < altered.year <= after:
                built[altered.place][altered.drawing.footprint] = 1
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
    river = draw_river(rng, shape)
    elevation_m, from_river_m = make_relief(rng, shape, river)
    material = np.full(drawn, Material.FIELD, np.uint8)
    tone = np.ones(drawn, np.float32)
    parcel, is_track = draw_parcels(rng, x, y)
    material[is_track] = Material.TRACK
    plant_forest(rng, material, elevation_m, from_river_m)
    centres = choose_places(rng, shape, from_river_m)
    roads = draw_roads(rng, centres, shape)
    _paint_lines(material, roads, ROAD_M / 2, Material.ASPHALT)
    for number, centre in enumerate(centres):
        build_settlement(rng, material, tone, x, y, centre, is_town=number == 0)
    _paint_lines(material, [river], RIVER_M / 2, Material.WATER)
    _paint_lines(material, [draw_motorway(rng, shape)], MOTORWAY_M / 2, Material.ASPHALT)
    texture = [fractal_noise(rng, drawn, scale, octaves) for scale, octaves in ((2.2, 1), (60.0, 3))]
    alterations = plan_works(np.random.default_rng([seed, 3]), material, plots)
    return Landscape(seed, material, tone, parcel, texture[0], texture[1], elevation_m, alterations)


def _paint_lines(material: NDArray[np.uint8], lines: list[LineString], half_width_m: float, paint: Material) -> None:
    shapes = [(line.buffer(half_width_m), 1) for line in lines]
    drawn = rasterize(shapes, out_shape=material.shape, transform=(SUB_M, 0, 0, 0, SUB_M, 0), dtype="uint8")
    material[drawn == 1] = paint
