"""The two ways to compute one network, behind one protocol: as published, and fast."""

from copy import deepcopy
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from eo_tasks.btc.network.decoder import Decoder
from eo_tasks.btc.network.encoder import Encoder, Features
from eo_tasks.btc.network.published import IMAGENET_MEAN, IMAGENET_STD, Architecture, BtcNetwork


class TwoStep(Protocol):
    """A BTC network in two steps, so that a year's features serve all its pairs."""

    architecture: Architecture

    def encode(self, levels: Tensor) -> Features:
        """Features of RGB levels from 0 to 255, shape (image, 256, 256, 3)."""
        ...

    def decode(self, before: Features, after: Features) -> Tensor:
        """Change logits, shape (pair, 64, 64); the order of the years matters."""
        ...

    def to(self, device: torch.device) -> "TwoStep":
        """Move to a device."""
        ...


class PlainNetwork(nn.Module):
    """As published, on the parts of ``transformers``: the oracle."""

    def __init__(self, network: BtcNetwork) -> None:
        super().__init__()
        self.architecture = network.architecture
        self.network = network
        self.mean, self.std = nn.Buffer(torch.tensor(IMAGENET_MEAN)), nn.Buffer(torch.tensor(IMAGENET_STD))

    def encode(self, levels: Tensor) -> Features:
        """Features of RGB levels from 0 to 255, shape (image, 256, 256, 3)."""
        return self.network.encode(((levels / 255 - self.mean) / self.std).permute(0, 3, 1, 2))

    def decode(self, before: Features, after: Features) -> Tensor:
        """Change logits, shape (pair, 64, 64)."""
        differences = [early - late for early, late in zip(before, after, strict=True)]
        return cast("Tensor", self.network.decode_head(differences))[:, 0]


class FastNetwork(nn.Module):
    """The same function from the same weights, with less work; ``eo-tasks btc verify`` compares the two.

    Args:
        network: Whose weights it takes; in float32 the two share some of them.
        dtype: What the blocks and the decoder are computed in. The patch embedding stays in float32.
    """

    def __init__(self, network: BtcNetwork, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.architecture = network.architecture
        self.encoder = Encoder(network)
        self.decoder = Decoder(network, winograd=dtype is torch.float32)
        if dtype is not torch.float32:
            self.encoder.stages = deepcopy(self.encoder.stages).to(dtype)
            self.decoder.to(dtype)

    def encode(self, levels: Tensor) -> Features:
        """Features of RGB levels from 0 to 255, shape (image, 256, 256, 3)."""
        return cast("Features", self.encoder(levels))

    def decode(self, before: Features, after: Features) -> Tensor:
        """Change logits, shape (pair, 64, 64)."""
        return cast("Tensor", self.decoder(before, after)).float()
