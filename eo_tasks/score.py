"""How well change masks agree with the truth."""

from collections.abc import Iterable, Sequence
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


def scores_at(
    thresholds: Sequence[float], answers: Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]]
) -> dict[float, Score]:
    """Pool probabilities and truths, and score the masks that each threshold makes of them.

    Args:
        thresholds: A pixel above one counts as changed.
        answers: Probability of change, NaN where not seen, and where change is; shape (y, x) both.
    """
    levels = np.array(sorted(set(thresholds)), np.float32)
    counts = np.zeros((len(levels) + 1, 2), np.int64)  # by how many levels lie below the probability, and the truth
    for probability, truth in answers:
        seen = ~np.isnan(probability)
        above = np.searchsorted(levels, probability[seen], side="left")
        counts += np.bincount(2 * above + truth[seen], minlength=counts.size).reshape(counts.shape)
    found = counts[::-1].cumsum(axis=0)[::-1][1:].tolist()
    unchanged, changed = counts.sum(axis=0).tolist()
    return {
        threshold: Score(true, false, changed - true, unchanged - false)
        for threshold, (false, true) in zip(sorted(set(thresholds)), found, strict=True)
    }


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
