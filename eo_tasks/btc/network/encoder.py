"""The Swin encoder of ``published.BtcNetwork``, computed without the work that has no effect.

Exact rearrangements of the same arithmetic:

- tokens stay in the order of a block's attention windows, for all images at once; one gather moves them on;
- filled-up tokens are not computed: a filled-up token's key and value are the biases, and all of a segment's are one
  key whose position bias is the logarithm of the sum of theirs;
- queries, keys and values come from one product; position biases are looked up once;
- ImageNet normalisation is part of the patch embedding's weights.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from eo_tasks.btc.network.dense import Dense
from eo_tasks.btc.network.partition import Group, groups, relative_index
from eo_tasks.btc.network.published import IMAGENET_MEAN, IMAGENET_STD, INPUT_PX, BtcNetwork

PATCH_PX = 4
Features = tuple[Tensor, ...]


@dataclass(frozen=True)
class Order:
    """The order of a map's tokens while a block works on them: its groups one after another."""

    side: int
    groups: tuple[Group, ...]

    def gather(self, images: int) -> Tensor:
        """Raster indices, over all images, of the tokens in this order."""
        per_image = self.side**2
        offsets = torch.arange(images)[:, None, None] * per_image
        return torch.cat([(offsets + torch.tensor(group.tokens)).flatten() for group in self.groups])

    def scatter(self, images: int) -> Tensor:
        """For each token in raster order, where it stands in this order."""
        gather = self.gather(images)
        back = torch.empty_like(gather)
        back[gather] = torch.arange(len(gather))
        return back


class Block(nn.Module):
    """One Swin block on tokens in its own order, shape (token, channel)."""

    def __init__(self, block: Any, order: Order) -> None:
        super().__init__()
        attention, window = block.attention, block.window_size
        self.order = order
        self.heads = attention.num_attention_heads
        self.norm_before, self.norm_after = block.layernorm_before, block.layernorm_after
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        weight, bias = (torch.cat([getattr(one, name) for one in projections]) for name in ("weight", "bias"))
        self.qkv = Dense(weight, bias)
        self.filled = nn.Buffer(bias.detach().view(3, 1, self.heads, 1, -1))  # what a filled-up token has
        self.out = Dense(attention.o_proj.weight, attention.o_proj.bias)
        self.up = Dense(block.mlp.fc1.weight, block.mlp.fc1.bias, "gelu")
        self.down = Dense(block.mlp.fc2.weight, block.mlp.fc2.bias)
        table = attention.relative_position_bias.relative_position_bias_table.detach()
        self.biases = nn.ParameterList(
            nn.Parameter(position_bias(table, window, group), requires_grad=False) for group in order.groups
        )

    def forward(self, tokens: Tensor, images: int) -> Tensor:
        """Attend within each segment, then the MLP."""
        tokens = tokens + self.out(self._attend(self.norm_before(tokens), images))
        return cast("Tensor", tokens + self.down(self.up(self.norm_after(tokens))))

    def _attend(self, tokens: Tensor, images: int) -> Tensor:
        qkv = self.qkv(tokens)
        mixed, start = [], 0
        for group, bias in zip(self.order.groups, self.biases, strict=True):
            segments, length = images * len(group.tokens), len(group.real)
            end = start + segments * length
            parts = qkv[start:end].view(segments, length, 3 * self.heads, -1).transpose(1, 2)
            query, key, value = parts.split(self.heads, dim=1)
            if group.filled:
                _, filled_key, filled_value = self.filled.expand(-1, segments, -1, -1, -1)
                key, value = torch.cat([key, filled_key], dim=2), torch.cat([value, filled_value], dim=2)
            found = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
            mixed.append(found.transpose(1, 2).reshape(segments * length, -1))
            start = end
        return torch.cat(mixed) if len(mixed) > 1 else mixed[0]


def position_bias(table: Tensor, window: int, group: Group) -> Tensor:
    """Position bias of a group, shape (1, head, query, key); its last key stands for all filled-up tokens, if any."""
    columns = [
        [[relative_index(window, query, key) for key in keys] for query in group.real]
        for keys in (group.real, group.filled)
    ]
    real = table[torch.tensor(columns[0])]
    if not group.filled:
        return real.permute(2, 0, 1)[None].contiguous()
    filled = table[torch.tensor(columns[1])].double().logsumexp(dim=1, keepdim=True).to(table.dtype)
    return torch.cat([real, filled], dim=1).permute(2, 0, 1)[None].contiguous()


