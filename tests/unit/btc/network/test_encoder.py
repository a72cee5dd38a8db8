"""The encoder without needless work against the published one."""

import math

import pytest
import torch
from torch import nn
from transformers.models.swin.modeling_swin import SwinPatchMerging

from eo_tasks.btc.checkpoint import load_checkpoint
from eo_tasks.btc.network.encoder import Encoder, Order, fold_normalisation, merged_tokens, position_bias
from eo_tasks.btc.network.fast import PlainNetwork
from eo_tasks.btc.network.partition import Group, groups
from eo_tasks.btc.network.published import IMAGENET_MEAN, IMAGENET_STD
from tests.networks import structured_windows

TOLERANCE = 1e-4  # features; measured 1e-5


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture
def levels() -> torch.Tensor:
    """Three images of the network's size."""
    return torch.from_numpy(structured_windows(3, 256)).float()


@pytest.mark.parametrize("count", [1, 3])
def test_features_are_those_of_the_published_encoder(network, levels, count):
    published = PlainNetwork(network).encode(levels[:count])
    found = Encoder(network)(levels[:count])
    for expected, feature in zip(published, found, strict=True):
        assert expected.std() > 0.5
        assert (feature.permute(0, 3, 1, 2) - expected).abs().max() < TOLERANCE


def test_features_lie_channels_last_and_halve_in_size(checkpoint, levels):
    assert [tuple(feature.shape) for feature in Encoder(checkpoint.network)(levels)] == [
        (3, 64, 64, 8),
        (3, 32, 32, 16),
        (3, 16, 16, 32),
        (3, 8, 8, 64),
    ]


def test_an_images_features_do_not_depend_on_its_batch_nor_on_the_batches_before(network, levels):
    encoder = Encoder(network)
    together = encoder(levels)
    for number in (2, 0, 1):
        alone = encoder(levels[number : number + 1])
        for part, whole in zip(alone, together, strict=True):
            assert (part[0] - whole[number]).abs().max() < TOLERANCE
    again = encoder(levels)
    assert all(torch.equal(first, second) for first, second in zip(together, again, strict=True))


def test_features_of_the_golden_images_are_the_authors(full_set, full_golden):
    encoder = Encoder(load_checkpoint(str(full_set)).network)
    for year in "AB":
        features = encoder(torch.from_numpy(full_golden[f"resized{year}"][:1]).float())
        for stage, feature in enumerate(features, start=1):
            expected = torch.from_numpy(full_golden[f"feat{year}_stage{stage}_pair0"])
            assert (feature.permute(0, 3, 1, 2) - expected).abs().max() < TOLERANCE


# The order of tokens


@pytest.mark.parametrize("shift", [0, 3])
def test_tokens_are_gathered_segment_by_segment_over_all_images_and_scattered_back(shift):
    order = Order(8, groups(8, 7, shift))
    gather, scatter = order.gather(2), order.scatter(2)
    assert sorted(gather.tolist()) == list(range(2 * 64))
    assert gather[scatter].tolist() == list(range(2 * 64))
    first = order.groups[0]
    size = len(first.tokens) * len(first.real)
    assert gather[:size].tolist() == [token for segment in first.tokens for token in segment]
    assert gather[size : 2 * size].tolist() == [64 + token for segment in first.tokens for token in segment]


def test_four_tokens_are_merged_in_the_published_order():
    # Of a map of 4 × 4: upper left, lower left, upper right, lower right; then the next image's.
    assert merged_tokens(1, 4).tolist() == [[0, 4, 1, 5], [2, 6, 3, 7], [8, 12, 9, 13], [10, 14, 11, 15]]
    assert merged_tokens(2, 4)[4:].tolist() == [[16, 20, 17, 21], [18, 22, 19, 23], [24, 28, 25, 29], [26, 30, 27, 31]]
    merging = SwinPatchMerging(2)
    merging.norm, merging.reduction = nn.Identity(), nn.Identity()
    tokens = torch.arange(64.0).view(2, 16, 2)
    published = merging(tokens, (4, 4))
    assert torch.equal(tokens.view(32, 2)[merged_tokens(2, 4)].view(2, 4, 8), published)


# Weights made beforehand


def test_the_position_bias_of_a_segment_is_read_from_the_table_for_each_head():
    table = torch.arange(18.0).view(9, 2)  # a window of 2 tokens, two heads
    bias = position_bias(table, 2, Group((0, 3), (), ((0, 3),)))
    # Row (dy + 1) × 3 + dx + 1: a token to itself 4, from the lower right to the upper left 8, the other way 0.
    assert bias.tolist() == [[[[8, 0], [16, 8]], [[9, 1], [17, 9]]]]


def test_filled_up_tokens_are_one_key_with_the_logarithm_of_their_biases_sum():
    table = torch.log(torch.arange(1.0, 10)).view(9, 1)
    bias = position_bias(table, 2, Group((0, 1), (2, 3), ((0, 1),)))
    # From token 0 to 2 and 3: rows 1 and 0 of the table, so log(2 + 1); from 1: rows 2 and 1, so log(3 + 2).
    assert bias[0, 0, :, 2].tolist() == pytest.approx([math.log(3), math.log(5)])
    assert bias[0, 0, :, :2].tolist() == pytest.approx(torch.log(torch.tensor([[5.0, 4.0], [6.0, 5.0]])).numpy())


def test_the_patch_embedding_takes_levels_and_normalises_within():
    generator = torch.Generator().manual_seed(1)
    weight, bias = torch.randn(5, 3, 4, 4, generator=generator), torch.randn(5, generator=generator)
    patch = torch.randint(0, 256, (4, 4, 3), generator=generator).double()
    normalised = (patch / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    expected = (weight.double() * normalised.permute(2, 0, 1)).sum((1, 2, 3)) + bias
    folded, shifted = fold_normalisation(weight, bias)
    assert (folded.double() @ patch.flatten() + shifted - expected).abs().max() < 1e-5
