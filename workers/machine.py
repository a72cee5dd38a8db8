"""How the machine is that a worker is on: cores, memory, disk, and graphics cards where it has any."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from eo_tasks.state.workers import Gpu

GB = 1e9


def disk_gb(folder: Path) -> tuple[float, float]:
    """Free and total room where a folder is, or will be."""
    absolute = folder.absolute()
    usage = shutil.disk_usage(next(path for path in (absolute, *absolute.parents) if path.exists()))
    return usage.free / GB, usage.total / GB


def family_memory_gb() -> float:
    """Memory of this process and those that it started; what they share is counted for each."""
    own = psutil.Process(os.getpid())
    used = 0
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):
            used += process.memory_info().rss
    return used / GB


def gpus() -> tuple[Gpu, ...]:
    """The NVIDIA cards of this machine; none where there is no driver, or no library to ask it."""
    with suppress(Exception), _nvml() as nvml:  # a driver that is broken in whatever way must not end a worker
        return tuple(_gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(nvml.nvmlDeviceGetCount()))
    return ()


@contextmanager
def _nvml() -> Iterator[Any]:
    import pynvml  # type: ignore[import-untyped]

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _gpu(nvml: Any, card: Any) -> Gpu:
    memory, name = nvml.nvmlDeviceGetMemoryInfo(card), nvml.nvmlDeviceGetName(card)
    return Gpu(
        name.decode() if isinstance(name, bytes) else str(name),
        nvml.nvmlDeviceGetUtilizationRates(card).gpu / 100,
        memory.used / GB,
        memory.total / GB,
    )
