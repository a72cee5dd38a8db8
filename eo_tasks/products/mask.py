"""The files of one change mask."""

import math
import warnings
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

from eo_tasks.change import CHANGED, UNCHANGED, UNSEEN, ChangeMap
from eo_tasks.checksum import LayerHash, joined_sha256, pixels_sha256
from eo_tasks.cog import copy_as_cog, read_raster
from eo_tasks.errors import RasterError
from eo_tasks.files import written_aside
from eo_tasks.raster import Frame, PixelGrid

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


@dataclass(frozen=True, eq=False)
class MaskLayers:
    """The pixels of one change mask, each layer uint8, shape (y, x).

    Attributes:
        classes: 0 unchanged, 1 changed, 255 not seen.
        probability: Probability × 254 rounded, 255 where not seen.
    """

    pixels: PixelGrid
    classes: NDArray[np.uint8]
    probability: NDArray[np.uint8]

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Changed pixels."""
        return np.asarray(self.classes == CHANGED)

    @property
    def checksum(self) -> str:
        """Fingerprint of both layers."""
        return pixels_sha256((self.classes, self.probability))


class MaskWriter:
    """Writes the files of a change map of any size from strips of probability, top to bottom; use it in ``with``.

    ``finish`` publishes the files, each in one atomic move. Leaving the block without it leaves none.

    Attributes:
        seen_px: Pixels with data in both years, so far.
        changed_px: Changed pixels, so far.
    """

    def __init__(
        self,
        files: MaskFiles,
        frame: Frame,
        threshold: float,
        tags: Mapping[str, str],
        *,
        float_file: Path | None = None,
    ) -> None:
        """Say where to write.

        Args:
            files: The files to make.
            frame: Where the pixels lie.
            threshold: A pixel above it counts as changed.
            tags: Metadata items of the rasters.
            float_file: Where the probability is written as float32 too, NaN where not seen.
        """
        self.seen_px = self.changed_px = 0
        self._files, self._frame, self._threshold, self._tags = files, frame, threshold, dict(tags)
        self._float_file = float_file
        self._open = ExitStack()
        self._sinks: dict[str, Any] = {}
        self._hashes = {"classes": LayerHash(), "probability": LayerHash()}

    @property
    def checksum(self) -> str:
        """Fingerprint of the classes, then of the probability, as far as they are written."""
        return joined_sha256(self._hashes.values())

    def __enter__(self) -> Self:
        folder = self._files.png.parent
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            self._scratch = Path(opened.enter_context(TemporaryDirectory(dir=folder, prefix=".strips-")))
            scale = self._tags | {"SCALE": f"1/{PROBABILITY_SCALE}"}
            self._add(opened, "probability", "uint8", UNSEEN, "change_probability", scale)
            self._add(opened, "classes", "uint8", UNSEEN, "change", self._tags)
            self._add(opened, "picture", "uint8", None, None, {})
            if self._float_file is not None:
                self._add(opened, "float", "float32", math.nan, "change_probability", self._tags)
            self._open = opened.pop_all()
        return self

    def write(self, first: int, probability: NDArray[np.float32]) -> None:
        """Add rows from ``first`` on; shape (row, x), NaN where either year has no data."""
        seen = ~np.isnan(probability)
        change = probability > self._threshold  # False where NaN
        self.seen_px += int(seen.sum())
        self.changed_px += int(change.sum())
        scaled = np.rint(np.nan_to_num(probability) * PROBABILITY_SCALE)
        self._add_rows(
            first,
            probability=np.where(seen, scaled, UNSEEN).astype(np.uint8),
            classes=np.where(seen, np.where(change, CHANGED, UNCHANGED), UNSEEN).astype(np.uint8),
            float=probability,
        )

    def write_layers(self, layers: "MaskLayers") -> None:
        """Write a mask that was made before, whole."""
        self.seen_px = int((layers.classes != UNSEEN).sum())
        self.changed_px = int(layers.changed.sum())
        self._add_rows(0, probability=layers.probability, classes=layers.classes)

    def _add_rows(self, first: int, **rows: NDArray[Any]) -> None:
        rows["picture"] = picture_of(rows["classes"])
        window = Window(0, first, *rows["classes"].shape[::-1])
        for name, sink in self._sinks.items():
            sink.write(rows[name], 1, window=window)
        for name, layer in self._hashes.items():
            layer.add(rows[name])

    def finish(self) -> None:
        """Publish the files; all rows have been written."""
        for sink in self._sinks.values():
            sink.close()
        self._publish()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _publish(self) -> None:
        files = self._files
        copy_as_cog(self._scratch / "probability", files.probability, resampling="average")
        if self._float_file is not None:
            copy_as_cog(self._scratch / "float", self._float_file, resampling="average")
        copy_as_cog(self._scratch / "classes", files.cog, resampling="mode")
        with written_aside(files.png) as aside, warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the COG beside it is for that
            rasterio.shutil.copy(self._scratch / "picture", aside, driver="PNG")

    def _add(
        self,
        opened: ExitStack,
        name: str,
        dtype: str,
        nodata: float | None,
        band: str | None,
        tags: Mapping[str, str],
    ) -> None:
        """Open the file that collects one kind of strips."""
        frame, lies_somewhere = self._frame, band is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            sink = rasterio.open(
                self._scratch / name,
                "w",
                driver="GTiff",
                bigtiff="if_safer",
                dtype=dtype,
                count=1,
                width=frame.width,
                height=frame.height,
                nodata=nodata,
                crs=frame.crs if lies_somewhere else None,
                transform=frame.transform if lies_somewhere else None,
            )
        opened.enter_context(closing(sink))  # another thread may finish
        sink.descriptions = (band,)
        sink.update_tags(**tags)
        self._sinks[name] = sink


def write_mask_files(files: MaskFiles, change_map: ChangeMap, tags: Mapping[str, str]) -> None:
    """Write a change map as PNG, class COG and probability COG, each atomically."""
    with MaskWriter(files, change_map.pixels.frame, change_map.threshold, tags) as writer:
        writer.write(0, change_map.probability)
        writer.finish()


def read_mask_layers(files: MaskFiles) -> MaskLayers:
    """Read a mask back.

    Raises:
        RasterError: A file is missing, broken, or not a mask's.
    """
    (classes, pixels, _), (probability, others, _) = read_raster(files.cog), read_raster(files.probability)
    if pixels != others or {classes.dtype, probability.dtype} != {np.dtype(np.uint8)}:
        raise RasterError(f"{files.cog}: not a mask, or one that does not belong to {files.probability}.")
    return MaskLayers(pixels, classes[0], probability[0])


def write_mask_layers(files: MaskFiles, layers: MaskLayers, tags: Mapping[str, str]) -> None:
    """Write a mask's files from its pixels, each atomically; the same pixels give the same files."""
    with MaskWriter(files, layers.pixels.frame, 0, tags) as writer:
        writer.write_layers(layers)
        writer.finish()


def picture_of(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Classes as 0 and 255; not seen counts as 0."""
    return np.where(classes == CHANGED, 255, 0).astype(np.uint8)


def mask_tags(before: int, after: int) -> dict[str, str]:
    """Metadata items of a mask's rasters."""
    return {"YEARS": f"{before},{after}"}
