"""Interleaved timing, what the machine is, and the most it could do."""

import gc
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch.utils.flop_counter import FlopCounterMode

from eo_tasks import __version__

MATMUL_SIDE = 4096
MATMUL_FLOPS = 2 * MATMUL_SIDE**3

Run = Callable[[], object]


def interleaved(candidates: Mapping[str, Run], rounds: int, sync: Callable[[], None]) -> dict[str, list[float]]:
    """Seconds of each candidate in every round; one round runs them all in turn, after a warm-up of each."""
    for run in candidates.values():
        run()
    sync()
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, run in candidates.items():
            start = perf_counter()
            run()
            sync()
            seconds[name].append(perf_counter() - start)
    return seconds


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Median over the rounds of how many times faster, so that a machine whose speed drifts does not matter."""
    return median(a / b for a, b in zip(slow, fast, strict=True))


def synchronizer(device: torch.device) -> Callable[[], None]:
    """What waits until the device is done."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def square_product(device: torch.device, dtype: torch.dtype) -> Run:
    """A large square product, whose rate is the ceiling that a share refers to."""
    left, right = torch.randn(2, MATMUL_SIDE, MATMUL_SIDE, device=device).to(dtype)
    return lambda: left @ right


def flops(run: Run) -> float:
    """Floating-point operations of the products and convolutions in one run."""
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def describe_machine(device: torch.device) -> dict[str, object]:
    """What figures are worth nothing without."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        info = Path("/proc/cpuinfo")
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = f"{models[0] if models else platform.processor()}, {torch.get_num_threads()} threads"
    return {
        "device": name,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "eo_tasks": __version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def in_child(module: str, *arguments: str) -> str:
    """The last line that ``python -m module`` prints in a process of its own."""
    done = subprocess.run([sys.executable, "-m", module, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1]


def forget_peak(device: torch.device) -> None:
    """Count the peak from now on: what it took to make a network ready is over."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # man proc_pid_clear_refs: resets VmHWM


def peak_mb(device: torch.device) -> float:
    """The most memory that this process has had on the device, MB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1e3  # getrusage's would be the parent's, if that is larger
