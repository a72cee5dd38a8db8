"""Composites made here from the COGs of any STAC catalog."""

import itertools
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from eo_tasks.errors import EmptyCompositeError, EOTasksError, SettingsError
from eo_tasks.raster import REFLECTANCE_SCALE, Composite, Origin, PixelGrid, to_dn
from eo_tasks.sources.stac_scene import Scene
from eo_tasks.sources.stac_search import StacCatalog

if TYPE_CHECKING:
    from eo_tasks.settings import Settings
    from eo_tasks.sources.request import CompositeRequest

STACK_BYTES = 256 * 2**20  # most memory of one window's stack of observations
READERS = 8  # scenes read at once: remote reads wait for the network, not for a core


@dataclass(frozen=True)
class StacSource:
    """Reads scenes from a STAC API or a static catalog and reduces them to their median."""

    catalog: StacCatalog

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        """Take ``STAC_URL`` and ``STAC_COLLECTION``; nothing is opened yet.

        Raises:
            SettingsError: ``STAC_URL`` is not set.
        """
        if settings.stac_url is None:
            raise SettingsError(
                "IMAGERY_SOURCE=stac needs STAC_URL: the address of a STAC API, or the path or URL of a catalog.json."
            )
        return cls(StacCatalog(settings.stac_url, settings.stac_collection))

    def composite(self, request: "CompositeRequest", scratch: Path) -> Composite:
        """Make one composite; see ``Source.composite``. Nothing is written to ``scratch``."""
        try:
            return self._composite(request)
        except EOTasksError as error:
            if str(error).startswith(request.name):
                raise
            raise type(error)(f"{request.name}: {error}") from error

    def _composite(self, request: "CompositeRequest") -> Composite:
        items = self.catalog.search(request)
        season = f"{request.start} to {request.end} (months {request.months[0]}–{request.months[-1]})"
        if not items:
            limit = "" if request.max_cloud_cover is None else f" with at most {request.max_cloud_cover:g} % cloud"
            raise EmptyCompositeError(
                f"{self.catalog} has no scene of {self.catalog.collection} for it from {season}{limit}. "
                "Choose more months with COMPOSITE_MONTHS, or another year."
            )
        pixels = request.pixels
        observations = observe([Scene.of(item, request.bands, pixels) for item in items])
        dn = np.empty((len(request.bands), *pixels.shape), np.uint16)
        clear_count = np.empty(pixels.shape, np.uint16)
        used: set[str] = set()
        for rows in _windows(pixels, len(observations), len(request.bands)):
            stack, names = _read_window(observations, request, _box(pixels, rows))
            median, clear_count[rows] = median_composite(stack)
            dn[:, rows] = to_dn(median)
            used |= names
        if not clear_count.any():
            raise EmptyCompositeError(
                f"none of its {len(observations)} observations from {season} has a clear pixel. "
                "Choose more months with COMPOSITE_MONTHS, or mask fewer classes with MASKED_SCL."
            )
        return Composite(pixels, request.bands, dn, clear_count, self._origin(observations, used))

    def _origin(self, observations: Sequence[Sequence[Scene]], used: set[str]) -> Origin:
        scenes = [scene for scenes in observations for scene in scenes if scene.id in used]
        return Origin(
            source="stac",
            collection=self.catalog.collection,
            scenes=tuple(scene.id for scene in scenes),
            dates=tuple(sorted({scene.day.isoformat() for scene in scenes})),
            offset="; ".join(sorted({scene.offset_note for scene in scenes})),
            details={"url": str(self.catalog), "observations": len(observations)},
        )


def observe(scenes: Sequence[Scene]) -> list[list[Scene]]:
    """Put the granules of one overpass together.

    Neighbouring granules overlap, and one granule may be there in two processing baselines: both are one observation
    of the ground, that of one satellite on one orbit and one solar day. In each, the name that sorts last comes first:
    it is the newer processing.
    """
    ordered = sorted(sorted(scenes, key=lambda scene: scene.id, reverse=True), key=lambda scene: scene.observation)
    return [list(group) for _, group in itertools.groupby(ordered, key=lambda scene: scene.observation)]


def read_observation(
    scenes: Sequence[Scene], bands: Sequence[str], box: GeoBox, masked_scl: Sequence[int]
) -> tuple[NDArray[np.float32], set[str]]:
    """Read a window of one overpass; where granules overlap, the first clear one counts.

    Returns:
        DN, shape (band, y, x), NaN where it is not clear; and the ids of the scenes with a pixel in it.
    """
    image = np.full((len(bands), *box.shape), np.nan, np.float32)
    missing = np.ones(box.shape, bool)
    used = set()
    for scene in scenes:
        pixels, clear = scene.read(bands, box, masked_scl)
        take = clear & missing
        if take.any():
            image[:, take] = pixels[:, take]
            missing &= ~take
            used.add(scene.id)
        if not missing.any():
            break
    return image, used


def median_composite(stack: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
    """Reduce observations to their per-pixel median.

    Args:
        stack: DN, shape (observation, band, y, x); NaN in every band where not clear. It is sorted in place.

    Returns:
        Reflectance, shape (band, y, x), NaN where nothing is clear; and clear observations, shape (y, x).
    """
    clear_count = np.isfinite(stack[:, 0]).sum(axis=0)
    stack.sort(axis=0)  # puts NaN last
    last = np.maximum(clear_count - 1, 0)
    low, high = (
        np.take_along_axis(stack, index[None, None], axis=0)[0].astype(np.float64)
        for index in (last // 2, (last + 1) // 2)
    )
    return (low + high) / 2 / REFLECTANCE_SCALE, clear_count.astype(np.uint16)


def _read_window(
    observations: Sequence[Sequence[Scene]], request: "CompositeRequest", box: GeoBox
) -> tuple[NDArray[np.float32], set[str]]:
    """A window of all observations, shape (observation, band, y, x), and the scenes with a pixel in it."""

    stack = np.empty((len(observations), len(request.bands), *box.shape), np.float32)

    def read(index: int) -> set[str]:
        stack[index], used = read_observation(observations[index], request.bands, box, request.masked_scl)
        return used

    # rasterio silences this warning of its own by changing the process's filters, which threads undo for each other;
    # this puts them right again.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(READERS, len(observations))) as pool:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return stack, set().union(*pool.map(read, range(len(observations))))


def _windows(pixels: PixelGrid, observations: int, bands: int) -> list[slice]:
    """Full rows, as many at once as memory allows."""
    row_bytes = observations * bands * pixels.width * np.dtype(np.float32).itemsize
    height = max(1, min(pixels.height, STACK_BYTES // row_bytes))
    return [slice(top, min(top + height, pixels.height)) for top in range(0, pixels.height, height)]


def _box(pixels: PixelGrid, rows: slice) -> GeoBox:
    whole = GeoBox(pixels.shape, pixels.transform, f"EPSG:{pixels.epsg}")
    return whole[rows, :]
