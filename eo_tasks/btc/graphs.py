"""CUDA graphs: the launches of one batch shape recorded once and replayed, which spares the CPU's part of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UPS = 3  # passes before recording, PyTorch's documentation of CUDA graphs


class Replayed:
    """A function of tensors on a CUDA device, recorded for each shape of its arguments.

    The results are copied out of the recording's memory, so that the next replay does not overwrite them.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._recordings: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[Tensor], Any]] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Replay the recording for these shapes; make it if there is none."""
        given = list(_tensors(arguments))
        shapes = tuple(tensor.shape for tensor in given)
        if shapes not in self._recordings:
            self._recordings[shapes] = self._record(arguments)
        graph, inputs, outputs = self._recordings[shapes]
        for held, tensor in zip(inputs, given, strict=True):
            held.copy_(tensor)
        graph.replay()
        return _mapped(torch.clone, outputs)

    def _record(self, arguments: Any) -> tuple[torch.cuda.CUDAGraph, list[Tensor], Any]:
        held = _mapped(torch.clone, arguments)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._function(*held)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._function(*held)
        return graph, list(_tensors(held)), outputs


def _tensors(tree: Any) -> "list[Tensor]":
    return [tree] if isinstance(tree, Tensor) else [tensor for part in tree for tensor in _tensors(part)]


def _mapped(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    return function(tree) if isinstance(tree, Tensor) else tuple(_mapped(function, part) for part in tree)
