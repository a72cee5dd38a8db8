"""A cell in two years and the change between them, small enough for a page."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import rasterio
from numpy.typing import NDArray

from eo_tasks.change import CHANGED
from eo_tasks.errors import StorageError
from eo_tasks.grid import YearPair
from eo_tasks.products.quicklook import outlined, sheet, write_picture
from eo_tasks.raster import Rgb, to_rgb
from eo_tasks.report.rows import Row
from eo_tasks.storage import Store

SIDE_PX = 320  # of each of the three


@dataclass(frozen=True)
class Picture:
    """The earlier year, the later one, and the later one with the change outlined, side by side.

    Attributes:
        png: The file's bytes.
    """

    grid_id: int
    label: str
    before: int
    after: int
    changed_ha: float
    png: bytes = field(repr=False)


def draw(store: Store, rows: list[Row], stretch: Mapping[str, tuple[float, float]]) -> Iterator[Picture]:
    """Draw the pairs of these rows; one whose files are gone or broken is left out."""
    for row in rows:
        if row.year_after is None or row.changed_ha is None:
            continue
        pair = YearPair(row.grid_id, row.year, row.year_after)
        try:
            png = _drawn(store, pair, stretch)
        except StorageError:  # the table says that it is not there
            continue
        yield Picture(row.grid_id, row.label, row.year, row.year_after, row.changed_ha, png)


def _drawn(store: Store, pair: YearPair, stretch: Mapping[str, tuple[float, float]]) -> bytes:
    earlier, later = (_smaller(to_rgb(store.get_image(grid_year), stretch)) for grid_year in pair.grid_years)
    with TemporaryDirectory(prefix="eo-tasks-") as folder:
        scratch = Path(folder)
        files, _ = store.mask_files(pair, scratch)
        with rasterio.open(files.cog) as source:
            classes = _smaller_classes(np.asarray(source.read(1)))
        path = scratch / "picture.png"
        write_picture(path, sheet([[earlier, later, outlined(later, classes)]]))
        return path.read_bytes()


def _smaller(picture: Rgb) -> Rgb:
    """Means of blocks of pixels."""
    blocks = _blocks(picture)
    return np.asarray(blocks.mean(axis=(1, 3)).round().astype(np.uint8))


def _smaller_classes(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blocks of pixels, changed where one pixel is, else not seen where one is not."""
    blocks = _blocks(classes)
    return np.asarray(np.where((blocks == CHANGED).any(axis=(1, 3)), CHANGED, blocks.max(axis=(1, 3))))


def _blocks(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shape (y, rows of a block, x, columns of a block, …); what is left over at the edges is cut off."""
    step = ceil(max(image.shape[:2]) / SIDE_PX)
    height, width = (size // step for size in image.shape[:2])
    cut = image[: height * step, : width * step]
    return cut.reshape(height, step, width, step, *image.shape[2:])
