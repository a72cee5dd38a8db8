"""Raster files as pictures: which bands are shown, how, and where they hold data."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window

from eo_tasks.errors import RasterError
from eo_tasks.raster import NODATA, REFLECTANCE_SCALE, Frame, Rgb, stretched

Stretch = Mapping[str, tuple[float, float]]
NAMES_TOLD = 8  # of the bands of a file that is refused


@dataclass(frozen=True)
class Shown:
    """Which bands of a raster are shown as red, green and blue, and how.

    Attributes:
        bands: Their numbers, from 1.
        ranges: Reflectance of each shown as 0–255; ``None`` where 8-bit levels are shown as they are.
    """

    bands: tuple[int, ...]
    ranges: tuple[tuple[float, float], ...] | None


@dataclass(frozen=True, eq=False)
class RasterPicture:
    """A raster file, open for reading; one thread at a time.

    Attributes:
        frame: Where the pixels lie.
        source: rasterio's dataset.
        warped_from: Where the file's own pixels lie, if they are warped.
    """

    path: Path
    frame: Frame
    shown: Shown
    source: Any
    warped_from: Frame | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.frame.height, self.frame.width

    def rows(self, start: int, stop: int) -> tuple[Rgb, NDArray[np.bool_]]:
        """Rows as RGB, and where they hold data.

        A pixel holds none where the file's mask or alpha says so, or where nodata stands: in all bands of an 8-bit
        image, in any band of reflectance.

        Raises:
            RasterError: They cannot be read.
        """
        window = Window(0, start, self.frame.width, stop - start)
        try:
            image = self.source.read(self.shown.bands, window=window)
            mask = _mask(self.source, self.shown.bands, window)
        except RasterioError as error:
            raise RasterError(f"{self.path}: cannot be read as a raster ({error}).") from error
        nodata = _nodata(self.source, self.shown)
        valid = mask if nodata is None else np.asarray(mask & (image != nodata))
        if self.shown.ranges is None:
            return np.ascontiguousarray(image.transpose(1, 2, 0)), np.asarray(valid.any(axis=0))
        reflectance = np.where(valid, image.astype(np.float32) / REFLECTANCE_SCALE, np.float32(np.nan))
        return stretched(reflectance, self.shown.ranges), np.asarray(valid.all(axis=0))


@contextmanager
def open_anywhere(path: Path) -> Iterator[Any]:
    """Open a raster that lies somewhere or nowhere.

    Raises:
        RasterError: The file is missing or no raster.
    """
    if not path.is_file():
        raise RasterError(f"{path}: no such file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            source = rasterio.open(path)
    except RasterioError as error:
        raise RasterError(f"{path}: cannot be read as a raster ({error}).") from error
    with closing(source):  # not the dataset's own context, which belongs to one thread
        yield source


@contextmanager
def open_picture(path: Path, stretch: Stretch, onto: Frame | None = None) -> Iterator[RasterPicture]:
    """Open any raster that BTC can be shown.

    Args:
        path: Three 8-bit bands, shown as they are, or 16-bit reflectance × 10000 whose bands have names.
        stretch: Names of the bands of red, green and blue, and the reflectance of each shown as 0–255.
        onto: Where the pixels shall lie, if not where they do; they are warped there, bilinearly.

    Raises:
        RasterError: The file is missing, no raster, not one of the two kinds, or cannot be warped.
    """
    with ExitStack() as opened:
        source = opened.enter_context(open_anywhere(path))
        shown = shown_bands(path, source, stretch)
        frame = Frame(source.crs or None, source.transform, source.width, source.height)
        if onto is None or onto.matches(frame):
            yield RasterPicture(path, frame, shown, source)
        else:
            warped = opened.enter_context(closing(_warped(path, source, shown, onto)))
            yield RasterPicture(path, onto, shown, warped, warped_from=frame)


@contextmanager
def open_pair(
    before: Path, after: Path, stretch: Stretch, *, align: bool
) -> Iterator[tuple[RasterPicture, RasterPicture]]:
    """Open two rasters of one place; ``align`` warps the later one onto the earlier one's pixels.

    Raises:
        RasterError: One of them cannot be opened, or the two do not belong together.
    """
    with ExitStack() as opened:
        earlier = opened.enter_context(open_picture(before, stretch))
        later = opened.enter_context(open_picture(after, stretch, earlier.frame if align else None))
        require_one_form(earlier, later)
        if not earlier.frame.matches(later.frame):
            raise RasterError(
                f"{before} and {after} have different pixels: {earlier.frame}; {later.frame}. "
                "Warp the later one onto the earlier one with --align."
            )
        yield earlier, later


def require_one_form(earlier: RasterPicture, later: RasterPicture) -> None:
    """Refuse a pair whose years are shown in different ways.

    Raises:
        RasterError: They are.
    """
    if (earlier.shown.ranges is None) != (later.shown.ranges is None):
        raise RasterError(
            f"{earlier.path} and {later.path}: one is 8-bit RGB and one is reflectance, which would look like change. "
            "Give both in one form."
        )


def shown_bands(path: Path, source: Any, stretch: Stretch) -> Shown:
    """Choose the bands to show.

    Raises:
        RasterError: The file is of neither kind.
    """
    colours = colour_bands(source)
    if len(colours) == 3 and all(source.dtypes[number - 1] == "uint8" for number in colours):
        return Shown(colours, None)
    names = list(source.descriptions)
    if all(name in names for name in stretch):
        bands = tuple(names.index(name) + 1 for name in stretch)
        if all(source.dtypes[number - 1] == "uint16" for number in bands):
            return Shown(bands, tuple(stretch.values()))
    raise RasterError(
        f"{path}: has {_described(source.dtypes, names)}. BTC takes exactly three 8-bit bands (red, green, blue), or "
        f"uint16 reflectance × {REFLECTANCE_SCALE} with bands named {', '.join(stretch)}."
    )


def colour_bands(source: Any) -> tuple[int, ...]:
    """Numbers of the bands, without alpha."""
    return tuple(number for number, use in enumerate(source.colorinterp, 1) if use is not ColorInterp.alpha)


def _mask(source: Any, bands: tuple[int, ...], window: Window) -> NDArray[np.bool_]:
    """Where the file says that its bands hold data; alpha is read by itself, for nodata would hide it."""
    alpha = _alpha_band(source)
    found = source.read_masks(bands, window=window) if alpha is None else source.read([alpha], window=window)
    return np.asarray(found != 0)


def _alpha_band(source: Any) -> int | None:
    return next((number for number, use in enumerate(source.colorinterp, 1) if use is ColorInterp.alpha), None)


def _nodata(source: Any, shown: Shown) -> float | None:
    """The value that means no data; reflectance has one also where the file does not say so."""
    return NODATA if source.nodata is None and shown.ranges is not None else source.nodata


def _described(types: Sequence[str], names: Sequence[str | None]) -> str:
    if not types:
        return "no bands"
    told = [name or "no name" for name in names[:NAMES_TOLD]] + ["…"] * (len(names) > NAMES_TOLD)
    return f"{len(types)} band{'s' * (len(types) > 1)} of {', '.join(sorted(set(types)))} ({', '.join(told)})"


def _warped(path: Path, source: Any, shown: Shown, onto: Frame) -> Any:
    """Lay a raster onto other pixels; what it does not cover holds no data."""
    if not source.crs or onto.crs is None:
        raise RasterError(f"{path}: cannot be warped: both files need a CRS.")
    nodata = _nodata(source, shown)
    try:
        return WarpedVRT(
            source,
            crs=onto.crs,
            transform=onto.transform,
            width=onto.width,
            height=onto.height,
            resampling=Resampling.bilinear,
            src_nodata=nodata,
            nodata=nodata,
            add_alpha=nodata is None and _alpha_band(source) is None,
            UNIFIED_SRC_NODATA="YES" if shown.ranges is None else "NO",  # only where all bands have it, or each band's
        )
    except RasterioError as error:
        raise RasterError(f"{path}: cannot be warped onto {onto} ({error}).") from error
