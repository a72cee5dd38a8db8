"""A linear layer with what follows it, in the form that the device's library computes fastest."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Activation = Literal["none", "gelu", "relu"]
ROWS = 4096  # for which oneDNN chooses the layout of packed weights; any number works


class Dense(nn.Module):
    """``activation(x @ weight.T + bias)`` on the last axis, with constant weights.

    Args:
        weight: Shape (output, input).
        bias: Shape (output,), if there is one.
        activation: Applied to the result.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None, activation: Activation = "none") -> None:
        super().__init__()
        self.weight = nn.Buffer(weight.detach().contiguous())
        self.bias = None if bias is None else nn.Buffer(bias.detach())
        self.activation = activation
        self._packed: Tensor | None = None

    @property
    def is_packed(self) -> bool:
        """Whether ``pack`` was called."""
        return self._packed is not None

    def pack(self) -> None:
        """Lay the weights out for oneDNN, once, and give up their plain form: for float32 on a CPU.

        oneDNN then computes the activation along with the product (docs/performance.md has what it brings).
        """
        self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, ROWS)
        self.weight = nn.Buffer(self.weight.new_empty(0))

    def forward(self, rows: Tensor) -> Tensor:
        """Map the last axis."""
        if self._packed is not None:
            how = self.activation
            packed: Tensor = torch.ops.mkldnn._linear_pointwise(
                rows, self._packed, self.bias, how, [], "none" if how == "gelu" else ""
            )
            return packed
        result = functional.linear(rows, self.weight, self.bias)
        if self.activation == "gelu":
            return functional.gelu(result)
        return result.relu_() if self.activation == "relu" else result


def pack(module: nn.Module) -> None:
    """Pack every dense layer below ``module``, where this build of torch can."""
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):  # type: ignore[no-untyped-call]
        for layer in module.modules():
            if isinstance(layer, Dense) and not layer.is_packed and layer.weight.dtype is torch.float32:
                layer.pack()
