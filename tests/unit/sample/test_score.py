"""Counts worked out by hand."""

import math

import numpy as np
import pytest

from eo_tasks.sample.score import score


def image(*rows):
    return np.array(rows, np.uint8)


def test_pixels_of_all_masks_are_pooled():
    found = [image([1, 1, 0]), image([1, 0, 0])]
    real = [image([1, 0, 1]), image([1, 1, 0])]
    result = score(found, real)
    assert (result.true_positives, result.false_positives, result.false_negatives, result.true_negatives) == (
        2,
        1,
        2,
        1,
    )
    assert result.precision == pytest.approx(2 / 3)
    assert result.recall == pytest.approx(1 / 2)
    assert result.f1 == pytest.approx(4 / 7)
    assert result.iou == pytest.approx(2 / 5)


def test_pixel_unseen_in_mask_or_truth_counts_nowhere():
    result = score([image([255, 1, 0])], [image([1, 255, 0])])
    assert (result.true_positives, result.false_positives, result.false_negatives, result.true_negatives) == (
        0,
        0,
        0,
        1,
    )


def test_score_is_nan_where_nothing_changed_and_nothing_was_found():
    result = score([image([0, 0])], [image([0, 0])])
    assert all(math.isnan(value) for value in (result.precision, result.recall, result.f1, result.iou))


def test_masks_and_truths_of_different_number_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        score([image([0]), image([0])], [image([0])])


def test_mask_and_truth_of_different_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(1, 2\).*\(1, 1\)"):
        score([image([0, 0])], [image([0])])
