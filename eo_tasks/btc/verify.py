"""Holds the fast network against the plain one, with the weights of any checkpoint.

Loading has used every tensor of the file or failed, so what is left to check is the arithmetic.
"""

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from eo_tasks.btc.checkpoint import DERIVED, Checkpoint
from eo_tasks.btc.engine import answer, is_out_of_memory
from eo_tasks.btc.model import make_model
from eo_tasks.btc.network.published import Architecture
from eo_tasks.settings import THRESHOLD, Precision

LIMIT = 1e-4  # logits
RELATIVE_LIMIT = 1e-5  # of the largest logit, where that is the more: float32 has seven digits
WINDOW_PX = 96
SEED = 2025
LOWER = (Precision.FLOAT16, Precision.BFLOAT16)
LONGEST_S = 60.0  # for one lower precision: a CPU without instructions for it takes a hundred times float32's time


@dataclass(frozen=True)
class Flips:
    """How a precision's masks differ from those of the plain network in float32.

    Attributes:
        share: Of the pixels; NaN where nothing could be computed.
        windows: How many were computed.
        note: Why not all of them.
    """

    share: float
    windows: int
    note: str = ""


@dataclass(frozen=True)
class Agreement:
    """How far the fast network is from the plain one.

    Attributes:
        used: Tensors of the file that the network uses.
        derived: Tensors of the file that are worked out anew instead.
        windows: Windows compared, each in two years.
        largest_logit: Of the plain network, by absolute value.
        largest_difference: Between the logits of both in float32, by absolute value.
        flips: For each precision computed.
    """

    architecture: Architecture
    used: int
    derived: int
    windows: int
    largest_logit: float
    largest_difference: float
    flips: Mapping[Precision, Flips]

    @property
    def limit(self) -> float:
        """The largest difference that rounding explains."""
        return max(LIMIT, RELATIVE_LIMIT * self.largest_logit)

    @property
    def is_close(self) -> bool:
        """Whether the fast network is the plain one but for rounding."""
        return self.largest_difference <= self.limit


def verify(
    checkpoint: Checkpoint,
    device: torch.device,
    *,
    windows: int = 16,
    threshold: float = THRESHOLD,
    lower: Sequence[Precision] = LOWER,
) -> Agreement:
    """Run both networks on made-up windows.

    Args:
        checkpoint: Whose weights are taken.
        device: Where everything is computed; convolutions in full float32, also where CUDA would round its inputs.
        windows: How many, each in two years.
        threshold: A pixel above it counts as changed.
        lower: Precisions to compute besides float32.
    """
    images = year_windows(windows)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        plain = _logits(checkpoint, device, Precision.FLOAT32, images, is_plain=True)
        fast = _logits(checkpoint, device, Precision.FLOAT32, images)
        flips = {Precision.FLOAT32: _flips(plain, fast, threshold)}
        for precision in lower:
            try:
                found = _logits(checkpoint, device, precision, images, longest_s=LONGEST_S)
                flips[precision] = _flips(plain, found, threshold)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
                flips[precision] = Flips(float("nan"), 0, f"this device cannot ({reason})")
    return Agreement(
        checkpoint.network.architecture,
        used=sum(DERIVED not in name for name in checkpoint.tensors),
        derived=sum(DERIVED in name for name in checkpoint.tensors),
        windows=windows,
        largest_logit=float(plain.abs().max()),
        largest_difference=float((fast - plain).abs().max()),
        flips=flips,
    )


def year_windows(count: int) -> NDArray[np.uint8]:
    """Made-up windows, the same every time; shape (window, year, y, x, 3).

    They are smooth landscapes in turn with what else may come: noise, a patch that is new in the later year, two years
    that have nothing in common, nothing at all in the later year.
    """
    rng = np.random.default_rng(SEED)
    made = []
    for number in range(count):
        before, other = _landscape(rng), _landscape(rng)
        if number % 4 == 0:  # the same place, a little brighter, with something new
            after = np.clip(before * 1.1, 0, 255)
            row, column = rng.integers(0, WINDOW_PX // 2, 2)
            place = np.s_[row : row + WINDOW_PX // 3, column : column + WINDOW_PX // 3]
            after[place] = other[place]
        elif number % 4 == 1:
            after = other
        elif number % 4 == 2:
            before, after = rng.uniform(0, 255, (2, *before.shape))
        else:
            after = np.zeros_like(before)
        made.append([before, after])
    return np.asarray(np.rint(np.array(made)), np.uint8)


def _landscape(rng: np.random.Generator) -> NDArray[np.float64]:
    """A random image that is smooth over up to half a window; shape (y, x, 3), 0 to 255."""
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, *rng.integers(2, 24, 2))))
    smooth = functional.interpolate(coarse, (WINDOW_PX, WINDOW_PX), mode="bilinear", align_corners=False)
    return np.asarray(smooth[0].permute(1, 2, 0).numpy())


def _logits(
    checkpoint: Checkpoint,
    device: torch.device,
    precision: Precision,
    images: NDArray[np.uint8],
    *,
    is_plain: bool = False,
    longest_s: float = float("inf"),
) -> Tensor:
    """Logits of as many windows as the time allows, at least one batch; shape (window, 64, 64)."""
    own = replace(checkpoint, network=deepcopy(checkpoint.network))  # it moves to the device, and weights are shared
    engine = make_model(own, device, precision, is_plain=is_plain).engine
    size = max(1, engine.batch_size // 2) if device.type == "cuda" else 1
    found: list[Tensor] = []
    end = time.monotonic() + longest_s
    for start in range(0, len(images), size):
        part = images[start : start + size]
        pairs = np.arange(2 * len(part)).reshape(-1, 2)
        found.append(engine.logits(part.reshape(-1, *part.shape[2:]), pairs).float().cpu())
        if time.monotonic() > end:
            break
    return torch.cat(found)


def _flips(expected: Tensor, found: Tensor, threshold: float) -> Flips:
    """Compare the masks of as many windows as were computed; a pixel without a number is a flip."""
    mask, other = (answer(logits, WINDOW_PX) for logits in (expected[: len(found)], found))
    flipped = ((mask > threshold) != (other > threshold)) | other.isnan()
    note = "" if len(found) == len(expected) else f"slow here: {len(found)} of {len(expected)} windows"
    return Flips(float(flipped.float().mean()), len(found), note)
