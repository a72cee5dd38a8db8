"""One network on one device: batches that fit, and answers that come while the next batch is prepared."""

import ctypes
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from eo_tasks.btc.graphs import Replayed
from eo_tasks.btc.network.dense import pack
from eo_tasks.btc.network.encoder import Features
from eo_tasks.btc.network.fast import TwoStep
from eo_tasks.btc.network.published import INPUT_PX, Architecture
from eo_tasks.btc.resize import enlarged, reduced
from eo_tasks.errors import DeviceError

log = logging.getLogger(__name__)

CPU_BATCH, CUDA_BATCH = 8, 64  # no gain beyond, docs/performance.md
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")

# Bytes that one window needs at the peak, per byte of a number and channel of the map at a quarter of the resolution:
# the tiles of a convolution and its products in the decoder, a block's hidden layer in the encoder. Measured by
# benchmarks/btc.py ("peak memory").
DECODER_MAPS, ENCODER_MAPS = 14, 16
PROCESS_BYTES = 700_000_000  # interpreter, torch and GDAL, before any weights


class Engine:
    """Runs a network in batches; one per process.

    Attributes:
        batch_size: Windows computed at once. Halved, for good, when a batch does not fit the memory.
    """

    def __init__(self, network: TwoStep, device: torch.device, batch_size: int, *, graphs: bool = False) -> None:
        self.network = network.to(device)
        self.device = device
        self.batch_size = batch_size
        self._encode: Callable[..., Features] = Replayed(network.encode) if graphs else network.encode
        self._decode: Callable[..., Tensor] = Replayed(network.decode) if graphs else network.decode
        if device.type == "cpu":
            keep_memory()
            if isinstance(network, nn.Module):
                pack(network)
        else:
            torch.backends.cudnn.allow_tf32 = False  # float32 means float32; torch's own products have it off

    def infer(self, windows: NDArray[np.uint8], pairs: NDArray[np.int64], side: int | None = None) -> Tensor:
        """Probability of change in pairs of windows; every window is encoded once.

        Args:
            windows: RGB levels, shape (window, y, x, 3), square.
            pairs: The earlier and the later window of each pair, shape (pair, 2).
            side: Pixels of an answer; by default a window's own.

        Returns:
            Probabilities on the device, shape (pair, y, x), for ``fetch``; a CUDA device may still be at work on them.

        Raises:
            DeviceError: The CUDA device failed.
        """
        return self._decoded(windows, pairs, lambda logits: answer(logits, side or windows.shape[1]))

    def logits(self, windows: NDArray[np.uint8], pairs: NDArray[np.int64]) -> Tensor:
        """What the probabilities are made from, at a quarter of the network's resolution; shape (pair, 64, 64)."""
        return self._decoded(windows, pairs, lambda logits: logits)

    @torch.inference_mode()
    def _decoded(
        self, windows: NDArray[np.uint8], pairs: NDArray[np.int64], finish: Callable[[Tensor], Tensor]
    ) -> Tensor:
        with self._telling():
            levels = self._to_device(windows)
            encoded = self._in_batches(len(windows), lambda part: self._encode(enlarged(levels[part])))
            features = tuple(torch.cat(maps) if len(encoded) > 1 else maps[0] for maps in zip(*encoded, strict=True))
            order = torch.from_numpy(pairs).to(self.device)

            def decode(part: slice) -> Tensor:
                before, after = (tuple(maps.index_select(0, order[part, year]) for maps in features) for year in (0, 1))
                return finish(self._decode(before, after))

            return torch.cat(self._in_batches(len(pairs), decode))

    def fetch(self, answers: Tensor) -> NDArray[np.float32]:
        """Bring answers to the process's memory when the device is done with them.

        Raises:
            DeviceError: The CUDA device failed; what it was given is computed later, and so told of later.
        """
        with self._telling():
            return np.asarray(answers.cpu().numpy())

    def _in_batches(self, count: int, run: Callable[[slice], Any]) -> list[Any]:
        """Run over all items in batches that fit."""
        results, start = [], 0
        while start < count:
            size = min(self.batch_size, count - start)
            try:
                results.append(run(slice(start, start + size)))
            except (RuntimeError, MemoryError) as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
                self.batch_size = size // 2
                log.warning("batch does not fit the memory", extra={"windows": size, "from now on": self.batch_size})
            else:
                start += size
                continue
            if self.device.type == "cuda":  # outside the handler, which holds the failed batch's tensors
                torch.cuda.empty_cache()
        return results

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell a failing device from a network that fails or does not fit."""
        try:
            yield
        except RuntimeError as error:
            if self.device.type != "cuda" or is_out_of_memory(error):
                raise
            raise DeviceError(f"{self.device}: {error}") from error

    def _to_device(self, windows: NDArray[np.uint8]) -> Tensor:
        levels = torch.from_numpy(windows)
        return levels.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else levels


def answer(logits: Tensor, side: int) -> Tensor:
    """Probabilities on a window's own pixels, from logits at a quarter of the network's resolution."""
    full = functional.interpolate(logits[:, None], size=(INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False)
    return reduced(torch.sigmoid(full[:, 0].float()), side)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on any device."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(part in text for part in OUT_OF_MEMORY)


def fitting_batch(architecture: Architecture, wanted: int, weight_bytes: int, limit_bytes: float) -> int:
    """The largest batch, up to ``wanted``, whose peak stays within a process's memory; at least 1."""
    quarter = (INPUT_PX // 4) ** 2
    window = 4 * quarter * (DECODER_MAPS * architecture.hidden + ENCODER_MAPS * architecture.embed_dim)
    return max(1, min(wanted, int((limit_bytes - PROCESS_BYTES - weight_bytes) // window)))


def keep_memory() -> None:
    """Let freed memory stay with this process: handing it back and asking anew costs a fifth of the time on a CPU.

    Large blocks come from glibc's heap instead of from ``mmap``, and the heap is not trimmed (``man mallopt``). Without
    glibc nothing happens.
    """
    mmap_max, trim_threshold = -4, -1  # malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
