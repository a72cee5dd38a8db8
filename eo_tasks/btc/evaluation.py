"""How well a network finds the changes of a labelled data set.

The published figures (Rolih et al., TGRS 2025, doi 10.1109/TGRS.2025.3585342) pool pixels at the network's own
256 × 256: its answer is not brought back to the image, but the label is resized to it. So it is done here for every
image that is one window. Larger images and those that are not square are compared on their own pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eo_tasks.btc.detect import Tiling
from eo_tasks.btc.examples import Example
from eo_tasks.btc.model import Model, compare
from eo_tasks.btc.network.published import INPUT_PX
from eo_tasks.btc.rasters import Stretch
from eo_tasks.score import Score, scores_at
from eo_tasks.settings import STRETCH

Answer = tuple[NDArray[np.float32], NDArray[np.bool_]]  # probability, NaN where not seen, and truth


@dataclass(frozen=True)
class Evaluation:
    """How well a network did.

    Attributes:
        scores: By threshold; a pixel above it counts as changed.
        windows: Images compared at the network's own resolution.
        larger: Images compared on their own pixels.
    """

    scores: dict[float, Score]
    windows: int
    larger: int


def evaluate(
    model: Model,
    examples: Sequence[Example],
    thresholds: Sequence[float],
    *,
    tiling: Tiling | None = None,
    stretch: Stretch = STRETCH,
    follow: Callable[[int], object] = lambda images: None,
) -> Evaluation:
    """Score a network, with the pixels of all examples pooled.

    Args:
        model: What to compute with.
        examples: From ``examples.find_examples``.
        thresholds: Each gives one score.
        tiling: How windows lie over images that are more than one.
        stretch: Reflectance of red, green and blue shown as 0–255; 8-bit images are shown as they are.
        follow: Called with the number of images whenever some are done.

    Raises:
        RasterError: An image cannot be read.
    """
    windows = sorted((example for example in examples if example.is_window), key=lambda example: example.shape)
    larger = [example for example in examples if not example.is_window]

    def answers() -> Iterator[Answer]:
        for batch in _batches(windows, max(1, model.engine.batch_size // 2)):
            yield from _at_network_resolution(model, batch, stretch)
            follow(len(batch))
        for example in larger:
            before, after, seen = example.images(stretch)
            yield np.where(seen, compare(model, before, after, tiling), np.float32(np.nan)), example.truth()
            follow(1)

    return Evaluation(scores_at(thresholds, answers()), len(windows), len(larger))


def enlarged_flags(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Resize to 256 × 256 without in-between values, as OpenCV's ``INTER_NEAREST`` does.

    Args:
        flags: Square, shape (y, x).
    """
    at = np.arange(INPUT_PX) * len(flags) // INPUT_PX
    return flags[np.ix_(at, at)]


def _batches(windows: Sequence[Example], most: int) -> Iterator[Sequence[Example]]:
    """Take examples of one size together; they come in order of size."""
    start = 0
    while start < len(windows):
        batch = [one for one in windows[start : start + most] if one.shape == windows[start].shape]
        yield batch
        start += len(batch)


def _at_network_resolution(model: Model, batch: Sequence[Example], stretch: Stretch) -> Iterator[Answer]:
    images = [example.images(stretch) for example in batch]
    years = np.stack([year for before, after, _ in images for year in (before, after)])
    pairs = np.arange(len(years)).reshape(-1, 2)
    found = model.engine.fetch(model.engine.infer(years, pairs, INPUT_PX))
    for example, probability, (_, _, seen) in zip(batch, found, images, strict=True):
        yield np.where(enlarged_flags(seen), probability, np.float32(np.nan)), enlarged_flags(example.truth())
