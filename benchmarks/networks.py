"""BTC networks with random weights as the authors run them and as the worker does, and work to give them.

Speed does not depend on the weights.
"""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from eo_tasks.btc.engine import Engine
from eo_tasks.btc.network.decoder import Decoder
from eo_tasks.btc.network.encoder import Features
from eo_tasks.btc.network.fast import FastNetwork, PlainNetwork
from eo_tasks.btc.network.published import Architecture, BtcNetwork

ARCHITECTURES = {
    "B": Architecture(128, (2, 2, 18, 2), (4, 8, 16, 32), 12, 512),
    "T": Architecture(96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 512),
}
WINDOW_PX = 96

Work = tuple[NDArray[np.uint8], NDArray[np.int64]]  # windows, and which two of them each pair compares


def random_network(architecture: str) -> BtcNetwork:
    """A BTC-B or BTC-T."""
    torch.manual_seed(0)
    return BtcNetwork(ARCHITECTURES[architecture]).eval().requires_grad_(False)


def plain_engine(source: BtcNetwork, device: torch.device, attention: str = "eager") -> Engine:
    """As the authors run it: one pair at a time, in float32."""
    copied = deepcopy(source)
    copied.backbone.set_attn_implementation(attention)
    return Engine(PlainNetwork(copied).eval(), device, 1)


def our_engine(
    source: BtcNetwork, device: torch.device, batch_size: int, dtype: torch.dtype, *, graphs: bool = False
) -> Engine:
    """As the worker runs it."""
    return Engine(FastNetwork(source, dtype).eval(), device, batch_size, graphs=graphs)


class Mixed(nn.Module):
    """An encoder and a decoder of different origin; ``parts`` are what they are made of."""

    def __init__(self, encode: Callable[..., Features], decode: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.architecture = ARCHITECTURES["B"]
        self.encode, self.decode = encode, decode
        self.parts = nn.ModuleList(parts)


def with_plain_encoder(source: BtcNetwork, dtype: torch.dtype) -> nn.Module:
    """Ours, but the encoder of ``transformers``: it computes what is filled up, with SDPA."""
    ours, plain = FastNetwork(source, dtype).eval(), PlainNetwork(deepcopy(source)).eval()
    plain.network.backbone.set_attn_implementation("sdpa")

    def encode(levels: torch.Tensor) -> Features:
        return tuple(maps.permute(0, 2, 3, 1).contiguous().to(dtype) for maps in plain.encode(levels))

    return Mixed(encode, ours.decode, ours, plain)


def with_plain_decoder(source: BtcNetwork, dtype: torch.dtype, memory_format: torch.memory_format) -> nn.Module:
    """Ours, but the decoder of ``transformers``, in either layout of memory."""
    ours, plain = FastNetwork(source, dtype).eval(), PlainNetwork(deepcopy(source)).eval()
    plain.network.decode_head.to(dtype=dtype, memory_format=memory_format)

    def decode(before: Features, after: Features) -> torch.Tensor:
        years = (
            tuple(maps.permute(0, 3, 1, 2).contiguous(memory_format=memory_format) for maps in features)
            for features in (before, after)
        )
        return plain.decode(*years)

    return Mixed(ours.encode, decode, ours, plain)


def without_winograd(source: BtcNetwork, dtype: torch.dtype) -> nn.Module:
    """Ours, with the decoder's convolutions split by level but computed as defined."""
    ours, decoder = FastNetwork(source, dtype).eval(), Decoder(source, winograd=False).eval().to(dtype)
    return Mixed(ours.encode, decoder, ours, decoder)


def random_windows(count: int) -> NDArray[np.uint8]:
    """Windows of noise, shape (window, 96, 96, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, WINDOW_PX, WINDOW_PX, 3), dtype=np.uint8)


def pairs_alone(pairs: int) -> Work:
    """Two windows of its own for every pair."""
    return random_windows(2 * pairs), np.arange(2 * pairs).reshape(-1, 2)


def series(years: int, pairs: int) -> Work:
    """Windows of about so many pairs: several places in ``years`` years, each compared with the next."""
    places = max(1, round(pairs / (years - 1)))
    first = (np.arange(places)[:, None] * years + np.arange(years - 1)).reshape(-1, 1)
    return random_windows(places * years), np.concatenate([first, first + 1], axis=1)


def infer(engine: Engine, work: Work) -> object:
    """Bytes in, probabilities out, batch by batch as the worker packs them."""
    windows, pairs = work
    answers, start = [], 0
    while start < len(pairs):
        first, stop = int(pairs[start, 0]), start + 1
        while stop < len(pairs) and pairs[stop, 1] - first < engine.batch_size:
            stop += 1
        last = int(pairs[stop - 1, 1])
        answers.append(engine.infer(windows[first : last + 1], pairs[start:stop] - first))
        start = stop
    return [engine.fetch(one) for one in answers]
