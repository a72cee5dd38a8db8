"""BTC inference: ours against the plain implementation, in one interleaved run.

    python -m benchmarks.btc                   # on whatever device is there
    python -m benchmarks.btc --architecture T  # BTC-T

Prints a table and writes ``benchmarks/results/btc-….json``. *Plain* is how the authors run it: one pair at a time, both
years encoded for every pair, float32, attention written out. *Ours* is what the worker runs: windows as bytes in,
probabilities out, each year encoded once. Both have the allocator's settings of the worker.
"""

import argparse
import json
from copy import deepcopy
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.measure import (
    MATMUL_FLOPS,
    Run,
    describe_machine,
    flops,
    forget_peak,
    in_child,
    interleaved,
    peak_mb,
    ratio,
    square_product,
    synchronizer,
)
from benchmarks.networks import (
    ARCHITECTURES,
    Work,
    infer,
    our_engine,
    pairs_alone,
    plain_engine,
    random_network,
    random_windows,
    series,
)
from eo_tasks.btc.engine import CPU_BATCH, CUDA_BATCH, Engine
from eo_tasks.btc.model import DTYPES, choose_device, choose_precision
from eo_tasks.btc.network.fast import FastNetwork, PlainNetwork
from eo_tasks.btc.network.published import INPUT_PX, BtcNetwork
from eo_tasks.btc.resize import enlarged
from eo_tasks.settings import Device, Precision

RESULTS = Path(__file__).parent / "results"
YEARS = (2, 3, 5, 8)
PAIRS_PER_RUN = {"cpu": 8, "cuda": 512}  # so that a run is long enough to time
SINGLE = {"cpu": 1, "cuda": 32}  # pairs of one run of the plain implementation


def main() -> None:
    """Run what the command line asks for."""
    chosen = parser(__doc__).parse_args()
    device = choose_device(chosen.device)
    precision = choose_precision(chosen.precision, device)
    batch_size = chosen.batch_size or (CUDA_BATCH if device.type == "cuda" else CPU_BATCH)
    if chosen.peak:
        print(peak(chosen.architecture, device, precision, batch_size, chosen.peak))
        return
    result = header(chosen.architecture, device, precision, batch_size, chosen.rounds)
    result |= compare(chosen.architecture, device, precision, batch_size, chosen.rounds)
    same = ["--architecture", chosen.architecture, "--device", device.type, "--precision", str(precision)]
    same += ["--batch-size", str(batch_size)]
    result["peak_mb"] = {
        which: float(in_child("benchmarks.btc", *same, "--peak", which)) for which in ("plain", "ours")
    }
    show(result)
    write(result, chosen.out or RESULTS / f"btc-{chosen.architecture.lower()}-{device.type}.json")


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that both BTC benchmarks share."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--architecture", choices=ARCHITECTURES, default="B")
    made.add_argument("--rounds", type=int, default=7)
    made.add_argument("--device", choices=list(Device), type=Device, default=Device.AUTO)
    made.add_argument("--precision", choices=list(Precision), type=Precision, default=Precision.AUTO)
    made.add_argument("--batch-size", type=int)
    made.add_argument("--out", type=Path, help="JSON file; default: under benchmarks/results")
    made.add_argument("--peak", choices=("plain", "ours"), help=argparse.SUPPRESS)  # for a process of its own
    return made


def header(
    architecture: str, device: torch.device, precision: Precision, batch_size: int, rounds: int
) -> dict[str, Any]:
    """What was measured, where and when."""
    return {
        "what": f"BTC-{architecture}, windows of 96 px",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine(device),
        "precision": str(precision),
        "batch_size": batch_size,
        "rounds": rounds,
    }


