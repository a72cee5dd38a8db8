"""How well change masks agree with the truth."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eo_tasks.change import CHANGED, UNSEEN


@dataclass(frozen=True)
class Score:
    """Pixels counted over all masks, where neither mask nor truth is unseen."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    @property
    def precision(self) -> float:
        """Share of detected pixels that changed; NaN where nothing was detected."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of changed pixels that were detected; NaN where nothing changed."""
        return _ratio(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where nothing changed and nothing was detected."""
        return _ratio(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)

    @property
    def iou(self) -> float:
        """Intersection over union of detected and changed pixels; NaN where both are empty."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives + self.false_negatives)


def score(masks: Iterable[NDArray[np.uint8]], truths: Iterable[NDArray[np.uint8]]) -> Score:
    """Pool masks and truths of the same cells and years; pixels that are 255 in either are left out.

    Args:
        masks: 0 unchanged, 1 changed, 255 unseen; shape (y, x) each.
        truths: The same, in the same order.

    Raises:
        ValueError: There are more of one than of the other, or two differ in shape.
    """
    counts = np.zeros((2, 2), np.int64)
    for mask, truth in zip(masks, truths, strict=True):
        if mask.shape != truth.shape:
            raise ValueError(f"mask of shape {mask.shape}, truth of shape {truth.shape}")
        seen = (mask != UNSEEN) & (truth != UNSEEN)
        found, real = mask[seen] == CHANGED, truth[seen] == CHANGED
        counts += [[(~found & ~real).sum(), (~found & real).sum()], [(found & ~real).sum(), (found & real).sum()]]
    (true_negatives, false_negatives), (false_positives, true_positives) = counts.tolist()
    return Score(true_positives, false_positives, false_negatives, true_negatives)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
