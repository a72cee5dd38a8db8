"""What each fast path of BTC brings: five years of a place, with one of them left out or another one put in.

    python -m benchmarks.btc_switches

Above 1, the time grows without it; below 1, it would be faster so. All in one interleaved run, but for the allocator,
which is set for a whole process: there two processes take turns.
"""

import argparse
from functools import partial
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional

from benchmarks import btc
from benchmarks.measure import Run, in_child, interleaved, ratio, synchronizer
from benchmarks.networks import (
    Mixed,
    Work,
    infer,
    our_engine,
    pairs_alone,
    plain_engine,
    random_network,
    series,
    with_plain_decoder,
    with_plain_encoder,
    without_winograd,
)
from eo_tasks.btc import engine as engines
from eo_tasks.btc.engine import CPU_BATCH, CUDA_BATCH, Engine
from eo_tasks.btc.model import DTYPES, choose_device, choose_precision
from eo_tasks.btc.network.encoder import Features
from eo_tasks.btc.network.fast import FastNetwork
from eo_tasks.btc.network.published import INPUT_PX, BtcNetwork
from eo_tasks.settings import Precision

YEARS = 5
BATCHES = {"cpu": (1, 2, 4, 8, 16), "cuda": (8, 16, 32, 64, 128, 256)}
TURNS = 4


def main() -> None:
    """Run what the command line asks for."""
    parser = btc.parser(__doc__)
    parser.add_argument("--allocator", choices=("kept", "handed back"), help=argparse.SUPPRESS)
    parser.add_argument("--openvino", action="store_true", help="also OpenVINO, where it is installed, on a CPU")
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which takes minutes to compile")
    chosen = parser.parse_args()
    device = choose_device(chosen.device)
    precision = choose_precision(chosen.precision, device)
    batch_size = chosen.batch_size or (CUDA_BATCH if device.type == "cuda" else CPU_BATCH)
    work = series(YEARS, btc.PAIRS_PER_RUN[device.type])
    source = random_network(chosen.architecture)
    if chosen.allocator:
        print(seconds_with_allocator(source, device, batch_size, work, chosen.allocator))
        return
    runs = variants(source, device, precision, batch_size, work)
    if chosen.openvino:
        runs["encoder in OpenVINO"] = partial(infer, with_openvino_encoder(source, batch_size), work)
    if chosen.compile:
        runs |= compiled(source, device, precision, batch_size, work)
    seconds = interleaved(runs, chosen.rounds, synchronizer(device))
    ratios = {name: ratio(seconds[name], seconds["ours"]) for name in runs if name not in ("ours", "plain, eager")}
    ratios["plain, SDPA (against plain, eager)"] = ratio(seconds["plain, SDPA"], seconds["plain, eager"])
    del ratios["plain, SDPA"]
    if device.type == "cpu":
        ratios["freed memory handed back to the system"] = allocator(chosen.architecture, batch_size)
    result = btc.header(chosen.architecture, device, precision, batch_size, chosen.rounds) | {
        "time_against_ours": ratios
    }
    table = Table("left out, or instead", "time against ours", title=f"{result['what']}, {YEARS} years")
    for name, value in ratios.items():
        table.add_row(name, f"{value:.2f} ×")
    Console().print(table)
    btc.write(result, chosen.out or btc.RESULTS / f"btc-switches-{chosen.architecture.lower()}-{device.type}.json")


