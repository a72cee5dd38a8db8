"""Images on aligned pixel grids: where pixels lie, and the composite."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray

from eo_tasks.checksum import pixels_sha256
from eo_tasks.errors import RasterError
from eo_tasks.grid import PIXEL_M, Bounds, Cell

NODATA = 0  # of a composite's bands; Sentinel-2 products use the same value
REFLECTANCE_SCALE = 10_000  # DN per unit of reflectance, Sentinel-2 Products Specification Document
CLEAR_COUNT = "clear_count"
PLACE_PX = 0.01  # pixels this far apart lie in the same place

Rgb = NDArray[np.uint8]  # shape (y, x, 3)


@dataclass(frozen=True)
class Frame:
    """Where a raster's pixels lie, in whatever way.

    Attributes:
        crs: Its CRS as rasterio takes it; ``None`` for an image that lies nowhere.
        transform: From (column, row) to CRS coordinates.
    """

    crs: Any
    transform: Affine
    width: int
    height: int

    @property
    def pixel_ha(self) -> float | None:
        """Area of one pixel, hectares; ``None`` where the CRS has no metres."""
        crs = rasterio.CRS.from_user_input(self.crs) if self.crs is not None else None
        if crs is None or not crs.is_projected:
            return None
        return float(abs(self.transform.determinant) * crs.linear_units_factor[1] ** 2 / 10_000)

    def matches(self, other: "Frame") -> bool:
        """Whether both have the same pixels in the same places, to a hundredth of a pixel."""
        ours, theirs = (
            (one.width, one.height, None if one.crs is None else rasterio.CRS.from_user_input(one.crs))
            for one in (self, other)
        )
        t, u = self.transform, other.transform
        apart = [
            math.hypot((t.a - u.a) * x + (t.b - u.b) * y + t.c - u.c, (t.d - u.d) * x + (t.e - u.e) * y + t.f - u.f)
            for x in (0, self.width)
            for y in (0, self.height)
        ]
        return ours == theirs and max(apart) < PLACE_PX * math.sqrt(abs(t.determinant))

    def __str__(self) -> str:
        t = self.transform
        crs = "no CRS" if self.crs is None else rasterio.CRS.from_user_input(self.crs).to_string()
        turned = f", turned ({t.b:g}, {t.d:g})" if t.b or t.d else ""
        return f"{crs}, {self.width}×{self.height} px of {t.a:.10g} × {-t.e:.10g} from ({t.c:.10g}, {t.f:.10g}){turned}"


@dataclass(frozen=True, slots=True)
class PixelGrid:
    """Where pixels lie: ``bounds`` in metres of ``epsg``, whole multiples of ``resolution_m``."""

    epsg: int
    bounds: Bounds
    resolution_m: float = PIXEL_M

    @classmethod
    def of(cls, cell: Cell) -> "PixelGrid":
        """The one pixel grid of a cell, the same every year: its bounds snapped outward to 10 m."""
        xmin, ymin, xmax, ymax = (round(value / PIXEL_M, 6) for value in cell.bounds)
        snapped = (math.floor(xmin), math.floor(ymin), math.ceil(xmax), math.ceil(ymax))
        return cls(cell.epsg, tuple(float(value * PIXEL_M) for value in snapped))  # type: ignore[arg-type]

    @property
    def width(self) -> int:
        """Columns."""
        return round((self.bounds[2] - self.bounds[0]) / self.resolution_m)

    @property
    def height(self) -> int:
        """Rows."""
        return round((self.bounds[3] - self.bounds[1]) / self.resolution_m)

    @property
    def shape(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.height, self.width

    @property
    def transform(self) -> "Affine":
        """From (column, row) to CRS coordinates; north is up."""
        return Affine(self.resolution_m, 0.0, self.bounds[0], 0.0, -self.resolution_m, self.bounds[3])

    @property
    def frame(self) -> Frame:
        """The same, as any raster's."""
        return Frame(f"EPSG:{self.epsg}", self.transform, self.width, self.height)

    @property
    def pixel_ha(self) -> float:
        """Area of one pixel, hectares."""
        return self.resolution_m**2 / 10_000

    def rows(self, start: int, stop: int) -> "PixelGrid":
        """Some of its rows, counted from the top."""
        xmin, _, xmax, ymax = self.bounds
        top, bottom = (ymax - row * self.resolution_m for row in (start, stop))
        return PixelGrid(self.epsg, (xmin, bottom, xmax, top), self.resolution_m)

    def __str__(self) -> str:
        return f"EPSG:{self.epsg}, {self.width}×{self.height} px of {self.resolution_m:g} m from {self.bounds}"


