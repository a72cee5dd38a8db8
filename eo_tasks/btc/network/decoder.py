"""The UPerNet decoder of ``published.BtcNetwork``, with its BatchNorms folded and its convolutions taken apart.

Exact rearrangements of the same arithmetic:

- a BatchNorm becomes part of the convolution before it;
- a convolution over levels laid side by side is the sum of one convolution per level, and a level that was enlarged for
  it is convolved before it is enlarged (``convolution.Upsampled``);
- in float32 what is left of the 3 × 3 convolutions is computed by ``convolution.Winograd``.

Maps are laid out (pair, y, x, channel), as the encoder's tokens are.
"""

from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from eo_tasks.btc.network.convolution import Direct, Upsampled, Winograd
from eo_tasks.btc.network.dense import Dense
from eo_tasks.btc.network.encoder import PATCH_PX, Features
from eo_tasks.btc.network.published import INPUT_PX, BtcNetwork

SIDES = tuple(INPUT_PX // PATCH_PX >> level for level in range(4))


def pointwise(module: Any) -> Dense:
    """A 1 × 1 convolution with its BatchNorm and ReLU."""
    weight, bias = folded(module)
    return Dense(weight[:, :, 0, 0], bias, "relu")


class Levels(nn.Module):
    """A 3 × 3 convolution with BatchNorm and ReLU over maps of several sizes, enlarged to the first one's size."""

    def __init__(self, module: Any, channels: list[int], sides: list[int], winograd: bool) -> None:
        super().__init__()
        weight, bias = folded(module)
        first, *others = torch.split(weight, channels, dim=1)
        self.bias = nn.Buffer(bias)
        self.first = Winograd(first) if winograd and sides[0] % 4 == 0 else Direct(first)
        self.others = nn.ModuleList(
            Upsampled(part, side, sides[0]) for part, side in zip(others, sides[1:], strict=True)
        )

    def forward(self, *maps: Tensor) -> Tensor:
        """Convolve; shapes (pair, y, x, channel)."""
        total = self.first(maps[0])
        for part, smaller in zip(self.others, maps[1:], strict=True):
            total += part(smaller)
        total += self.bias
        return cast("Tensor", total.relu_())


class Decoder(nn.Module):
    """The features of two years in, change logits at a quarter of the resolution out.

    Args:
        network: Whose weights it takes.
        winograd: Whether 3 × 3 convolutions are taken apart further: less work in float32, too inexact below.
    """

    def __init__(self, network: BtcNetwork, *, winograd: bool) -> None:
        super().__init__()
        head, hidden = network.decode_head, network.architecture.hidden
        self.scales = tuple(head.pool_scales)
        self.laterals = nn.ModuleList(pointwise(module) for module in head.lateral_convs)
        self.pools = nn.ModuleList(pointwise(block.layers[1]) for block in head.psp_modules.blocks)
        deepest = head.in_channels[-1]
        self.bottleneck = Levels(
            head.bottleneck, [deepest, *[hidden] * len(self.scales)], [SIDES[-1], *self.scales], winograd
        )
        self.outputs = nn.ModuleList(
            Levels(module, [hidden], [side], winograd) for module, side in zip(head.fpn_convs, SIDES, strict=False)
        )
        self.fusion = Levels(head.fpn_bottleneck, [hidden] * len(SIDES), list(SIDES), winograd)
        self.classifier = Dense(head.classifier.weight[:, :, 0, 0], head.classifier.bias)

    def forward(self, before: Features, after: Features) -> Tensor:
        """Decode pairs.

        Args:
            before: Features of the earlier years, as ``encoder.Encoder`` gives them.
            after: Of the later years.

        Returns:
            Logits, shape (pair, 64, 64).
        """
        differences = [early - late for early, late in zip(before, after, strict=True)]
        deepest = differences[-1]
        pooled = [pool(average(deepest, scale)) for pool, scale in zip(self.pools, self.scales, strict=True)]
        levels = [lateral(part) for lateral, part in zip(self.laterals, differences, strict=False)]
        levels.append(self.bottleneck(deepest, *pooled))
        for upper, lower in reversed(list(pairwise(range(len(levels))))):
            levels[upper] += enlarge(levels[lower], levels[upper].shape[1])
        refined = [output(level) for output, level in zip(self.outputs, levels, strict=False)]
        fused = self.fusion(*refined, levels[-1])
        return cast("Tensor", self.classifier(fused))[..., 0]


def folded(module: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a bias-free convolution followed by a BatchNorm in evaluation."""
    norm = module.batch_norm
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    weight = module.conv.weight.double() * scale[:, None, None, None]
    bias = norm.bias.double() - norm.running_mean.double() * scale
    return weight.to(norm.weight.dtype).detach(), bias.to(norm.bias.dtype).detach()


def average(maps: Tensor, side: int) -> Tensor:
    """Average over ``side`` × ``side`` parts of the map."""
    return functional.adaptive_avg_pool2d(maps.permute(0, 3, 1, 2), side).permute(0, 2, 3, 1)


def enlarge(maps: Tensor, side: int) -> Tensor:
    """Enlarge bilinearly."""
    return functional.interpolate(maps.permute(0, 3, 1, 2), size=(side, side), mode="bilinear").permute(0, 2, 3, 1)
