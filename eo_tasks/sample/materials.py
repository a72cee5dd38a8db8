"""What the ground is made of, and how bright that is in each band."""

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

BANDS = ("B02", "B03", "B04", "B08")


class Material(IntEnum):
    """What covers a piece of ground; FIELD stands for whatever its parcel grows."""

    FIELD = 0
    CONIFER = 1
    BROADLEAF = 2
    WATER = 3
    GARDEN = 4
    ASPHALT = 5
    TRACK = 6
    RED_ROOF = 7
    GREY_ROOF = 8
    BRIGHT_ROOF = 9
    ROCK = 10
    CLEARING = 11


# Surface reflectance in B02, B03, B04, B08. Round numbers typical of central Europe in summer, chosen for
# plausibility and not taken from any one measurement.
REFLECTANCE = {
    Material.FIELD: (0.0, 0.0, 0.0, 0.0),  # its parcel's, see crops.py
    Material.CONIFER: (0.014, 0.031, 0.020, 0.21),
    Material.BROADLEAF: (0.017, 0.046, 0.028, 0.33),
    Material.WATER: (0.048, 0.058, 0.034, 0.020),
    Material.GARDEN: (0.034, 0.066, 0.058, 0.27),
    Material.ASPHALT: (0.078, 0.092, 0.104, 0.14),
    Material.TRACK: (0.054, 0.090, 0.100, 0.24),
    Material.RED_ROOF: (0.075, 0.102, 0.165, 0.23),
    Material.GREY_ROOF: (0.118, 0.134, 0.150, 0.19),
    Material.BRIGHT_ROOF: (0.215, 0.245, 0.275, 0.30),
    Material.ROCK: (0.125, 0.172, 0.215, 0.29),
    Material.CLEARING: (0.034, 0.066, 0.066, 0.25),
}
BARE_BROADLEAF = (0.036, 0.052, 0.060, 0.20)  # before the leaves are out
LEAF_OUT = (95, 130)  # days of the year in which broadleaf forest turns green; central European lowlands

# How uneven each material is: relative standard deviation of its fine (10 m) and broad (200 m) texture.
TEXTURE = {
    Material.FIELD: (0.035, 0.060),
    Material.CONIFER: (0.160, 0.080),
    Material.BROADLEAF: (0.150, 0.090),
    Material.WATER: (0.020, 0.040),
    Material.GARDEN: (0.140, 0.050),
    Material.ASPHALT: (0.060, 0.030),
    Material.TRACK: (0.080, 0.050),
    Material.RED_ROOF: (0.050, 0.000),
    Material.GREY_ROOF: (0.050, 0.000),
    Material.BRIGHT_ROOF: (0.040, 0.000),
    Material.ROCK: (0.150, 0.100),
    Material.CLEARING: (0.120, 0.080),
}


def reflectance_table(day: int) -> NDArray[np.float32]:
    """Surface reflectance of every material on a day of the year, shape (material, band)."""
    table = np.array([REFLECTANCE[material] for material in Material], np.float32)
    green = np.interp(day, LEAF_OUT, (0, 1))
    table[Material.BROADLEAF] = green * table[Material.BROADLEAF] + (1 - green) * np.array(BARE_BROADLEAF)
    return table


def texture_table() -> NDArray[np.float32]:
    """Fine and broad texture of every material, shape (material, 2)."""
    return np.array([TEXTURE[material] for material in Material], np.float32)
