"""Read the GeoTIFF that an openEO backend computed, and trust nothing in it."""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from eo_tasks.errors import EmptyCompositeError, SourceError, SourceUnavailableError
from eo_tasks.raster import CLEAR_COUNT, NODATA, REFLECTANCE_SCALE, Composite, Frame, Origin, PixelGrid, to_dn
from eo_tasks.sources.openeo.faults import NO_OBSERVATION
from eo_tasks.sources.openeo.tiff import promised_bytes
from eo_tasks.sources.openeo.values import Values

if TYPE_CHECKING:
    from eo_tasks.sources.request import CompositeRequest

ALIGNED_PX = 1e-3  # backends compute corners in floating point
DTYPES = frozenset({"int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"})  # hold DN
SATELLITE_BAND = re.compile(r"B\d{1,2}A?|SCL")  # Sentinel-2's; other names say nothing about what a band is
READ_PX = 512  # side of about what is read at once, whatever the file's size
REPORT = "report it to its operator, or use IMAGERY_SOURCE=stac."


@dataclass(frozen=True, eq=False)
class Result:
    """A backend's checked file, open for reading; one thread at a time.

    Attributes:
        order: Indices of the file's bands that are the requested ones, then the clear-observation count.
    """

    source: Any  # rasterio.DatasetReader
    request: "CompositeRequest"
    origin: Origin
    order: tuple[int, ...]

    def composite(self, pixels: PixelGrid) -> Composite:
        """The part of the file on some pixels, such as one cell's of a block; nothing else is read.

        Raises:
            EmptyCompositeError: No pixel has a clear observation.
            SourceUnavailableError: The part cannot be read: the file's transfer broke.
            SourceError: The file does not hold the pixels.
        """
        image = self._read(_window(self.source, pixels))
        clear_count = np.nan_to_num(image[-1]).clip(0, np.iinfo(np.uint16).max).astype(np.uint16)
        if not clear_count.any():
            raise EmptyCompositeError(f"{_backend(self.origin)}: {NO_OBSERVATION}")
        dn = to_dn(image[:-1] / REFLECTANCE_SCALE)
        dn[:, clear_count == 0] = NODATA
        return Composite(pixels, self.request.bands, dn, clear_count, self.origin)

    def check_values(self) -> None:
        """Read the requested pixels once, a part at a time, and judge what they hold.

        Raises:
            SourceUnavailableError: They cannot be read: the file's transfer broke.
            SourceError: They are no reflectance × 10000 with counts of observations.
        """
        whole = _window(self.source, self.request.pixels)
        lines, columns = self.source.block_shapes[0]  # strips or tiles, which GDAL reads whole anyway
        across = columns * max(1, READ_PX // columns)
        down = lines * max(1, READ_PX**2 // (across * lines))
        parts = (
            Window(
                whole.col_off + column,
                whole.row_off + row,
                min(across, whole.width - column),
                min(down, whole.height - row),
            )
            for row in range(0, whole.height, down)
            for column in range(0, whole.width, across)
        )
        values = reduce(Values.joined, (Values.of(self._read(part)) for part in parts))
        if wrong := values.wrong(self.request.bands):
            raise SourceError(
                f"{_backend(self.origin)}: the file's values are no reflectance × {REFLECTANCE_SCALE}: {wrong}. "
                f"Check OPENEO_COLLECTION; if it is Sentinel-2 L2A, the backend is at fault: {REPORT}"
            )

    def _read(self, window: Window) -> NDArray[np.float64]:
        """Bands in the order asked for, then the counts, shape (band, y, x); NaN where the file has no data."""
        try:
            stored = self.source.read([index + 1 for index in self.order], window=window)
        except RasterioError as error:
            raise _broken(self.origin, f"what lies at row {window.row_off} cannot be read") from error
        image: NDArray[np.float64] = stored.astype(np.float64)
        for band, given, index in zip(image, stored, self.order, strict=True):
            nodata = self.source.nodatavals[index]
            if nodata is not None:
                band[given == nodata] = np.nan
            band[~np.isfinite(band)] = np.nan
        return image


@contextmanager
def open_result(path: Path, request: "CompositeRequest", origin: Origin) -> Iterator[Result]:
    """Open a backend's file, after everything about it has been checked.

    A file that is larger than asked for by whole pixels is taken; nodata is what the file says it is.

    Args:
        path: The fetched file.
        request: What was asked for.
        origin: Of the composites that are cut from it.

    Raises:
        SourceUnavailableError: The file is not whole, or no GeoTIFF: its transfer broke.
        SourceError: The file holds other bands, another pixel grid or other values than requested.
    """
    try:
        size, promised = path.stat().st_size, promised_bytes(path)
        if promised > size:
            raise _broken(origin, f"{size} of at least {promised} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # that is told below
            source = rasterio.open(path, driver="GTiff")  # another driver may follow links in what it is given
    except (OSError, ValueError, RasterioError) as error:
        raise _broken(origin, _no_tiff(path)) from error
    with closing(source):  # not the dataset's own context, which belongs to one thread
        wanted = (*request.bands, CLEAR_COUNT)
        result = Result(source, request, origin, _band_order(_names(source), wanted))
        _check_types(source.dtypes)
        _window(source, request.pixels)
        result.check_values()
        yield result


def read_result(path: Path, request: "CompositeRequest", origin: Origin) -> Composite:
    """Turn a backend's file into the composite that was asked for; see ``open_result`` and ``Result.composite``."""
    with open_result(path, request, origin) as result:
        return result.composite(request.pixels)


def _backend(origin: Origin) -> str:
    return str(origin.details.get("url", "openEO"))


def _broken(origin: Origin, how: str) -> SourceUnavailableError:
    return SourceUnavailableError(f"the file from {_backend(origin)} broke on its way ({how}). It is fetched again.")


def _no_tiff(path: Path) -> str:
    """What came instead of a GeoTIFF; not its text, which may hold signed addresses."""
    if not path.exists():
        return "there is none"
    with path.open("rb") as file:
        begin = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")  # a byte order mark, blanks
    size = path.stat().st_size
    return f"{size} bytes of text, no GeoTIFF" if begin[:1] in (b"<", b"{", b"[") else f"{size} bytes, no whole GeoTIFF"


def _names(source: Any) -> tuple[str, ...]:
    """The bands' names, empty where the file gives none; some backends write them as a tag."""
    tags = (source.tags(index).get("DESCRIPTION", "") for index in source.indexes)
    return tuple(name or tag for name, tag in zip(source.descriptions, tags, strict=True))


def _band_order(names: Sequence[str], wanted: Sequence[str]) -> tuple[int, ...]:
    """Indices of the wanted bands: by their names where the file has names, else in the order asked for."""
    if all(names.count(name) == 1 for name in wanted):
        return tuple(names.index(name) for name in wanted)
    says_what = any(name in wanted or SATELLITE_BAND.fullmatch(name) for name in names)
    if len(names) != len(wanted) or says_what:
        held = ", ".join(name for name in names if name) or f"{len(names)} without names"
        raise SourceError(
            f"the backend's file has bands {held}, not {', '.join(wanted)}. "
            "Check OPENEO_COLLECTION and COMPOSITE_BANDS."
        )
    return tuple(range(len(wanted)))


def _check_types(dtypes: Sequence[str]) -> None:
    if others := sorted(set(dtypes) - DTYPES):
        raise SourceError(
            f"the backend's file has pixels of type {', '.join(others)}, which cannot hold reflectance × "
            f"{REFLECTANCE_SCALE}; asked for was a type such as uint16. The backend is at fault: {REPORT}"
        )


def _window(source: Any, pixels: PixelGrid) -> Window:
    """Where some pixels lie in the file."""
    a, b, left, d, e, top = tuple(source.transform)[:6]
    step = pixels.resolution_m
    column, row = (pixels.bounds[0] - left) / step, (top - pixels.bounds[3]) / step
    is_aligned = (
        source.crs is not None
        and source.crs.to_epsg() == pixels.epsg
        and b == d == 0
        and np.allclose((a, e), (step, -step), rtol=0, atol=1e-6)
        and max(abs(column - round(column)), abs(row - round(row))) < ALIGNED_PX
    )
    column, row = round(column), round(row)
    is_covered = column >= 0 and row >= 0
    is_covered &= column + pixels.width <= source.width and row + pixels.height <= source.height
    if not (is_aligned and is_covered):
        raise SourceError(
            f"the backend's file lies on {Frame(source.crs, source.transform, source.width, source.height)}, which "
            f"does not hold the {pixels} that were asked for. The backend must not move the pixel grid: {REPORT}"
        )
    return Window(column, row, pixels.width, pixels.height)
