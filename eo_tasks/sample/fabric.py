"""Built-up ground: streets, lots and houses on a rotated raster."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eo_tasks.sample.materials import Material
from eo_tasks.sample.noise import lattice_noise


@dataclass(frozen=True)
class Fabric:
    """How a quarter is built; lengths in metres.

    Attributes:
        lot_m: Width and depth of a lot.
        house_m: Mean width and depth of the building on it.
        lots_per_block: Lots between two cross streets.
        street_m: Width of a street.
        vacancy: Share of lots without a building.
        roofs: Roof materials and their shares.
        ground: What is between the buildings.
    """

    lot_m: tuple[float, float]
    house_m: tuple[float, float]
    lots_per_block: int
    street_m: float
    vacancy: float
    roofs: tuple[tuple[Material, float], ...]
    ground: Material


VILLAGE = Fabric(
    (28, 36), (14, 14), 4, 6, 0.30, ((Material.RED_ROOF, 0.75), (Material.GREY_ROOF, 0.25)), Material.GARDEN
)
TOWN = Fabric((24, 28), (17, 18), 6, 9, 0.12, ((Material.RED_ROOF, 0.6), (Material.GREY_ROOF, 0.4)), Material.GARDEN)
ESTATE = Fabric(
    (22, 26), (15, 16), 5, 9, 0.06, ((Material.RED_ROOF, 0.55), (Material.GREY_ROOF, 0.45)), Material.GARDEN
)
INDUSTRY = Fabric(
    (105, 75), (80, 50), 2, 12, 0.12, ((Material.BRIGHT_ROOF, 0.55), (Material.GREY_ROOF, 0.45)), Material.ASPHALT
)


def build(
    u: NDArray[np.float32], v: NDArray[np.float32], fabric: Fabric, salt: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Cover ground with a fabric.

    Args:
        u: Metres along the streets, shape (y, x).
        v: Metres across them, shape (y, x).
        fabric: How it is built.
        salt: Another number, other houses.

    Returns:
        Materials, and the relative brightness of each roof; shape (y, x).
    """
    lot_u, lot_v = fabric.lot_m
    block_u, block_v = fabric.lots_per_block * lot_u + fabric.street_m, 2 * lot_v + fabric.street_m
    in_u, in_v = u % block_u - fabric.street_m, v % block_v - fabric.street_m
    i = np.floor(u / block_u) * fabric.lots_per_block + np.floor(in_u / lot_u)
    j = np.floor(v / block_v) * 2 + np.floor(in_v / lot_v)
    i, j = i.astype(np.int64), j.astype(np.int64)
    chance = [lattice_noise(i, j, salt + number) for number in range(6)]
    is_house = chance[0] >= fabric.vacancy
    for within, lot, house, size, place in (
        (in_u, lot_u, fabric.house_m[0], chance[1], chance[2]),
        (in_v, lot_v, fabric.house_m[1], chance[3], chance[4]),
    ):
        length = house * (0.8 + 0.4 * size)
        start = (lot - length) * place
        is_house &= (within % lot >= start) & (within % lot < start + length)
    bounds = np.cumsum([share for _, share in fabric.roofs])
    roofs = np.array([roof for roof, _ in fabric.roofs], np.uint8)
    kind = np.minimum(np.searchsorted(bounds, chance[5], side="right"), len(roofs) - 1)
    material = np.where(is_house, roofs[kind], np.uint8(fabric.ground))
    material[(in_u < 0) | (in_v < 0)] = Material.ASPHALT
    tone = np.where(is_house, 0.85 + 0.3 * lattice_noise(i, j, salt + 7), np.float32(1))
    return material.astype(np.uint8), tone.astype(np.float32)
