"""From two composites to a change map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eo_tasks.btc.checkpoint import Checkpoint
from eo_tasks.btc.network import INPUT_PX
from eo_tasks.btc.windows import Blend, batches, padded, window_origins
from eo_tasks.change import ChangeMap
from eo_tasks.errors import RasterError, SettingsError
from eo_tasks.raster import Composite, to_rgb
from eo_tasks.settings import Device

# ImageNet statistics of R, G, B in [0, 1], as the encoder was trained with (torchvision's documentation of models).
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


@dataclass(frozen=True)
class Inference:
    """How composites are shown to the network.

    Attributes:
        stretch: Reflectance range of each of red, green, blue shown as 0–255; the same for all years and cells.
        threshold: Probability above which a pixel counts as changed.
        window_px: Side of a window, pixels of the composite.
        stride_px: Distance of windows.
        batch_size: Windows inferred at once.
    """

    stretch: Mapping[str, tuple[float, float]]
    threshold: float = 0.2
    window_px: int = 96
    stride_px: int = 64
    batch_size: int = 8


def choose_device(device: Device) -> torch.device:
    """The device to run on; CUDA where it is there and not ruled out.

    Raises:
        SettingsError: CUDA is asked for and not there.
    """
    has_cuda = torch.cuda.is_available()
    if device is Device.CUDA and not has_cuda:
        raise SettingsError("BTC_DEVICE=cuda: torch sees no CUDA device here. Check the driver, or take auto or cpu.")
    return torch.device("cpu" if device is Device.CPU or not has_cuda else "cuda")


def detect_change(checkpoint: Checkpoint, before: Composite, after: Composite, how: Inference) -> ChangeMap:
    """Run BTC on a cell's two years.

    Raises:
        RasterError: The two lie on different pixel grids.
    """
    if before.pixels != after.pixels:
        raise RasterError(f"the two years lie on different pixel grids: {before.pixels}; {after.pixels}.")
    seen = before.valid & after.valid
    images = [np.where(seen[..., None], to_rgb(year, how.stretch), np.uint8(0)) for year in (before, after)]
    probability = predict(checkpoint, images[0], images[1], how)
    return ChangeMap(before.pixels, np.where(seen, probability, np.float32(np.nan)), how.threshold)


def predict(
    checkpoint: Checkpoint, before: NDArray[np.uint8], after: NDArray[np.uint8], how: Inference
) -> NDArray[np.float32]:
    """Probability of change from two RGB images of one size.

    Args:
        before: The earlier year, shape (y, x, 3).
        after: The later year, of the same shape.

    Returns:
        Probabilities, shape (y, x).
    """
    shape = before.shape[:2]
    earlier, later = padded(before, how.window_px), padded(after, how.window_px)
    blend = Blend(shape, how.window_px)
    for origins in batches(window_origins(shape, how.window_px, how.stride_px), how.batch_size):
        pair = [[image[r : r + how.window_px, c : c + how.window_px] for r, c in origins] for image in (earlier, later)]
        for origin, window in zip(origins, predict_windows(checkpoint, *pair), strict=True):
            blend.add(origin, cv2.resize(window, (how.window_px, how.window_px), interpolation=cv2.INTER_AREA))
    return blend.result()


@torch.inference_mode()
def predict_windows(
    checkpoint: Checkpoint, before: Sequence[NDArray[np.uint8]], after: Sequence[NDArray[np.uint8]]
) -> NDArray[np.float32]:
    """Probability of change in RGB windows, shape (window, 256, 256)."""
    device = next(checkpoint.network.parameters()).device
    logits = checkpoint.network(to_input(before).to(device), to_input(after).to(device))
    return np.asarray(torch.sigmoid(logits)[:, 0].float().cpu().numpy())


def to_input(windows: Sequence[NDArray[np.uint8]]) -> Tensor:
    """RGB windows (y, x, 3) resized and normalised as in training, shape (window, 3, 256, 256)."""
    resized = [cv2.resize(window, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_LINEAR) for window in windows]
    normalised = (np.stack(resized).astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    return torch.from_numpy(np.ascontiguousarray(normalised.transpose(0, 3, 1, 2)))
