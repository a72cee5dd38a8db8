"""Three ways to convolve against torch's own in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from eo_tasks.btc.network.convolution import Direct, Upsampled, Winograd, shifted_enlargements, winograd_matrices

EXACT = 1e-11


def drawn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def convolved(maps: Tensor, weight: Tensor) -> Tensor:
    """The definition, on maps laid out (image, y, x, channel)."""
    return functional.conv2d(maps.permute(0, 3, 1, 2), weight, padding=1).permute(0, 2, 3, 1)


def one_product_after_another(maps: Tensor, weight: Tensor) -> Tensor:
    """The definition in the maps' own precision, whatever the library of the device would do."""
    _, height, width, channels = maps.shape
    around, total = functional.pad(maps, (0, 0, 1, 1, 1, 1)), maps.new_zeros(*maps.shape[:3], len(weight))
    for channel in range(channels):
        for y in range(3):
            for x in range(3):
                total += around[:, y : y + height, x : x + width, channel, None] * weight[:, channel, y, x]
    return total


def enlarged(maps: Tensor, side: int) -> Tensor:
    upright = maps.permute(0, 3, 1, 2)
    return functional.interpolate(upright, size=(side, side), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


@pytest.mark.parametrize("way", [Direct, Winograd])
@pytest.mark.parametrize("side", [4, 8, 64])
def test_a_convolution_is_torchs_up_to_the_borders(way, side):
    maps, weight = drawn(2, side, side, 5), drawn(3, 5, 3, 3)
    found = way(weight)(maps)
    assert found.shape == (2, side, side, 3)
    assert (found - convolved(maps, weight)).abs().max() < EXACT


@pytest.mark.parametrize("way", [Direct, Winograd])
def test_a_convolution_by_hand(way):
    ones = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    found = way(ones)(torch.ones(1, 4, 4, 1, dtype=torch.float64))[0, :, :, 0]
    expected = [[4, 6, 6, 4], [6, 9, 9, 6], [6, 9, 9, 6], [4, 6, 6, 4]]
    assert (found - torch.tensor(expected)).abs().max() < EXACT


@pytest.mark.parametrize("way", [Direct, Winograd])
def test_a_kernel_reads_its_rows_downwards_and_its_columns_to_the_right(way):
    maps = torch.arange(16.0, dtype=torch.float64).view(1, 4, 4, 1)
    weight = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    weight[0, 0, 0, 2] = 1  # the pixel above to the right
    found = way(weight)(maps)[0, :, :, 0]
    expected = [[0, 0, 0, 0], [1, 2, 3, 0], [5, 6, 7, 0], [9, 10, 11, 0]]
    assert (found - torch.tensor(expected)).abs().max() < EXACT


@pytest.mark.parametrize("side", [8, 64])
def test_winograds_error_in_float32_is_within_twice_that_of_adding_up_products(side):
    maps, weight = drawn(1, side, side, 512).float(), (drawn(4, 512, 3, 3) / 68).float()  # BTC's channels
    exact = convolved(maps.double(), weight.double())
    added_up, winograd = (
        (found.double() - exact).pow(2).mean().sqrt().item()
        for found in (one_product_after_another(maps, weight), Winograd(weight)(maps))
    )
    assert 1e-7 < added_up < 2e-6  # of sums near one
    assert winograd < 2 * added_up  # measured 1.7 and 1.8; 1.3 where oneDNN adds up


def test_the_matrices_convolve_four_outputs_along_an_axis():
    tile, kernel, patch = winograd_matrices()
    taps, inputs = drawn(3), drawn(6)
    expected = torch.stack([inputs[at : at + 3] @ taps for at in range(4)])
    assert (tile @ ((kernel @ taps) * (patch @ inputs)) - expected).abs().max() < EXACT


@pytest.mark.parametrize(
    ("side", "target"), [(8, 64), (16, 64), (32, 64), (1, 8), (2, 8), (3, 8), (6, 8), (4, 4), (5, 12)]
)
def test_a_map_is_convolved_as_if_it_had_been_enlarged(side, target):
    maps, weight = drawn(3, side, side, 4), drawn(2, 4, 3, 3)
    found = Upsampled(weight, side, target)(maps)
    assert found.shape == (3, target, target, 2)
    assert (found - convolved(enlarged(maps, target), weight)).abs().max() < EXACT


def test_enlarging_is_shifted_with_zeros_from_outside():
    # Two pixels to four: centres at 1/4, 3/4, … of a pixel.
    above, on, below = shifted_enlargements(2, 4)
    weights = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    assert on.tolist() == weights
    assert above.tolist() == [[0, 0], *weights[:3]]
    assert below.tolist() == [*weights[1:], [0, 0]]
