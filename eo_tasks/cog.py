"""GeoTIFFs in and out: Cloud Optimized ones, and those of composites among them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.windows import Window

from eo_tasks.errors import RasterError
from eo_tasks.files import written_aside
from eo_tasks.raster import CLEAR_COUNT, NODATA, REFLECTANCE_SCALE, Composite, Origin, PixelGrid

BLOCK_PX = 256
STRIP_PX = 1024  # rows compared at once
COG_OPTIONS = {"compress": "deflate", "predictor": "yes", "blocksize": BLOCK_PX}
UNLIKE = "what was written does not read back; is the disk failing?"


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
            **COG_OPTIONS,
            overview_resampling=resampling,
        ) as sink:
            sink.write(image)
            sink.descriptions = tuple(names)
            sink.update_tags(**(tags or {}))
        with rasterio.open(aside) as back:
            if back.transform != pixels.transform or not np.array_equal(back.read(), image, equal_nan=True):
                raise RasterError(f"{path}: {UNLIKE}")


def copy_as_cog(source: Path, path: Path, *, resampling: str) -> None:
    """Turn any GeoTIFF, of any size, into a Cloud Optimized one: aside, compared, then moved into place.

    Raises:
        RasterError: The written file does not read back as it was given.
    """
    with written_aside(path) as aside:
        rasterio.shutil.copy(source, aside, driver="COG", **COG_OPTIONS, overview_resampling=resampling)
        with rasterio.open(source) as given, rasterio.open(aside) as back:
            for row in range(0, given.height, STRIP_PX):
                window = Window(0, row, given.width, min(STRIP_PX, given.height - row))
                if not np.array_equal(given.read(window=window), back.read(window=window), equal_nan=True):
                    raise RasterError(f"{path}: {UNLIKE}")


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


@dataclass(frozen=True, eq=False)
class CompositeFile:
    """A stored composite, open for reading; one thread at a time."""

    path: Path
    pixels: PixelGrid
    bands: tuple[str, ...]
    source: Any  # rasterio.DatasetReader

    def rows(self, start: int, stop: int) -> Composite:
        """Some of its rows, counted from the top.

        Raises:
            RasterError: They cannot be read.
        """
        try:
            image = self.source.read(window=Window(0, start, self.pixels.width, stop - start))
        except RasterioError as error:
            raise RasterError(f"{self.path}: cannot be read as a raster ({error}).") from error
        origin = Origin(str(self.path), "")
        return Composite(self.pixels.rows(start, stop), self.bands, image[:-1], image[-1], origin)


@contextmanager
def open_composite(path: Path) -> Iterator[CompositeFile]:
    """Open a composite that ``write_composite`` stored; its origin stays in the JSON beside it.

    Raises:
        RasterError: The file is missing, broken, or no composite.
    """
    with open_raster(path) as (source, pixels):
        names = source.descriptions
        if not names or names[-1] != CLEAR_COUNT or set(source.dtypes) != {"uint16"}:
            raise RasterError(f"{path}: not a composite (bands {names}, {', '.join(sorted(set(source.dtypes)))}).")
        yield CompositeFile(path, pixels, tuple(map(str, names[:-1])), source)


def read_composite(path: Path) -> Composite:
    """Read a composite whole.

    Raises:
        RasterError: The file is missing, broken, or no composite.
    """
    with open_composite(path) as composite:
        return composite.rows(0, composite.pixels.height)


@contextmanager
def open_raster(path: Path) -> Iterator[tuple[Any, PixelGrid]]:
    """Open a north-up, projected raster: the dataset, and where its pixels lie.

    Raises:
        RasterError: The file is missing, broken, rotated, or has no EPSG code.
    """
    try:
        source = rasterio.open(path)
    except RasterioError as error:
        raise RasterError(f"{path}: cannot be read as a raster ({error}).") from error
    with closing(source):  # not the dataset's own context, which belongs to one thread
        epsg = source.crs.to_epsg() if source.crs else None
        a, b, _, d, e, _ = tuple(source.transform)[:6]
        if epsg is None or b or d or not math.isclose(a, -e):
            raise RasterError(f"{path}: needs an EPSG code and square, north-up pixels.")
        yield source, PixelGrid(epsg, tuple(source.bounds), a)


def read_raster(path: Path) -> tuple[NDArray[Any], PixelGrid, tuple[str | None, ...]]:
    """Read a north-up, projected raster whole: pixels (band, y, x), their grid, band names.

    Raises:
        RasterError: The file is missing, broken, rotated, or has no EPSG code.
    """
    with open_raster(path) as (source, pixels):
        try:
            return source.read(), pixels, source.descriptions
        except RasterioError as error:
            raise RasterError(f"{path}: cannot be read as a raster ({error}).") from error
