"""Raster files for tests."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

PLACE = Affine(10, 0, 500_000, 0, -10, 5_000_000)


def write_image(
    path: Path,
    image: NDArray,
    *,
    crs: str | None = "EPSG:32633",
    transform: Affine = PLACE,
    names: Sequence[str | None] = (),
    mask: NDArray | None = None,
    **profile: Any,
) -> Path:
    """Write pixels of shape (band, y, x), or (y, x, 3) as an image's levels, to a GeoTIFF or what the ending names."""
    bands = image.transpose(2, 0, 1) if image.shape[2:] == (3,) else image
    path.parent.mkdir(parents=True, exist_ok=True)
    lies = {"crs": crs, "transform": transform} if crs is not None else {}
    shape = dict(zip(("count", "height", "width"), bands.shape, strict=True))
    driver = "PNG" if path.suffix == ".png" else "GTiff"
    with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver=driver, dtype=bands.dtype, **shape, **lies, **profile) as sink:
            sink.write(bands)
            if names:
                sink.descriptions = tuple(names)
            if mask is not None:
                sink.write_mask(mask)
    return path


def read_image(path: Path) -> NDArray:
    """The first band of a raster."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as source:
            return np.asarray(source.read(1))