@dataclass(frozen=True)
class Origin:
    """Where a composite's pixels come from.

    Attributes:
        source: ``openeo`` or ``stac``, and its address.
        collection: Collection of that source.
        scenes: Ids of the scenes used, where the source names them.
        dates: Their acquisition dates, ISO 8601.
        offset: What was done about the radiometric offset of processing baseline 04.00.
    """

    source: str
    collection: str
    scenes: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    offset: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Composite:
    """A grid-year's scenes reduced to one image.

    Attributes:
        dn: Surface reflectance × 10000, uint16, shape (band, y, x); 0 is nodata.
        clear_count: Clear observations of each pixel, uint16, shape (y, x).
    """

    pixels: PixelGrid
    bands: tuple[str, ...]
    dn: NDArray[np.uint16]
    clear_count: NDArray[np.uint16]
    origin: Origin

    def __post_init__(self) -> None:
        expected = (len(self.bands), *self.pixels.shape)
        if self.dn.shape != expected or self.clear_count.shape != self.pixels.shape:
            raise RasterError(
                f"composite of shape {self.dn.shape} with counts {self.clear_count.shape}, expected {expected}"
            )

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Usable pixels, shape (y, x)."""
        return np.asarray((self.dn != NODATA).all(axis=0))

    @property
    def checksum(self) -> str:
        """Fingerprint of its bands in order, then the counts."""
        return pixels_sha256((*self.dn, self.clear_count))

    def rows(self, start: int, stop: int) -> "Composite":
        """Some of its rows, counted from the top."""
        part = np.s_[..., start:stop, :]
        return replace(self, pixels=self.pixels.rows(start, stop), dn=self.dn[part], clear_count=self.clear_count[part])

    def reflectance(self, bands: Sequence[str]) -> NDArray[np.float32]:
        """Surface reflectance of some bands, shape (band, y, x); NaN where nodata."""
        if missing := [band for band in bands if band not in self.bands]:
            raise RasterError(f"composite has bands {', '.join(self.bands)}, not {', '.join(missing)}")
        dn = self.dn[[self.bands.index(band) for band in bands]]
        return np.where(dn == NODATA, np.float32(np.nan), dn.astype(np.float32) / REFLECTANCE_SCALE)


class CompositeRows(Protocol):
    """A composite, in memory or in a file, that gives its rows as they are needed."""

    @property
    def pixels(self) -> PixelGrid:
        """Where its pixels lie."""
        ...

    @property
    def bands(self) -> tuple[str, ...]:
        """Their names, in order."""
        ...

    def rows(self, start: int, stop: int) -> Composite:
        """Some of its rows, counted from the top.

        Raises:
            RasterError: They cannot be read.
        """
        ...


def to_rgb(composite: Composite, stretch: Mapping[str, tuple[float, float]]) -> Rgb:
    """A composite as an 8-bit picture, shape (y, x, 3).

    Args:
        composite: What to show.
        stretch: Reflectance range of red, green and blue shown as 0–255: the same for all years and cells, for a
            range chosen per image would invent change.
    """
    return stretched(composite.reflectance(tuple(stretch)), list(stretch.values()))


def stretched(reflectance: NDArray[np.float32], ranges: Sequence[tuple[float, float]]) -> Rgb:
    """Reflectance of red, green and blue, shape (3, y, x), as an 8-bit picture; NaN is shown as 0."""
    low, high = (np.array(ends, np.float32)[:, None, None] for ends in zip(*ranges, strict=True))
    scaled = (reflectance - low) / (high - low) * 255
    rgb = np.rint(np.clip(np.nan_to_num(scaled), 0, 255)).astype(np.uint8)
    return np.asarray(rgb.transpose(1, 2, 0))


def to_dn(reflectance: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Reflectance to stored DN; NaN to nodata, and valid values never below 1, which nodata is."""
    dn = np.clip(np.rint(reflectance * REFLECTANCE_SCALE), 1, np.iinfo(np.uint16).max - 1)
    return np.where(np.isnan(reflectance), NODATA, dn).astype(np.uint16)
