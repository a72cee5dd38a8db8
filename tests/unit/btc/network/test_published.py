"""The plain network against what the authors' code made of the same weights and images."""

import numpy as np
import pytest
import torch

from eo_tasks.btc.checkpoint import load_checkpoint
from eo_tasks.btc.network.published import Architecture

TOLERANCE = 1e-4  # logits; measured 2e-5 on this network
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def normalised(levels) -> torch.Tensor:
    scaled = (np.asarray(levels).astype(np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


@torch.inference_mode()
def logits(checkpoint, before, after) -> np.ndarray:
    return checkpoint.network(normalised(before), normalised(after)).numpy()


def test_the_tiny_networks_sizes_are_read_from_its_tensors(checkpoint):
    assert checkpoint.network.architecture == Architecture(8, (2, 2, 2, 2), (1, 2, 4, 8), 12, 16)


def test_logits_are_the_authors(checkpoint, golden):
    found = logits(checkpoint, golden["resizedA"], golden["resizedB"])
    assert found.shape == (1, 1, 256, 256)
    assert np.abs(found - golden["logits"]).max() < TOLERANCE


def test_logits_before_upsampling_are_the_authors(checkpoint, golden):
    network = checkpoint.network
    with torch.inference_mode():
        before, after = (network.encode(normalised(golden[name])) for name in ("resizedA", "resizedB"))
        found = network.decode_head([early - late for early, late in zip(before, after, strict=True)]).numpy()
    assert np.abs(found - golden["lowres_logits"]).max() < TOLERANCE


def test_the_order_of_the_years_matters(checkpoint, golden):
    swapped = logits(checkpoint, golden["resizedB"], golden["resizedA"])
    assert np.abs(swapped - golden["logits_swapped"]).max() < TOLERANCE
    assert np.abs(swapped - golden["logits"]).max() > 1


def test_two_years_without_a_difference_give_one_answer_whatever_they_show(checkpoint, golden):
    same = [logits(checkpoint, golden[name], golden[name]) for name in ("resizedA", "resizedB")]
    assert np.abs(same[0] - same[1]).max() < TOLERANCE  # all features subtract to zero


def test_features_halve_in_size_and_double_in_channels(checkpoint, golden):
    with torch.inference_mode():
        features = checkpoint.network.encode(normalised(golden["resizedA"]))
    assert [tuple(feature.shape) for feature in features] == [
        (1, 8, 64, 64),
        (1, 16, 32, 32),
        (1, 32, 16, 16),
        (1, 64, 8, 8),
    ]


def test_a_pairs_logits_do_not_depend_on_its_batch(checkpoint, golden):
    before, after = golden["resizedA"][0], golden["resizedB"][0]
    alone = logits(checkpoint, [before], [after])
    together = logits(checkpoint, [after, before, before], [before, after, before])
    assert np.abs(together[1] - alone[0]).max() < TOLERANCE


def test_all_golden_pairs_and_features_are_the_authors(full_set, full_golden):
    checkpoint, golden = load_checkpoint(str(full_set)), full_golden
    found = logits(checkpoint, golden["resizedA"], golden["resizedB"])
    assert found.shape == (3, 1, 256, 256)
    assert np.abs(found - golden["logits"]).max() < TOLERANCE
    assert ((found > 0) == (golden["logits"] > 0)).all()
    with torch.inference_mode():
        for year in "AB":
            features = checkpoint.network.encode(normalised(golden[f"resized{year}"][:1]))
            for stage, feature in enumerate(features, start=1):
                expected = golden[f"feat{year}_stage{stage}_pair0"]
                assert feature.numpy() == pytest.approx(expected, abs=TOLERANCE)
