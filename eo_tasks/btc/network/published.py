"""The BTC network, plain and readable, from the Swin and UPerNet parts of ``transformers``.

This is the oracle: anything faster is held against it.
"""

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from torch.nn import functional
from transformers import SwinConfig, UperNetConfig
from transformers.models.swin.modeling_swin import SwinBackbone
from transformers.models.upernet.modeling_upernet import UperNetHead

INPUT_PX = 256  # both years are resized to this before the encoder; BTC repository, configuration of OSCD96
POOL_SCALES = (1, 2, 3, 6)  # of the pyramid pooling module; BTC repository, UperNetHead
# Statistics of R, G, B in [0, 1] that the encoder was trained with (torchvision's documentation of models).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
STAGES = ("stage1", "stage2", "stage3", "stage4")


@dataclass(frozen=True)
class Architecture:
    """The sizes that make one BTC variant; BTC-B has ``Architecture(128, (2, 2, 18, 2), (4, 8, 16, 32), 12, 512)``.

    Attributes:
        embed_dim: Channels after the patch embedding.
        depths: Blocks in each of the four stages.
        heads: Attention heads in each of the four stages.
        window: Side of an attention window, tokens.
        hidden: Channels in the decoder.
        mlp_ratio: Width of a block's MLP over its channels.
    """

    embed_dim: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    hidden: int
    mlp_ratio: float = 4.0


class BtcNetwork(nn.Module):
    """One Swin encoder for both years, the features' difference, a UPerNet decoder with one logit per pixel."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        swin = SwinConfig(
            image_size=INPUT_PX,
            patch_size=4,
            embed_dim=architecture.embed_dim,
            depths=list(architecture.depths),
            num_heads=list(architecture.heads),
            window_size=architecture.window,
            mlp_ratio=architecture.mlp_ratio,
            out_features=list(STAGES),
        )
        head = UperNetConfig(hidden_size=architecture.hidden, pool_scales=list(POOL_SCALES), num_labels=1)
        self.backbone = SwinBackbone(swin)
        self.backbone.swin.layernorm = nn.Identity()  # not part of a backbone's output
        self.decode_head = UperNetHead(head, in_channels=self.backbone.channels)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of the four stages.

        Args:
            images: Normalised RGB, shape (image, 3, 256, 256).

        Returns:
            Four maps, shape (image, channels, 64, 64) down to (image, 8 × channels, 8, 8).
        """
        return cast("tuple[Tensor, ...]", self.backbone(images).feature_maps)

    def decode(self, before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> Tensor:
        """Change logits, shape (pair, 1, 256, 256), from the features of both years; their order matters."""
        logits = self.decode_head([early - late for early, late in zip(before, after, strict=True)])
        return functional.interpolate(logits, size=(INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Change logits of normalised RGB images of both years."""
        return self.decode(self.encode(before), self.encode(after))
