"""BTC on two raster files, without cells, years or a queue.

from pathlib import Path

from eo_tasks.btc.files import compare_files
from eo_tasks.btc.model import open_model

model = open_model("blaz-r/BTC-B_oscd96")
made = compare_files(model, Path("2021.tif"), Path("2022.tif"), Path("out"))
print(made.files.png, made.record["changed_px"])
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eo_tasks.btc.detect import Tiling, detect
from eo_tasks.btc.model import Model
from eo_tasks.btc.rasters import Stretch, open_pair
from eo_tasks.btc.series import Failure, Series
from eo_tasks.change import CHANGED, UNCHANGED, UNSEEN
from eo_tasks.files import sha256, write_json
from eo_tasks.products.facts import file_facts
from eo_tasks.products.mask import PROBABILITY_SCALE, MaskFiles, MaskWriter
from eo_tasks.raster import Frame
from eo_tasks.settings import STRETCH, THRESHOLD


@dataclass(frozen=True)
class Comparison:
    """What was made of two files.

    Attributes:
        files: The mask.
        probability_float32: The probability as float32, NaN where not seen, if it was asked for.
        record_file: The JSON beside them.
        record: What stands in it.
    """

    files: MaskFiles
    probability_float32: Path | None
    record_file: Path
    record: dict[str, Any]


def compare_files(
    model: Model,
    before: Path,
    after: Path,
    out: Path,
    *,
    threshold: float = THRESHOLD,
    tiling: Tiling | None = None,
    stretch: Stretch = STRETCH,
    align: bool = False,
    with_float: bool = False,
    follow: Callable[[int], object] = lambda rows: None,
) -> Comparison:
    """Find the change between two aligned rasters of any size and write its mask, a strip of rows at a time.

    Args:
        model: What to compute with.
        before: The earlier image, as ``rasters.open_picture`` takes it.
        after: The later image, with the same pixels.
        out: Folder of the results, ``change_mask_{before}_{after}`` with several endings; the JSON is written last.
        threshold: A pixel above it counts as changed.
        tiling: How windows lie over the images.
        stretch: Reflectance of red, green and blue shown as 0–255; 8-bit images are shown as they are.
        align: Warp the later image onto the earlier one's pixels if they differ.
        with_float: Write the probability as float32 too.
        follow: Called with the number of rows whenever some are done.

    Raises:
        RasterError: A file cannot be used, or the two have different pixels.
    """
    name = f"change_mask_{before.stem}_{after.stem}"
    files, record_file = MaskFiles.beside(out / f"{name}.png"), out / f"{name}.json"
    float_file = out / f"{name}_probability_float32.tiff" if with_float else None
    tags = {"BEFORE": before.name, "AFTER": after.name}
    tiling = tiling or Tiling()
    with (
        open_pair(before, after, stretch, align=align) as (earlier, later),
        MaskWriter(files, earlier.frame, threshold, tags, float_file=float_file) as writer,
    ):
        for strip in detect(model.engine, [Series(None, {0: earlier, 1: later}, ((0, 1),))], tiling):
            if isinstance(strip, Failure):
                raise strip.error
            writer.write(strip.first, strip.probability)
            follow(len(strip.probability))
        record_file.unlink(missing_ok=True)  # it would tell of the mask before
        writer.finish()
    record = {
        "before": {"path": str(before.absolute()), "sha256": sha256(before)},
        "after": {"path": str(after.absolute()), "sha256": sha256(after)},
        "warped": None if later.warped_from is None else {"image": "after", "from": str(later.warped_from)},
        "model": model.facts,
        "threshold": threshold,
        "window_px": tiling.window_px,
        "stride_px": tiling.stride_px,
        "stretch": None if earlier.shown.ranges is None else [[band, *ends] for band, ends in stretch.items()],
        **_area(earlier.frame, writer),
        **_place(earlier.frame),
        "cog": {"unchanged": UNCHANGED, "changed": CHANGED, "not_seen": UNSEEN},
        "probability": {"scale": f"1/{PROBABILITY_SCALE}", "not_seen": UNSEEN},
        **file_facts(files.png),
    }
    write_json(record_file, record)
    return Comparison(files, float_file, record_file, record)


def _area(frame: Frame, written: MaskWriter) -> dict[str, Any]:
    pixel_ha = frame.pixel_ha
    return {
        "changed_px": written.changed_px,
        "seen_px": written.seen_px,
        "changed_ha": None if pixel_ha is None else round(written.changed_px * pixel_ha, 4),
        "seen_ha": None if pixel_ha is None else round(written.seen_px * pixel_ha, 4),
    }


def _place(frame: Frame) -> dict[str, Any]:
    return {
        "crs": None if frame.crs is None else frame.crs.to_string(),
        "transform": list(frame.transform)[:6],
        "width": frame.width,
        "height": frame.height,
    }
