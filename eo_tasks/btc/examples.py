"""Labelled data sets as the BTC repository lays them out: folders A, B and label with files of the same names.

A holds the earlier images, B the later ones; a label is 0 where nothing changed and anything else where something did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rasterio.errors import RasterioError

from eo_tasks.btc.network.published import INPUT_PX
from eo_tasks.btc.rasters import Stretch, colour_bands, open_anywhere, open_picture, require_one_form
from eo_tasks.errors import RasterError
from eo_tasks.raster import Rgb
from eo_tasks.settings import STRETCH

FOLDERS = ("A", "B", "label")
ENDINGS = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
LAYOUT = "It takes folders A (earlier), B (later) and label (0 where nothing changed), with images of the same names."


@dataclass(frozen=True)
class Example:
    """Two years of one place, and where it changed.

    Attributes:
        shape: Height and width of all three images, pixels.
    """

    before: Path
    after: Path
    label: Path
    shape: tuple[int, int]

    @property
    def is_window(self) -> bool:
        """Whether the network sees it whole."""
        height, width = self.shape
        return height == width <= INPUT_PX

    def images(self, stretch: Stretch) -> tuple[Rgb, Rgb, NDArray[np.bool_]]:
        """Both years as RGB, without what only one of them shows, and where both hold data.

        Raises:
            RasterError: They cannot be read.
        """
        with open_picture(self.before, stretch) as earlier, open_picture(self.after, stretch) as later:
            (before, valid), (after, also) = (picture.rows(0, self.shape[0]) for picture in (earlier, later))
        seen = valid & also
        shown = seen[..., None]
        return np.where(shown, before, np.uint8(0)), np.where(shown, after, np.uint8(0)), seen

    def truth(self) -> NDArray[np.bool_]:
        """Where it changed, shape (y, x).

        Raises:
            RasterError: The label cannot be read.
        """
        with open_anywhere(self.label) as source:
            try:
                return np.asarray((source.read(colour_bands(source)) != 0).any(axis=0))
            except RasterioError as error:
                raise RasterError(f"{self.label}: cannot be read as a raster ({error}).") from error


def find_examples(folder: Path, stretch: Stretch = STRETCH) -> list[Example]:
    """The examples of a data set, or of its part ``test`` where it is divided.

    Args:
        folder: Has the three folders.
        stretch: Names of the bands of red, green and blue, where the images are reflectance.

    Raises:
        RasterError: An image is missing or cannot be used, or those of one name differ in size.
    """
    if not (folder / "A").is_dir() and (folder / "test" / "A").is_dir():
        folder = folder / "test"
    found = {part: _image_names(folder, part) for part in FOLDERS}
    names = sorted(set().union(*found.values()))
    if not names:
        raise RasterError(f"{folder}: no images. {LAYOUT}")
    for name in names:
        if lacking := [part for part in FOLDERS if name not in found[part]]:
            raise RasterError(f"{folder}: {name} is not in {' and '.join(lacking)}. {LAYOUT}")
    return [_example([folder / part / name for part in FOLDERS], stretch) for name in names]


def _image_names(folder: Path, part: str) -> set[str]:
    if not (folder / part).is_dir():
        raise RasterError(f"{folder / part}: no such folder. {LAYOUT}")
    return {path.name for path in (folder / part).iterdir() if path.suffix.lower() in ENDINGS and path.name[0] != "."}


def _example(paths: Sequence[Path], stretch: Stretch) -> Example:
    before, after, label = paths
    with (
        open_picture(before, stretch) as earlier,
        open_picture(after, stretch) as later,
        open_anywhere(label) as truth,
    ):
        require_one_form(earlier, later)
        shapes = (earlier.shape, later.shape, truth.shape)
    if len(set(shapes)) > 1:
        told = "; ".join(f"{path} {width}×{height} px" for path, (height, width) in zip(paths, shapes, strict=True))
        raise RasterError(f"Images of one name differ in size: {told}.")
    return Example(before, after, label, shapes[0])
