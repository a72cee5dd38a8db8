"""Clouds, their shadows, and how the scene classification sees them: nearly but not perfectly."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eo_tasks.sample.noise import Field, block_mean, dilated, fractal_noise
from eo_tasks.sample.render import SUN_AZIMUTH_DEG, sun_elevation_deg

CLOUD_SIZE_PX = 110
EDGE = 0.30  # of the noise's standard deviation: over this a cloud's edge thickens from nothing to opaque
CLOUD_REFLECTANCE = np.array([0.52, 0.53, 0.54, 0.60], np.float32)  # B02, B03, B04, B08 of opaque water cloud
CIRRUS_REFLECTANCE = np.array([0.40, 0.40, 0.40, 0.45], np.float32)
SHADE = 0.5  # of the light that an opaque cloud takes from the ground; the sky still lights it
HEIGHT_M = (900, 2200)  # of fair-weather clouds above ground, from and to

# Classes of the Scene Classification Layer; Sentinel-2 L2A Algorithm Theoretical Basis Document.
NO_DATA, SHADOW, VEGETATION, BARE, WATER, UNCLASSIFIED = 0, 3, 4, 5, 6, 7
CLOUD_MEDIUM, CLOUD_HIGH, CIRRUS = 8, 9, 10
SEEN_FROM, SEEN_SHADOW_FROM, SEEN_CIRRUS_FROM = 0.12, 0.25, 0.08  # opacity from which the classification notices
SURE_FROM = 0.6  # opacity of "cloud, high probability"
DILATION_PX = 1  # of the classification, pixels of 20 m; the thinnest edges and some shadow remain beyond it


@dataclass(frozen=True, eq=False)
class Sky:
    """What stands between the sun, the land and the sensor; opacities in [0, 1], shape (y, x)."""

    cloud: Field
    shadow: Field
    cirrus: Field

    @property
    def cloud_cover(self) -> float:
        """Share of the area under cloud, percent."""
        return float((np.maximum(self.cloud, self.cirrus) > SEEN_FROM).mean() * 100)


def make_sky(
    rng: np.random.Generator,
    shape: tuple[int, int],
    day: int,
    cover: float,
    cirrus: float = 0.0,
    fog: Field | None = None,
) -> Sky:
    """A sky over the area.

    Args:
        rng: Of the clouds' places and height.
        shape: Rows and columns, pixels of 10 m.
        day: Day of the year, for the length of shadows.
        cover: Share of the area under cloud, in [0, 1].
        cirrus: Opacity of thin high cloud where it is thickest.
        fog: Opacity of fog, which lies on the ground and casts no shadow; shape (y, x).
    """
    reach_m = rng.uniform(*HEIGHT_M) / math.tan(math.radians(sun_elevation_deg(day)))
    azimuth = math.radians(SUN_AZIMUTH_DEG)
    down, right = (round(part * reach_m / 10) for part in (math.cos(azimuth), -math.sin(azimuth)))  # away from the sun
    margin = max(abs(down), abs(right))
    wide = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    cloud = np.zeros(wide, np.float32)
    if cover > 0:
        noise = fractal_noise(rng, wide, CLOUD_SIZE_PX, 6)
        cloud = _smooth_step((noise - np.quantile(noise, 1 - cover)) / EDGE)
    inner = np.s_[margin : margin + shape[0], margin : margin + shape[1]]
    shadow = np.roll(cloud, (down, right), axis=(0, 1))[inner] * (1 - cloud[inner])
    hidden = cloud[inner] if fog is None else np.maximum(cloud[inner], fog)
    veil = np.zeros(shape, np.float32)
    if cirrus > 0:
        veil = np.float32(cirrus) * _smooth_step(fractal_noise(rng, shape, 200, 4) * 0.5)
    return Sky(hidden, shadow, veil)


def seen_through(ground: Field, sky: Sky) -> Field:
    """Reflectance as processed from what the sensor sees, shape (band, y, x)."""
    billow = 0.7 + 0.3 * sky.cloud
    image = ground * (1 - SHADE * sky.shadow)
    image = image * (1 - sky.cirrus) + sky.cirrus * CIRRUS_REFLECTANCE[:, None, None]
    return np.asarray(image * (1 - sky.cloud) + sky.cloud * billow * CLOUD_REFLECTANCE[:, None, None])


def classify(ground: Field, sky: Sky) -> NDArray[np.uint8]:
    """The Scene Classification Layer at 20 m, shape (y / 2, x / 2).

    Args:
        ground: Reflectance without clouds of B02, B03, B04, B08 at 10 m.
        sky: What hides it.
    """
    _, green, red, near = block_mean(ground, 2)
    cloud, shadow, cirrus = (block_mean(part, 2) for part in (sky.cloud, sky.shadow, sky.cirrus))
    ndvi = (near - red) / (near + red)
    scl = np.full(ndvi.shape, UNCLASSIFIED, np.uint8)
    scl[ndvi > 0.4] = VEGETATION
    scl[(ndvi <= 0.4) & (red > green)] = BARE
    scl[(near < green) & (near < 0.06)] = WATER
    scl[dilated(shadow > SEEN_SHADOW_FROM, DILATION_PX)] = SHADOW
    scl[cirrus > SEEN_CIRRUS_FROM] = CIRRUS
    scl[dilated(cloud > SEEN_FROM, DILATION_PX)] = CLOUD_MEDIUM
    scl[cloud > SURE_FROM] = CLOUD_HIGH
    return scl


def _smooth_step(value: Field) -> Field:
    inside = np.clip(value, 0, 1)
    return np.asarray(inside * inside * (3 - 2 * inside), np.float32)