class Stage(nn.Module):
    """The blocks of one resolution, then its features and the next stage's tokens."""

    def __init__(self, stage: Any, norm: nn.LayerNorm, side: int) -> None:
        super().__init__()
        self.side = side
        by_shift = {
            block.shift_size: Order(side, groups(side, block.window_size, block.shift_size)) for block in stage.blocks
        }
        self.orders = [by_shift[block.shift_size] for block in stage.blocks]
        self.blocks = nn.ModuleList(map(Block, stage.blocks, self.orders))
        self.norm = norm
        merging = stage.downsample
        self.merge_norm: nn.LayerNorm | None = None if merging is None else merging.norm
        self.merge: Dense | None = None if merging is None else Dense(merging.reduction.weight)


class Encoder(nn.Module):
    """RGB levels in, features of four stages out: the encoder of a ``BtcNetwork``, whose weights it shares."""

    def __init__(self, network: BtcNetwork) -> None:
        super().__init__()
        swin, norms = network.backbone.swin, network.backbone.hidden_states_norms
        projection = swin.embeddings.patch_embeddings.projection
        weight, bias = fold_normalisation(projection.weight.detach(), cast("Tensor", projection.bias).detach())
        self.patch_weight, self.patch_bias = nn.Buffer(weight), nn.Buffer(bias)
        self.patch_norm = swin.embeddings.norm
        side = INPUT_PX // PATCH_PX
        self.stages = nn.ModuleList(
            Stage(stage, norms[f"stage{number + 1}"], side >> number)
            for number, stage in enumerate(swin.encoder.layers)
        )
        self._moves: dict[tuple[int, torch.device], list[Tensor]] = {}

    def forward(self, levels: Tensor) -> Features:
        """Encode images.

        Args:
            levels: Red, green, blue from 0 to 255, shape (image, 256, 256, 3).

        Returns:
            Four maps, shape (image, 64, 64, channel) down to (image, 8, 8, 8 × channel).
        """
        images = len(levels)
        moves = iter(self._moves_for(images, levels.device))
        side = INPUT_PX // PATCH_PX
        patches = levels.view(images, side, PATCH_PX, side, PATCH_PX, 3).transpose(2, 3).reshape(images * side**2, -1)
        patches = patches.index_select(0, next(moves))
        tokens = self.patch_norm(functional.linear(patches, self.patch_weight, self.patch_bias))
        stages = self._typed_stages
        tokens = tokens.to(stages[0].norm.weight.dtype)
        features = []
        for stage in stages:
            for number, block in enumerate(stage.blocks):
                tokens = tokens.index_select(0, next(moves)) if number else tokens
                tokens = block(tokens, images)
            raster = tokens.index_select(0, next(moves))
            features.append(stage.norm(raster).view(images, stage.side, stage.side, -1))
            if stage.merge is not None and stage.merge_norm is not None:
                merged = tokens.index_select(0, next(moves)).view(-1, 4 * tokens.shape[1])
                tokens = stage.merge(stage.merge_norm(merged))
        return tuple(features)

    def _moves_for(self, images: int, device: torch.device) -> list[Tensor]:
        """The gathers of one pass, in order of their use."""
        key = (images, device)
        if key not in self._moves:
            self._moves[key] = [move.to(device) for move in self._work_out_moves(images)]
        return self._moves[key]

    def _work_out_moves(self, images: int) -> Iterable[Tensor]:
        stages = self._typed_stages
        yield stages[0].orders[0].gather(images)
        for stage, following in zip(stages, [*stages[1:], None], strict=True):
            for before, after in pairwise(stage.orders):
                yield before.scatter(images)[after.gather(images)]
            back = stage.orders[-1].scatter(images)
            yield back
            if following is not None:
                yield back[merged_tokens(images, stage.side)[following.orders[0].gather(images)]].flatten()

    @property
    def _typed_stages(self) -> list[Stage]:
        return [cast("Stage", stage) for stage in self.stages]


def merged_tokens(images: int, side: int) -> Tensor:
    """Raster indices of the four tokens that are merged into each one, in the published order; shape (token, 4)."""
    raster = torch.arange(images * side**2).view(images, side // 2, 2, side // 2, 2)
    corners = [raster[:, :, row, :, column] for column in range(2) for row in range(2)]
    return torch.stack(corners, dim=-1).view(-1, 4)


def fold_normalisation(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of a patch embedding that takes levels from 0 to 255, shape (channel, patch × patch × 3)."""
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (IMAGENET_MEAN, IMAGENET_STD))
    exact = weight.double()
    shifted = bias.double() - (exact * (mean / std)[None, :, None, None]).sum(dim=(1, 2, 3))
    scaled = exact / (255 * std)[None, :, None, None]
    return scaled.permute(0, 2, 3, 1).reshape(len(weight), -1).to(weight.dtype), shifted.to(bias.dtype)
