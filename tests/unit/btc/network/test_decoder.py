"""The decoder taken apart against the published one."""

import pytest
import torch
from torch import nn

from eo_tasks.btc.network.decoder import SIDES, Decoder, average, folded
from eo_tasks.btc.network.fast import PlainNetwork

TOLERANCE = 1e-4  # logits; measured 1e-5


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.inference_mode():
        yield


def features(network, count: int, seed: int) -> tuple[torch.Tensor, ...]:
    """Random features of the network's sizes, channels last."""
    generator = torch.Generator().manual_seed(seed)
    widths = [network.architecture.embed_dim << level for level in range(4)]
    return tuple(
        torch.randn(count, side, side, width, generator=generator) for side, width in zip(SIDES, widths, strict=True)
    )


def upright(maps: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(feature.permute(0, 3, 1, 2) for feature in maps)


def test_sides_are_those_of_the_four_stages():
    assert SIDES == (64, 32, 16, 8)


@pytest.mark.parametrize("winograd", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_logits_are_those_of_the_published_decoder(network, winograd, count):
    before, after = features(network, count, 1), features(network, count, 2)
    published = PlainNetwork(network).decode(upright(before), upright(after))
    found = Decoder(network, winograd=winograd)(before, after)
    assert found.shape == (count, 64, 64)
    assert published.std() > 0.1
    assert (found - published).abs().max() < TOLERANCE


def test_the_order_of_the_years_matters(network):
    decoder, before, after = Decoder(network, winograd=True), features(network, 1, 1), features(network, 1, 2)
    assert (decoder(before, after) - decoder(after, before)).abs().max() > 0.1


def test_features_are_left_as_they_are_for_the_years_other_pairs(network):
    before, after = features(network, 1, 1), features(network, 1, 2)
    kept = [feature.clone() for feature in (*before, *after)]
    Decoder(network, winograd=True)(before, after)
    assert all(torch.equal(feature, copy) for feature, copy in zip((*before, *after), kept, strict=True))


def test_a_batch_norm_becomes_part_of_the_convolution_before_it():
    module = nn.Module()
    module.conv, module.batch_norm = nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2, eps=1)
    with torch.no_grad():
        module.conv.weight.copy_(torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))
        for name, values in (("weight", [3.0, 5.0]), ("bias", [1.0, -1.0])):
            getattr(module.batch_norm, name).copy_(torch.tensor(values))
        module.batch_norm.running_mean.copy_(torch.tensor([4.0, 0.5]))
        module.batch_norm.running_var.copy_(torch.tensor([3.0, 8.0]))  # with eps, of roots 2 and 3
    weight, bias = folded(module)
    assert weight.flatten().tolist() == pytest.approx([1.5, 10 / 3])
    assert bias.tolist() == pytest.approx([1 - 4 * 1.5, -1 - 0.5 * 5 / 3])


def test_parts_of_a_map_that_does_not_divide_overlap_in_their_averages():
    row = torch.arange(8.0)
    maps = (row[:, None] + torch.zeros(8, 8))[None, ..., None]
    # Eight rows in three parts: 0–2, 2–5 and 5–7.
    assert average(maps, 3)[0, :, 0, 0].tolist() == [1, 3.5, 6]
    assert average(maps, 1).flatten().tolist() == [3.5]