def variants(
    source: BtcNetwork, device: torch.device, precision: Precision, batch_size: int, work: Work
) -> dict[str, Run]:
    """Ours, and ours with one thing changed."""
    dtype = DTYPES[precision]
    ours = our_engine(source, device, batch_size, dtype)
    mixed = {
        "encoder of transformers": with_plain_encoder(source, dtype),
        "decoder of transformers": with_plain_decoder(source, dtype, torch.contiguous_format),
        "decoder of transformers, channels last": with_plain_decoder(source, dtype, torch.channels_last),
    }
    if precision is Precision.FLOAT32:
        mixed["convolutions split, without Winograd"] = without_winograd(source, dtype)
    runs: dict[str, Run] = {
        "ours": partial(infer, ours, work),
        "each year encoded for each pair": partial(infer, ours, pairs_alone(len(work[1]))),
    }
    runs |= {name: partial(infer, Engine(network, device, batch_size), work) for name, network in mixed.items()}  # type: ignore[arg-type]
    for size in BATCHES[device.type]:
        if size != batch_size:
            runs[f"batches of {size}"] = partial(infer, our_engine(source, device, size, dtype), work)
    under_no_grad = WithoutInferenceMode(ours.network, device, batch_size)
    runs["no_grad instead of inference_mode"] = partial(infer, under_no_grad, work)
    if device.type == "cuda":
        runs["CUDA graphs"] = partial(infer, our_engine(source, device, batch_size, dtype, graphs=True), work)
    for other in (Precision.FLOAT32, Precision.FLOAT16, Precision.BFLOAT16):
        if other is not precision and is_quick(device, other):
            runs[str(other)] = partial(infer, our_engine(source, device, batch_size, DTYPES[other]), work)
    single = pairs_alone(btc.SINGLE[device.type])
    runs["plain, eager"] = partial(infer, plain_engine(source, device, "eager"), single)
    runs["plain, SDPA"] = partial(infer, plain_engine(source, device, "sdpa"), single)
    return runs


def compiled(
    source: BtcNetwork, device: torch.device, precision: Precision, batch_size: int, work: Work
) -> dict[str, Run]:
    """Ours through ``torch.compile``."""
    made = our_engine(source, device, batch_size, DTYPES[precision])
    made._encode = torch.compile(made.network.encode)  # type: ignore[assignment]
    made._decode = torch.compile(made.network.decode)  # type: ignore[assignment]
    return {"torch.compile": partial(infer, made, work)}


def with_openvino_encoder(source: BtcNetwork, batch_size: int) -> Engine:
    """Ours, its encoder converted to OpenVINO, one batch size for all: ``pip install openvino`` first."""
    import openvino

    ours = FastNetwork(source).eval()
    half, levels = nn.Identity(), torch.zeros(batch_size, INPUT_PX, INPUT_PX, 3)
    half.forward = ours.encode  # type: ignore[method-assign]
    with torch.no_grad():
        ours.encode(levels)  # the indices of this batch size are worked out, and so not traced
        converted = openvino.convert_model(half, example_input=(levels,))
    compiled = openvino.Core().compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def encode(levels: torch.Tensor) -> Features:
        count = len(levels)
        whole = functional.pad(levels, (0, 0, 0, 0, 0, 0, 0, batch_size - count)).numpy()
        return tuple(torch.from_numpy(array[:count].copy()) for array in compiled([whole]).values())

    return Engine(Mixed(encode, ours.decode, ours), torch.device("cpu"), batch_size)  # type: ignore[arg-type]


def is_quick(device: torch.device, precision: Precision) -> bool:
    """Whether it is worth a run: without instructions for it a CPU takes minutes."""
    return device.type == "cuda" or (precision is Precision.BFLOAT16 and torch.cpu._is_avx512_bf16_supported())


class WithoutInferenceMode(Engine):
    """Computes in tensors that autograd could still see."""

    _decoded = torch.no_grad()(Engine._decoded.__wrapped__)  # type: ignore[attr-defined]


def allocator(architecture: str, batch_size: int) -> float:
    """What it costs to hand freed memory back to the system."""
    seconds: dict[str, list[float]] = {"kept": [], "handed back": []}
    for _ in range(TURNS):
        for how, measured in seconds.items():
            arguments = ["--architecture", architecture, "--batch-size", str(batch_size), "--device", "cpu"]
            arguments += ["--rounds", "2", "--allocator", how]
            measured.append(float(in_child("benchmarks.btc_switches", *arguments)))
    return ratio(seconds["handed back"], seconds["kept"])


def seconds_with_allocator(source: BtcNetwork, device: torch.device, batch_size: int, work: Work, how: str) -> float:
    """Ours in this process, with glibc's allocator as the worker sets it or as it is."""
    if how == "handed back":
        engines.keep_memory = lambda: None
    ours = our_engine(source, device, batch_size, torch.float32)
    return median(interleaved({"ours": partial(infer, ours, work)}, 3, synchronizer(device))["ours"])


if __name__ == "__main__":
    main()
