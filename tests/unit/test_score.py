"""Counts worked out by hand."""

import math

import numpy as np
import pytest

from eo_tasks.score import Score, score, scores_at


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


# Thresholds


def test_each_threshold_has_the_score_of_its_mask():
    probability = np.array([[0.1, 0.3, 0.6], [0.7, 0.9, np.nan]], np.float32)
    truth = np.array([[False, True, False], [True, True, True]])
    found = scores_at([0.5, 0.05, 0.8, 0.95], [(probability, truth)])
    assert found == {
        0.05: Score(true_positives=3, false_positives=2, false_negatives=0, true_negatives=0),
        0.5: Score(true_positives=2, false_positives=1, false_negatives=1, true_negatives=1),
        0.8: Score(true_positives=1, false_positives=0, false_negatives=2, true_negatives=2),
        0.95: Score(true_positives=0, false_positives=0, false_negatives=3, true_negatives=2),
    }


def test_a_probability_on_a_threshold_is_unchanged_as_in_a_mask():
    values = np.array([0.2, 0.3, np.nextafter(np.float32(0.2), np.float32(1))], np.float32)
    found = scores_at([0.2, 0.3], [(values, np.ones(3, bool))])
    assert (
        [found[level].true_positives for level in (0.2, 0.3)]
        == [(values > level).sum() for level in (0.2, 0.3)]
        == [2, 0]
    )


def test_probabilities_of_all_images_are_pooled():
    rng = np.random.default_rng(4)
    answers = [(rng.random(shape).astype(np.float32), rng.random(shape) < 0.3) for shape in ((4, 5), (2, 2), (7, 1))]
    masks = [(probability > 0.4).astype(np.uint8) for probability, _ in answers]
    assert scores_at([0.4], answers) == {0.4: score(masks, [truth.astype(np.uint8) for _, truth in answers])}
