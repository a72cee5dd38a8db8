"""BTC networks with random weights, and windows to show them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eo_tasks.btc.network.published import Architecture, BtcNetwork

# Windows of 12 tokens fill every map up, those of 7 another way; the third is the sample's, which fills none up.
ARCHITECTURES = {
    "window 12": Architecture(8, (2, 2, 2, 2), (1, 2, 4, 8), 12, 16),
    "window 7, uneven depths": Architecture(8, (1, 3, 2, 1), (2, 2, 4, 4), 7, 12, 2.0),
    "window 8, one block": Architecture(6, (1, 1, 1, 1), (1, 2, 3, 6), 8, 8),
}


def random_network(architecture: Architecture, seed: int = 0) -> BtcNetwork:
    """A network in which every weight, bias, position bias and statistic is drawn, so that none goes unnoticed."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor, scale: float, mean: float = 0) -> Tensor:
        return torch.randn(like.shape, generator=generator) * scale + mean

    network = BtcNetwork(architecture)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.weight.copy_(normal(module.weight, (1.5 / module.weight[0].numel()) ** 0.5))
                if module.bias is not None:
                    module.bias.copy_(normal(module.bias, 0.3))
            elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
                module.weight.copy_(normal(module.weight, 0.2, 1))
                module.bias.copy_(normal(module.bias, 0.3))
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(normal(module.running_mean, 0.3))
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)
        for name, parameter in network.named_parameters():
            if "relative_position_bias_table" in name:
                parameter.copy_(normal(parameter, 1))
    return network.eval()


class RedNetwork:
    """Has no weights: its logit is the later year's red less the earlier one's, over 50. Remembers its batches.

    Attributes:
        fits: The largest batch that does not fail.
        error: What a larger one raises.
        encoded, decoded: Sizes of the batches that it was asked for.
    """

    architecture = ARCHITECTURES["window 8, one block"]

    def __init__(self, fits: int = 1000, error: Exception | None = None) -> None:
        self.fits, self.error = fits, error or torch.OutOfMemoryError("out of memory")
        self.encoded: list[int] = []
        self.decoded: list[int] = []

    def to(self, device: torch.device) -> "RedNetwork":
        return self

    def encode(self, levels: Tensor) -> tuple[Tensor, ...]:
        self.encoded.append(len(levels))
        if len(levels) > self.fits:
            raise self.error
        return (levels[:, ::4, ::4, :1],)

    def decode(self, before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> Tensor:
        self.decoded.append(len(before[0]))
        if len(before[0]) > self.fits:
            raise self.error
        return (after[0] - before[0])[..., 0] / 50


def structured_windows(count: int, side: int = 96, seed: int = 0) -> NDArray[np.uint8]:
    """Windows with fields, edges and noise, as satellites see them; shape (window, y, x, 3)."""
    rng = np.random.default_rng(seed)
    windows = np.empty((count, side, side, 3))
    for window in windows:
        window[:] = rng.uniform(40, 120, 3)
        for _ in range(12):
            top, left = rng.integers(0, side, 2)
            height, width = rng.integers(side // 12, side // 2, 2)
            window[top : top + height, left : left + width] = rng.uniform(20, 220, 3)
        window += rng.normal(0, 6, window.shape)
    return np.clip(np.rint(windows), 0, 255).astype(np.uint8)
