"""A checkpoint made ready to infer: its network, fast, on a device, in batches that fit.

model = open_model("blaz-r/BTC-B_oscd96")
probability = compare(model, before, after)  # two RGB images, shape (y, x, 3), 8 bits
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from eo_tasks.btc.checkpoint import Checkpoint, load_checkpoint
from eo_tasks.btc.detect import Tiling, detect
from eo_tasks.btc.engine import CPU_BATCH, CUDA_BATCH, Engine, fitting_batch
from eo_tasks.btc.network.fast import FastNetwork, PlainNetwork
from eo_tasks.btc.pictures import ArrayPicture
from eo_tasks.btc.series import Failure, Series
from eo_tasks.errors import RasterError, SettingsError
from eo_tasks.raster import Rgb
from eo_tasks.settings import Device, Precision, Settings

log = logging.getLogger(__name__)

BYTES_PER_GB = 1_000_000_000
DTYPES = {
    Precision.FLOAT32: torch.float32,
    Precision.FLOAT16: torch.float16,
    Precision.BFLOAT16: torch.bfloat16,
}


@dataclass(frozen=True, eq=False)
class Model:
    """A network that is ready, and what tells its answers from another's.

    Attributes:
        name: Hub id or folder of the checkpoint.
        revision: Commit on the hub, or ``local``.
        weights_sha256: Fingerprint of the weights' file.
        precision: What it is computed in.
    """

    engine: Engine
    name: str
    revision: str
    weights_sha256: str
    precision: Precision

    @property
    def facts(self) -> dict[str, str]:
        """What a record says of it."""
        return {
            "checkpoint": self.name,
            "revision": self.revision,
            "weights_sha256": self.weights_sha256,
            "precision": str(self.precision),
        }


def open_model(
    name: str,
    revision: str = "main",
    *,
    device: Device = Device.AUTO,
    precision: Precision = Precision.AUTO,
    batch_size: int | None = None,
    memory_limit_gb: float | None = None,
    is_plain: bool = False,
) -> Model:
    """Load a checkpoint and make it ready.

    Args:
        name: A local folder with ``model.safetensors``, or a repository id on the Hugging Face hub.
        revision: Branch, tag or commit on the hub.
        device: Where to compute.
        precision: What to compute in; by default float16 on CUDA, as the network was trained, and float32 on a CPU.
        batch_size: Windows computed at once; by default what the device gains from.
        memory_limit_gb: Memory of this process; on a CPU the batch is kept small enough for it.
        is_plain: Compute it as published instead of fast, in float32.

    Raises:
        CheckpointError: There is no such checkpoint, or its file is truncated or of another network.
        SettingsError: The device is not there, or the memory does not hold the network.
    """
    chosen = choose_device(device)
    checkpoint = load_checkpoint(name, revision)
    made_in = Precision.FLOAT32 if is_plain else choose_precision(precision, chosen)
    return make_model(checkpoint, chosen, made_in, batch_size, memory_limit_gb, is_plain=is_plain)


def configured_model(settings: Settings, *, is_plain: bool = False) -> Model:
    """The network that the settings name; ``open_model`` says what can be wrong with it."""
    return open_model(
        settings.btc_model_checkpoint,
        settings.btc_model_revision,
        device=settings.btc_device,
        precision=settings.btc_precision,
        batch_size=settings.btc_batch_size,
        memory_limit_gb=settings.memory_limit_gb,
        is_plain=is_plain,
    )


def make_model(
    checkpoint: Checkpoint,
    device: torch.device,
    precision: Precision,
    batch_size: int | None = None,
    memory_limit_gb: float | None = None,
    *,
    is_plain: bool = False,
) -> Model:
    """Make a loaded checkpoint ready; ``open_model`` says what the arguments are.

    Raises:
        SettingsError: The memory does not hold the network.
    """
    if device.type == "cpu" and precision is not Precision.FLOAT32:
        log.warning("%s is many times slower than float32 on most CPUs", precision)
    source = checkpoint.network
    network = PlainNetwork(source) if is_plain else FastNetwork(source, DTYPES[precision])
    wanted = batch_size or (CUDA_BATCH if device.type == "cuda" else CPU_BATCH)
    if device.type == "cpu" and memory_limit_gb is not None:
        weights = weight_bytes(network)
        wanted = fitting_batch(source.architecture, wanted, weights, memory_limit_gb * BYTES_PER_GB)
        if weights > memory_limit_gb * BYTES_PER_GB:
            raise SettingsError(
                f"MEMORY_LIMIT_GB={memory_limit_gb:g}: {checkpoint.name} alone takes {weights / BYTES_PER_GB:.1f} GB."
            )
    engine = Engine(network.eval().requires_grad_(False), device, wanted)
    return Model(engine, checkpoint.name, checkpoint.revision, checkpoint.weights_sha256, precision)


def compare(model: Model, before: Rgb, after: Rgb, tiling: Tiling | None = None) -> NDArray[np.float32]:
    """Probability of change between two RGB images of one size.

    Args:
        model: What to compute with.
        before: The earlier year, 8-bit, shape (y, x, 3).
        after: The later year, of the same shape.
        tiling: How windows lie over the images.

    Returns:
        Probabilities, shape (y, x).
    """
    (found,) = compare_all(model, [(before, after)], tiling)
    return found


def compare_all(
    model: Model, pairs: Iterable[tuple[Rgb, Rgb]], tiling: Tiling | None = None
) -> Iterator[NDArray[np.float32]]:
    """The same for many pairs of images, whose windows share batches; pairs are taken when there is room for them.

    Raises:
        RasterError: Two images of a pair differ in size.
    """
    numbered = (_as_series(*pair) for pair in pairs)
    strips: list[NDArray[np.float32]] = []
    for part in detect(model.engine, numbered, tiling or Tiling()):
        if isinstance(part, Failure):
            raise part.error
        strips.append(part.probability)
        if part.is_last:
            yield np.concatenate(strips)
            strips.clear()


def choose_device(device: Device) -> torch.device:
    """The device to run on; CUDA where it is there and not ruled out.

    Raises:
        SettingsError: CUDA is asked for and not there.
    """
    has_cuda = device is not Device.CPU and torch.cuda.is_available()
    if device is Device.CUDA and not has_cuda:
        raise SettingsError("BTC_DEVICE=cuda: torch sees no CUDA device here. Check the driver, or take auto or cpu.")
    return torch.device("cuda" if has_cuda else "cpu")


def choose_precision(precision: Precision, device: torch.device) -> Precision:
    """What to compute in, where it is left open."""
    if precision is not Precision.AUTO:
        return precision
    return Precision.FLOAT16 if device.type == "cuda" else Precision.FLOAT32


def weight_bytes(network: torch.nn.Module) -> int:
    """Memory of a network's weights."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*network.parameters(), *network.buffers()))


def _as_series(before: Rgb, after: Rgb) -> Series:
    if before.shape != after.shape:
        raise RasterError(f"the two images differ in size: {before.shape[:2]} and {after.shape[:2]} pixels.")
    return Series(None, {0: ArrayPicture(before), 1: ArrayPicture(after)}, ((0, 1),))
