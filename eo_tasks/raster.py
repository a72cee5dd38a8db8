"""Images on aligned pixel grids: the composite, and GeoTIFFs in and out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from eo_tasks.errors import RasterError
from eo_tasks.files import written_aside
from eo_tasks.grid import PIXEL_M, Bounds, Cell

NODATA = 0  # of a composite's bands; Sentinel-2 products use the same value
REFLECTANCE_SCALE = 10_000  # DN per unit of reflectance, Sentinel-2 Products Specification Document
CLEAR_COUNT = "clear_count"
BLOCK_PX = 256

Rgb = NDArray[np.uint8]  # shape (y, x, 3)


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
    def pixel_ha(self) -> float:
        """Area of one pixel, hectares."""
        return self.resolution_m**2 / 10_000

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

    def reflectance(self, bands: Sequence[str]) -> NDArray[np.float32]:
        """Surface reflectance of some bands, shape (band, y, x); NaN where nodata."""
        if missing := [band for band in bands if band not in self.bands]:
            raise RasterError(f"composite has bands {', '.join(self.bands)}, not {', '.join(missing)}")
        dn = self.dn[[self.bands.index(band) for band in bands]]
        return np.where(dn == NODATA, np.float32(np.nan), dn.astype(np.float32) / REFLECTANCE_SCALE)


def to_rgb(composite: Composite, stretch: Mapping[str, tuple[float, float]]) -> Rgb:
    """A composite as an 8-bit picture, shape (y, x, 3).

    Args:
        composite: What to show.
        stretch: Reflectance range of red, green and blue shown as 0–255: the same for all years and cells, for a
            range chosen per image would invent change.
    """
    low, high = (np.array(ends, np.float32)[:, None, None] for ends in zip(*stretch.values(), strict=True))
    scaled = (composite.reflectance(tuple(stretch)) - low) / (high - low) * 255
    rgb = np.rint(np.clip(np.nan_to_num(scaled), 0, 255)).astype(np.uint8)
    return np.asarray(rgb.transpose(1, 2, 0))


def to_dn(reflectance: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    """Reflectance to stored DN; NaN to nodata, and valid values never below 1, which nodata is."""
    dn = np.clip(np.rint(reflectance * REFLECTANCE_SCALE), 1, np.iinfo(np.uint16).max - 1)
    return np.where(np.isnan(reflectance), NODATA, dn).astype(np.uint16)


def write_cog(
    path: Path,
    image: NDArray[Any],
    pixels: PixelGrid,
    *,
    nodata: float | None,
    names: Sequence[str],
    tags: Mapping[str, str] | None = None,
    resampling: str = "average",
) -> None:
    """Write a tiled, compressed Cloud Optimized GeoTIFF: aside, read back, then moved into place.

    Args:
        path: File to publish.
        image: Pixels, shape (band, y, x).
        pixels: Where they lie.
        nodata: The value that means no data; ``None`` if every value is data.
        names: One name per band.
        tags: Metadata items of the file.
        resampling: How overviews are made.

    Raises:
        RasterError: The written file does not read back as it was given.
    """
    with written_aside(path) as aside:
        with rasterio.open(
            aside,
            "w",
            driver="COG",
            dtype=image.dtype,
            count=image.shape[0],
            height=pixels.height,
            width=pixels.width,
            crs=f"EPSG:{pixels.epsg}",
            transform=pixels.transform,
            nodata=nodata,
            compress="deflate",
            predictor="yes",
            blocksize=BLOCK_PX,
            overview_resampling=resampling,
        ) as sink:
            sink.write(image)
            sink.descriptions = tuple(names)
            sink.update_tags(**(tags or {}))
        with rasterio.open(aside) as back:
            if back.transform != pixels.transform or not np.array_equal(back.read(), image, equal_nan=True):
                raise RasterError(f"{path}: what was written does not read back; is the disk failing?")


def write_composite(path: Path, composite: Composite) -> None:
    """Store a composite as one COG: its bands, then the clear-observation counts."""
    write_cog(
        path,
        np.concatenate([composite.dn, composite.clear_count[None]]),
        composite.pixels,
        nodata=NODATA,
        names=(*composite.bands, CLEAR_COUNT),
        tags={"SOURCE": composite.origin.source, "SCALE": f"1/{REFLECTANCE_SCALE}"},
    )


def read_composite(path: Path) -> Composite:
    """Read a composite that ``write_composite`` stored; its origin stays in the JSON beside it.

    Raises:
        RasterError: The file is missing, broken, or no composite.
    """
    image, pixels, names = read_raster(path)
    if not names or names[-1] != CLEAR_COUNT or image.dtype != np.uint16:
        raise RasterError(f"{path}: not a composite (bands {names}, {image.dtype}).")
    return Composite(pixels, tuple(map(str, names[:-1])), image[:-1], image[-1], Origin(str(path), ""))


def read_raster(path: Path) -> tuple[NDArray[Any], PixelGrid, tuple[str | None, ...]]:
    """Read a north-up, projected raster whole: pixels (band, y, x), their grid, band names.

    Raises:
        RasterError: The file is missing, broken, rotated, or has no EPSG code.
    """
    try:
        with rasterio.open(path) as source:
            epsg = source.crs.to_epsg() if source.crs else None
            a, b, _, d, e, _ = tuple(source.transform)[:6]
            if epsg is None or b or d or not math.isclose(a, -e):
                raise RasterError(f"{path}: needs an EPSG code and square, north-up pixels.")
            return source.read(), PixelGrid(epsg, tuple(source.bounds), a), source.descriptions
    except RasterioError as error:
        raise RasterError(f"{path}: cannot be read as a raster ({error}).") from error
