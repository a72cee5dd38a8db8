"""3 × 3 convolutions with fewer multiplications, on maps laid out (image, y, x, channel).

``Winograd`` computes tiles of 4 × 4 outputs from 36 products where the definition takes 144 (Lavin and Gray, "Fast
Algorithms for Convolutional Neural Networks", 2016, F(4 × 4, 3 × 3)). ``Upsampled`` convolves a map that was enlarged
bilinearly without enlarging it first: both are linear, so that nine products at low resolution are enlarged instead.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from eo_tasks.btc.network.dense import Dense

TILE, TAPS = 4, 3
PATCH = TILE + TAPS - 1  # inputs of a tile along an axis
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)  # and infinity; an error in float32 within twice that of the direct sum


class Direct(nn.Module):
    """The convolution as defined, by the device's own library."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight.contiguous(memory_format=torch.channels_last))

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve, with zeros around; shapes (image, y, x, channel)."""
        return functional.conv2d(maps.permute(0, 3, 1, 2), self.weight, padding=1).permute(0, 2, 3, 1)


class Winograd(nn.Module):
    """The same for maps whose sides are multiples of 4; sums differ in the last digits of float32."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        outputs, inputs = weight.shape[:2]
        tile, kernel, patch = winograd_matrices()
        transformed = torch.einsum("iy,jx,ocyx->ijco", kernel, kernel, weight.double())
        self.weight = nn.Buffer(transformed.reshape(PATCH**2, inputs, outputs).to(weight.dtype))
        self.patch = nn.Buffer(torch.kron(patch, patch).to(weight.dtype))
        self.tile = nn.Buffer(torch.kron(tile, tile).to(weight.dtype))

    def forward(self, maps: Tensor) -> Tensor:
        """Convolve, with zeros around; shapes (image, y, x, channel)."""
        images, height, width, channels = maps.shape
        rows, columns = height // TILE, width // TILE
        around = functional.pad(maps, (0, 0, 1, 1, 1, 1))
        patches = around.unfold(1, PATCH, TILE).unfold(2, PATCH, TILE).permute(0, 1, 2, 4, 5, 3)
        spectrum = self.patch @ patches.reshape(-1, PATCH**2, channels)
        products = torch.bmm(spectrum.transpose(0, 1), self.weight)
        outputs = products.shape[-1]
        tiles = (self.tile @ products.view(PATCH**2, -1)).view(TILE, TILE, images, rows, columns, outputs)
        return tiles.permute(2, 3, 0, 4, 1, 5).reshape(images, height, width, outputs)


class Upsampled(nn.Module):
    """The convolution of a map that is first enlarged bilinearly from ``side`` to ``target`` pixels."""

    def __init__(self, weight: Tensor, side: int, target: int) -> None:
        super().__init__()
        outputs, inputs = weight.shape[:2]
        self.side, self.target = side, target
        self.outputs = outputs
        # For each row of the kernel: (x tap × output, input).
        self.taps = nn.ModuleList(Dense(row) for row in weight.permute(2, 3, 0, 1).reshape(TAPS, -1, inputs))
        enlarge = shifted_enlargements(side, target)
        self.across = nn.Buffer(enlarge.permute(1, 2, 0).reshape(target, side * TAPS).to(weight.dtype))
        self.down = nn.Buffer(enlarge.permute(1, 0, 2).reshape(target, TAPS * side).to(weight.dtype))

    def forward(self, maps: Tensor) -> Tensor:
        """Enlarge and convolve, with zeros around the enlarged map; shapes (image, y, x, channel)."""
        images = len(maps)
        flat = maps.reshape(-1, maps.shape[-1])
        across = maps.new_empty(TAPS, images * self.side, self.target, self.outputs)
        for tap, row in zip(self.taps, across, strict=True):
            products = tap(flat).view(images * self.side, self.side * TAPS, self.outputs)
            torch.matmul(self.across, products, out=row)
        rows = across.view(TAPS, images, self.side, -1).transpose(0, 1).reshape(images, TAPS * self.side, -1)
        return (self.down @ rows).view(images, self.target, self.target, self.outputs)


@lru_cache(maxsize=1)
def winograd_matrices() -> tuple[Tensor, Tensor, Tensor]:
    """The matrices A (tile × patch), G (patch × taps) and B (patch × patch) of F(4, 3) on ``POINTS``, in float64.

    From polynomial interpolation (Toom and Cook): a tile is A ((G kernel) × (B patch)).
    """
    powers = torch.tensor([[point**power for power in range(PATCH)] for point in POINTS], dtype=torch.float64)
    infinity = torch.zeros(1, PATCH, dtype=torch.float64)
    scale = torch.tensor(
        [1 / _product(point - other for other in POINTS if other != point) for point in POINTS], dtype=torch.float64
    )
    tile = torch.cat([powers[:, :TILE], infinity[:, :TILE]]).T.clone()
    tile[-1, -1] = 1
    kernel = torch.cat([powers[:, :TAPS] * scale[:, None], infinity[:, :TAPS]])
    kernel[-1, -1] = 1
    # B^T's rows are the polynomials prod (x - other), for infinity prod over all points; lowest power first.
    rows = [_polynomial([other for other in POINTS if other != point]) for point in POINTS] + [_polynomial(POINTS)]
    patch = torch.tensor([row + [0.0] * (PATCH - len(row)) for row in rows], dtype=torch.float64)
    return tile, kernel, patch


def shifted_enlargements(side: int, target: int) -> Tensor:
    """For each tap, the matrix that enlarges bilinearly and shifts by the tap, zeros from outside; (tap, target, side).

    Torch's own ``interpolate`` makes them, so that they agree with it.
    """
    identity = torch.eye(side, dtype=torch.float64)[None]  # each channel one unit vector
    enlarge = functional.interpolate(identity, target, mode="linear", align_corners=False)[0].T
    around = functional.pad(enlarge, (0, 0, 1, 1))
    return torch.stack([around[tap : tap + target] for tap in range(TAPS)])


def _product(factors: Iterable[float]) -> float:
    result = 1.0
    for factor in factors:
        result *= factor
    return result


def _polynomial(roots: Sequence[float]) -> list[float]:
    """Coefficients of prod (x − root), lowest power first."""
    coefficients = [1.0]
    for root in roots:
        raised = [0.0, *coefficients]
        coefficients = [high - root * low for high, low in zip(raised, [*coefficients, 0.0], strict=True)]
    return coefficients