def compare(
    architecture: str, device: torch.device, precision: Precision, batch_size: int, rounds: int
) -> dict[str, Any]:
    """Plain against ours for series of years; all in one interleaved run."""
    source = random_network(architecture)
    plain, ours = plain_engine(source, device), our_engine(source, device, batch_size, DTYPES[precision])
    work = {"plain": pairs_alone(SINGLE[device.type])}
    work |= {f"{years} years": series(years, PAIRS_PER_RUN[device.type]) for years in YEARS}
    runs: dict[str, Run] = {
        name: partial(infer, plain if name == "plain" else ours, given) for name, given in work.items()
    }
    with torch.inference_mode():
        halves = halves_of("plain", plain) | halves_of("our", ours)
        ceilings = {
            "plain": square_product(device, torch.float32),
            "ours": square_product(device, DTYPES[precision]),
        }
        seconds = interleaved(runs | halves | ceilings_named(ceilings), rounds, synchronizer(device))
    rate = {name: MATMUL_FLOPS / median(seconds[f"matmul {name}"]) for name in ceilings}
    per_pair = {name: [second / len(work[name][1]) for second in seconds[name]] for name in runs}
    rows = {
        name: {
            "pairs_per_s": 1 / median(per_pair[name]),
            "ms_per_pair": 1e3 * median(per_pair[name]),
            "times_faster": ratio(per_pair["plain"], per_pair[name]),
            "gflop_per_pair": gflop_per_pair(source, name, work[name]),
        }
        for name in runs
    }
    for name, row in rows.items():
        ceiling = rate["plain" if name == "plain" else "ours"]
        row["share_of_matmul"] = row["gflop_per_pair"] * 1e9 * row["pairs_per_s"] / ceiling
    return {
        "rows": rows,
        "ms_per_window": {
            name: 1e3 * median(seconds[name]) / (1 if name.startswith("plain") else batch_size) for name in halves
        },
        "matmul_gflop_per_s": {name: value / 1e9 for name, value in rate.items()},
    }


def gflop_per_pair(source: BtcNetwork, name: str, work: Work) -> float:
    """Billions of operations in products and convolutions, counted on networks whose layers are not packed."""
    source = deepcopy(source).cpu()  # an engine has taken parts of it to its device
    network = PlainNetwork(source) if name == "plain" else FastNetwork(source)
    levels = torch.zeros(1, INPUT_PX, INPUT_PX, 3)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):  # which the counter sees
        features = network.encode(levels)
        encoding, decoding = (
            flops(run) for run in (partial(network.encode, levels), partial(network.decode, features, features))
        )
    windows, pairs = work
    return (encoding * len(windows) + decoding * len(pairs)) / len(pairs) / 1e9


def halves_of(name: str, engine: Engine) -> dict[str, Run]:
    """The encoder and the decoder of an engine on one batch."""
    levels = enlarged(torch.from_numpy(random_windows(engine.batch_size)).to(engine.device))
    features = engine.network.encode(levels)
    later = tuple(maps.flip(0) * 1.1 for maps in features)
    return {
        f"{name} encoder": partial(engine.network.encode, levels),
        f"{name} decoder": partial(engine.network.decode, features, later),
    }


def ceilings_named(ceilings: dict[str, Run]) -> dict[str, Run]:
    """The square products under names of their own."""
    return {f"matmul {name}": run for name, run in ceilings.items()}


def peak(architecture: str, device: torch.device, precision: Precision, batch_size: int, which: str) -> float:
    """The most memory that this process takes while one of the two infers, MB."""
    source = random_network(architecture)
    if which == "plain":
        engine, work = plain_engine(source, device), pairs_alone(1)
    else:
        engine, work = our_engine(source, device, batch_size, DTYPES[precision]), series(5, 2 * batch_size)
    del source
    forget_peak(device)
    infer(engine, work)
    synchronizer(device)()
    return peak_mb(device)


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console()
    title = f"{result['what']}, {result['precision']}, batch {result['batch_size']}, {result['machine']['device']}"
    table = Table("", "pairs/s", "ms per pair", "times faster", "GFLOP per pair", "of matmul rate", title=title)
    for name, row in result["rows"].items():
        table.add_row(
            name,
            f"{row['pairs_per_s']:.3g}",
            f"{row['ms_per_pair']:.4g}",
            f"{row['times_faster']:.2f}",
            f"{row['gflop_per_pair']:.1f}",
            f"{row['share_of_matmul']:.0%}",
        )
    console.print(table)
    for key in ("ms_per_window", "peak_mb", "matmul_gflop_per_s"):
        console.print(key, {name: round(value, 1) for name, value in result[key].items()})


def write(result: dict[str, Any], path: Path) -> None:
    """Keep the figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
