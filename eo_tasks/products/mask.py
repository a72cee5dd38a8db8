"""The files of one change mask."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning

from eo_tasks.change import UNSEEN, ChangeMap
from eo_tasks.files import written_aside
from eo_tasks.raster import write_cog

PROBABILITY_SCALE = 254  # 0–254 stand for probabilities 0–1; 255 means not seen


@dataclass(frozen=True)
class MaskFiles:
    """The files of one change mask.

    Attributes:
        png: 0 and 255, for people and existing readers; not seen counts as 0.
        cog: 0 unchanged, 1 changed, 255 not seen.
        probability: Probability × 254 rounded, 255 where not seen.
    """

    png: Path
    cog: Path
    probability: Path

    @classmethod
    def beside(cls, png: Path) -> "MaskFiles":
        """The three files that share the PNG's name."""
        return cls(png, png.with_suffix(".tiff"), png.with_name(f"{png.stem}_probability.tiff"))

    @property
    def all(self) -> tuple[Path, Path, Path]:
        """The files in the order in which they are published."""
        return self.probability, self.cog, self.png


def write_mask_files(files: MaskFiles, change_map: ChangeMap, tags: dict[str, str]) -> None:
    """Write a change map as PNG, class COG and probability COG, each atomically."""
    pixels = change_map.pixels
    scaled = np.rint(np.nan_to_num(change_map.probability) * PROBABILITY_SCALE)
    probability = np.where(change_map.seen, scaled, UNSEEN).astype(np.uint8)
    write_cog(
        files.probability,
        probability[None],
        pixels,
        nodata=UNSEEN,
        names=("change_probability",),
        tags=tags | {"SCALE": f"1/{PROBABILITY_SCALE}"},
    )
    write_cog(
        files.cog, change_map.classes[None], pixels, nodata=UNSEEN, names=("change",), tags=tags, resampling="mode"
    )
    _write_png(files.png, np.where(change_map.change, 255, 0).astype(np.uint8))


def _write_png(path: Path, image: NDArray[Any]) -> None:
    height, width = image.shape
    with written_aside(path) as aside, rasterio.MemoryFile() as memory, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the COG beside it is for that
        with memory.open(driver="PNG", width=width, height=height, count=1, dtype="uint8") as sink:
            sink.write(image, 1)
        aside.write_bytes(memory.getbuffer())
