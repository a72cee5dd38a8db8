"""The dates of a season, and what the weather and the ground segment did to each."""

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from eo_tasks.sample.clouds import Sky, classify, make_sky, seen_through
from eo_tasks.sample.landscape import Landscape
from eo_tasks.sample.noise import Field
from eo_tasks.sample.render import Light, render

OVERPASS = (9, 57, 57)  # hour, minute, second UTC over the sample, as of Sentinel-2's relative orbit 79
OFFSET_DN = 1000  # added to stored values since processing baseline 04.00, Sentinel-2 Products Specification Document


@dataclass(frozen=True)
class Acquisition:
    """One overpass.

    Attributes:
        month: Of the year.
        cover: Share of the area under cloud, in [0, 1].
        cirrus: Opacity of thin cloud where it is thickest.
        satellite: ``S2A`` or ``S2B``.
        baseline: Processing baseline.
        offset_applied: The catalog has taken the offset out of the stored values.
        has_edge: The swath ends inside the area.
    """

    year: int
    month: int
    day: int
    cover: float
    cirrus: float = 0.0
    satellite: str = "S2A"
    baseline: str = "05.09"
    offset_applied: bool = False
    has_edge: bool = False

    @property
    def time(self) -> datetime:
        """When the sensor passed."""
        return datetime(self.year, self.month, self.day, *OVERPASS, tzinfo=UTC)

    @property
    def day_of_year(self) -> int:
        """From 1."""
        return self.time.timetuple().tm_yday

    @property
    def offset_dn(self) -> int:
        """What the stored values carry on top of reflectance × 10000."""
        return OFFSET_DN if float(self.baseline) >= 4 and not self.offset_applied else 0


@dataclass(frozen=True, eq=False)
class Observation:
    """One overpass as seen: reflectance of B02, B03, B04, B08, shape (4, y, x), SCL at 20 m, and its sky."""

    reflectance: Field
    scl: NDArray[np.uint8]
    sky: Sky


def observe(landscape: Landscape, acquisition: Acquisition, fog: Field | None = None) -> Observation:
    """See a landscape on one date.

    Args:
        landscape: The land.
        acquisition: Date and weather.
        fog: Opacity of fog, shape (y, x).
    """
    rng = np.random.default_rng([landscape.seed, 4, acquisition.year, acquisition.day_of_year])
    light = Light.drawn(rng)
    ground = render(landscape, acquisition.year, acquisition.day_of_year, light, rng)
    sky = make_sky(rng, landscape.shape, acquisition.day_of_year, acquisition.cover, acquisition.cirrus, fog)
    return Observation(seen_through(ground, sky), classify(ground, sky), sky)
