"""What parcels grow: crops with a calendar, sown anew every year, and meadows that stay."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PARCEL_STYLES = 8192  # parcels share this many histories; neighbours practically never the same
MEADOW_SHARE = 0.30  # of parcels; about that of permanent grassland in Slovenian farmland is larger still
DAY_JITTER = 8  # days by which sowing and harvest differ between parcels, standard deviation
BRIGHTNESS_JITTER = 0.10  # relative standard deviation between parcels of one crop

# Surface reflectance in B02, B03, B04, B08 of what a crop looks like in its phases; plausible, not measured.
SOIL, GREEN, STRAW, FLOWER = range(4)
PHASES = np.array(
    [
        (0.060, 0.098, 0.138, 0.22),  # soil
        (0.025, 0.067, 0.046, 0.38),  # green
        (0.068, 0.120, 0.168, 0.29),  # straw
        (0.040, 0.128, 0.115, 0.38),  # rapeseed in flower
    ],
    np.float32,
)
MEADOW = np.array((0.028, 0.074, 0.062, 0.31), np.float32)
CUT_MEADOW = np.array((0.041, 0.082, 0.084, 0.25), np.float32)


@dataclass(frozen=True)
class Crop:
    """A crop's year: from each of ``days`` on, blending linearly, the field shows that one of ``phases``."""

    share: float
    days: tuple[int, ...]
    phases: tuple[int, ...]

    def weights(self, day: NDArray[np.float32]) -> NDArray[np.float32]:
        """Shares of the four phases on days of the year, shape (day, phase)."""
        curves = np.eye(4)[list(self.phases)]
        return np.stack([np.interp(day, self.days, curve) for curve in curves.T], axis=1).astype(np.float32)


# Calendars as usual in the Pannonian lowlands: winter cereals ripe in July, rapeseed in flower at the end of April,
# maize covering the ground from mid June.
CROPS = (
    Crop(0.26, (75, 100, 160, 185, 200, 215, 260), (SOIL, GREEN, GREEN, STRAW, STRAW, SOIL, GREEN)),  # winter wheat
    Crop(0.10, (70, 95, 148, 170, 185, 205, 235), (SOIL, GREEN, GREEN, STRAW, STRAW, SOIL, GREEN)),  # winter barley
    Crop(
        0.08,
        (60, 90, 112, 118, 130, 138, 170, 185, 205),
        (SOIL, GREEN, GREEN, FLOWER, FLOWER, GREEN, GREEN, STRAW, SOIL),
    ),  # rapeseed
    Crop(0.34, (130, 165, 250, 275), (SOIL, GREEN, GREEN, STRAW)),  # maize
    Crop(0.12, (140, 172, 235, 255), (SOIL, GREEN, GREEN, STRAW)),  # soya
    Crop(0.10, (150, 190, 230, 250), (SOIL, GREEN, GREEN, SOIL)),  # oil pumpkin, sown late
)


def parcel_reflectance(seed: int, year: int, day: int) -> NDArray[np.float32]:
    """Surface reflectance of every parcel style on a day of a year, shape (style, band).

    What a parcel grows changes from year to year; whether it is a meadow does not.
    """
    lasting, yearly = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2, year])
    is_meadow = lasting.random(PARCEL_STYLES) < MEADOW_SHARE
    lasting_tone = lasting.normal(1, BRIGHTNESS_JITTER, PARCEL_STYLES)
    shares = np.array([crop.share for crop in CROPS])
    grown = yearly.choice(len(CROPS), PARCEL_STYLES, p=shares / shares.sum())
    local_day = (day + yearly.normal(0, DAY_JITTER, PARCEL_STYLES)).astype(np.float32)
    yearly_tone = yearly.normal(1, BRIGHTNESS_JITTER, PARCEL_STYLES)
    since_cut = (local_day + 60 * yearly.random(PARCEL_STYLES)) % 50  # mown about every seven weeks

    reflectance = np.zeros((PARCEL_STYLES, PHASES.shape[1]), np.float32)
    for number, crop in enumerate(CROPS):
        mine = grown == number
        reflectance[mine] = (crop.weights(local_day[mine])[:, :, None] * PHASES).sum(axis=1)
    regrown = np.clip(since_cut / 20, 0, 1)[:, None]
    meadow = regrown * MEADOW + (1 - regrown) * CUT_MEADOW
    reflectance = np.where(is_meadow[:, None], meadow, reflectance * yearly_tone[:, None])
    return np.asarray(reflectance * np.clip(lasting_tone, 0.75, 1.25)[:, None], np.float32)
