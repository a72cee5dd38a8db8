"""Read the GeoTIFF that an openEO backend computed, and trust nothing in it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.errors import RasterioError
from rasterio.windows import Window

from eo_tasks.errors import EmptyCompositeError, SourceError, SourceUnavailableError
from eo_tasks.raster import CLEAR_COUNT, NODATA, REFLECTANCE_SCALE, Composite, Origin, PixelGrid, to_dn
from eo_tasks.sources.openeo.faults import NO_OBSERVATION

if TYPE_CHECKING:
    from eo_tasks.sources.request import CompositeRequest

ALIGNED_PX = 1e-3  # backends compute corners in floating point


def read_result(path: Path, request: "CompositeRequest", origin: Origin) -> Composite:
    """Turn a backend's file into the composite that was asked for.

    A file that is larger than the cell by whole pixels is cut; nodata is what the file says it is.

    Raises:
        SourceUnavailableError: The file does not open: its transfer broke.
        SourceError: The file holds other bands or another pixel grid than requested.
        EmptyCompositeError: No pixel has a clear observation.
    """
    try:
        with rasterio.open(path) as source:
            whole = source.read()  # before anything is judged: of a cut file, the tags are lost too
            order = _band_order(source.descriptions, source.count, (*request.bands, CLEAR_COUNT))
            image = whole[(order, *_window(source, request.pixels).toslices())].astype(np.float32)
            nodata = [source.nodatavals[index] for index in order]
    except RasterioError as error:
        size = path.stat().st_size if path.exists() else 0
        raise SourceUnavailableError(
            f"the file from {origin.details.get('url', 'openEO')} broke on its way ({size} bytes). It is fetched again."
        ) from error
    for band, value in zip(image, nodata, strict=True):
        if value is not None:
            band[band == np.float32(value)] = np.nan
    clear_count = np.nan_to_num(image[-1]).clip(0, np.iinfo(np.uint16).max).astype(np.uint16)
    if not clear_count.any():
        raise EmptyCompositeError(f"{origin.details.get('url', 'openEO')}: {NO_OBSERVATION}")
    dn = to_dn(image[:-1].astype(np.float64) / REFLECTANCE_SCALE)
    dn[:, clear_count == 0] = NODATA
    return Composite(request.pixels, request.bands, dn, clear_count, origin)


def _band_order(descriptions: Sequence[str | None], count: int, wanted: Sequence[str]) -> list[int]:
    """Indices of the wanted bands: by their names where the file has names, else in the order asked for."""
    if all(name in descriptions for name in wanted):
        return [descriptions.index(name) for name in wanted]
    if count != len(wanted) or any(name in wanted for name in descriptions):
        held = ", ".join(str(name) for name in descriptions if name) or f"{count} without names"
        raise SourceError(
            f"the backend's file has bands {held}, not {', '.join(wanted)}. "
            "Check OPENEO_COLLECTION and COMPOSITE_BANDS."
        )
    return list(range(count))


def _window(source: rasterio.DatasetReader, pixels: PixelGrid) -> Window:
    """Where the cell lies in the file."""
    epsg = source.crs.to_epsg() if source.crs else None
    a, b, left, d, e, top = tuple(source.transform)[:6]
    step = pixels.resolution_m
    column, row = (pixels.bounds[0] - left) / step, (top - pixels.bounds[3]) / step
    is_aligned = (
        epsg == pixels.epsg
        and b == d == 0
        and np.allclose((a, e), (step, -step), rtol=0, atol=1e-6)
        and max(abs(column - round(column)), abs(row - round(row))) < ALIGNED_PX
    )
    column, row = round(column), round(row)
    is_covered = column >= 0 and row >= 0
    is_covered &= column + pixels.width <= source.width and row + pixels.height <= source.height
    if not (is_aligned and is_covered):
        raise SourceError(
            f"the backend's file lies on EPSG:{epsg}, {source.width}×{source.height} px of {a:g} m from "
            f"({left:.10g}, {top:.10g}), which does not hold the cell's {pixels}. The backend must not move the "
            "pixel grid: report it to its operator, or use IMAGERY_SOURCE=stac."
        )
    return Window(column, row, pixels.width, pixels.height)
