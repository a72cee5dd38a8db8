"""How a landscape looks from above on one clear day."""

import math
from dataclasses import dataclass

import numpy as np

from eo_tasks.sample.crops import parcel_reflectance
from eo_tasks.sample.landscape import SCALE, Landscape
from eo_tasks.sample.materials import BANDS, Material, reflectance_table, texture_table
from eo_tasks.sample.noise import Field, block_mean, blurred

LATITUDE_DEG = 46.3
SUN_AZIMUTH_DEG = 157  # about 10:00 UTC, when Sentinel-2 passes
BLUR = 0.07  # weight of each neighbour in the sensor's point spread, beyond the mixing inside a pixel
HAZE = np.array([0.006, 0.004, 0.003, 0.001], np.float32)  # path radiance left by atmospheric correction, per band
NOISE = np.array([0.0012, 0.0012, 0.0014, 0.0025], np.float32)  # standard deviation per band, surface reflectance
BRIGHTNESS = 0.03  # standard deviation of a date's illumination left by atmospheric correction
RELIEF = 0.9  # strength of shading by slopes


@dataclass(frozen=True)
class Light:
    """What differs between two dates besides the land: brightness factor, haze in units of ``HAZE``."""

    brightness: float = 1.0
    haze: float = 0.0

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "Light":
        """A random date's light."""
        return cls(float(np.clip(rng.normal(1, BRIGHTNESS), 0.92, 1.08)), float(rng.uniform(0, 1.5)))


def sun_elevation_deg(day: int) -> float:
    """Height of the sun when Sentinel-2 passes, from the day of the year; Cooper (1969) for the declination."""
    declination = math.radians(23.45) * math.sin(2 * math.pi * (284 + day) / 365)
    latitude, hour_angle = math.radians(LATITUDE_DEG), math.radians(-15)
    sine = math.sin(latitude) * math.sin(declination)
    sine += math.cos(latitude) * math.cos(declination) * math.cos(hour_angle)
    return math.degrees(math.asin(sine))


def render(landscape: Landscape, year: int, day: int, light: Light, rng: np.random.Generator) -> Field:
    """Surface reflectance on a clear day.

    Args:
        landscape: The land.
        year: Calendar year.
        day: Day of the year.
        light: The date's light.
        rng: Of the sensor's noise.

    Returns:
        Reflectance of ``BANDS``, shape (4, y, x).
    """
    material, tone = landscape.cover(year)
    texture = texture_table()
    uneven = 1 + texture[:, 0][material] * landscape.fine + texture[:, 1][material] * landscape.broad
    uneven = np.clip(uneven, 0.35, 1.9) * tone
    table = np.concatenate([reflectance_table(day), parcel_reflectance(landscape.seed, year, day)])
    row = np.where(material == Material.FIELD, landscape.parcel + np.uint16(len(Material)), material)
    shade = light.brightness * _shading(landscape.elevation_m, day)
    image = np.empty((len(BANDS), *landscape.shape), np.float32)
    for band in range(len(BANDS)):
        image[band] = block_mean(table[:, band][row] * uneven, SCALE)
    image = blurred(image, BLUR) * shade + (light.haze * HAZE)[:, None, None]
    noise = rng.standard_normal(image.shape, np.float32) * NOISE[:, None, None]
    return np.asarray(np.clip(image + noise, 0.0005, None), np.float32)


def _shading(elevation_m: Field, day: int) -> Field:
    """Illumination of slopes relative to flat ground, shape (y, x)."""
    down, right = np.gradient(elevation_m, 10.0)
    azimuth, elevation = math.radians(SUN_AZIMUTH_DEG), math.radians(sun_elevation_deg(day))
    away = (down * math.cos(azimuth) * -1 + right * math.sin(azimuth)) / math.tan(elevation)  # rise towards the sun
    return np.asarray(np.clip(1 - RELIEF * away, 0.6, 1.4), np.float32)
