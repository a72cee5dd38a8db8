"""What an area and a number of years take, reckoned from the kept figures; nothing is measured here.

python -m benchmarks.scaling                         # the table of docs/scaling.md
python -m benchmarks.scaling --cells 947 --years 8   # yours
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eo_tasks.btc.windows import window_starts

RESULTS = Path(__file__).parent / "results"
CELL_PX, WINDOW_PX, STRIDE_PX = 501, 96, 64
CELLS_A_REQUEST = 947 / 76  # of 5 km, in blocks of 20 km: docs/openeo.md
CREDITS_A_REQUEST = 6.5  # a synchronous one, flat, as the Copernicus Data Space Ecosystem states it: six or seven
CREDITS_A_MONTH = 10_000  # of a free account there
FEW, MANY_YEARS = "3 years", "8 years"  # rows of the figures of BTC
AREAS = (  # name, cells of 5 km, years
    ("a laptop, a district", 100, 3),
    ("Slovenia", 947, 8),
    ("a large country", 25_000, 8),
    ("a continent", 400_000, 8),
)


@dataclass(frozen=True)
class Needs:
    """Of one area."""

    grid_years: int
    pairs: int
    requests: float
    credits: float
    files_gb: float
    database_gb: float
    cpu_hours: float
    gpu_hours: float
    redis_mb: float
    grid_mb: float
    object_requests: float


def needs(cells: int, years: int) -> Needs:
    """What so many cells of 5 km and years take."""
    grid_years, pairs = cells * years, cells * (years - 1)
    kb, objects = _kept("sizes")["kb"], _kept("objects")["requests"]
    fitted = _kept("orchestration")["million"]["growth"]
    row = MANY_YEARS if years >= 8 else FEW
    windows = pairs * len(window_starts(CELL_PX, WINDOW_PX, STRIDE_PX)) ** 2
    requests = grid_years / CELLS_A_REQUEST
    return Needs(
        grid_years,
        pairs,
        requests,
        requests * CREDITS_A_REQUEST,
        (grid_years * kb["composite, files"] + pairs * kb["mask, files"]) / 1e6,
        (grid_years * kb["composite, database"] + pairs * kb["mask, database"]) / 1e6,
        windows / _kept("btc-b-cpu")["rows"][row]["pairs_per_s"] / 3600,
        windows / _kept("btc-b-cuda")["rows"][row]["pairs_per_s"] / 3600,
        (2 * grid_years + pairs) * fitted["ledger_bytes_per_unit"] / 1e6,
        cells * 2e3 / 1e6,  # about 2 kB a cell in every process that reads the grid: docs/performance.md
        grid_years * (objects["download, a unit"]["all"] + objects["store, a unit"]["all"])
        + pairs * objects["BTC, a pair"]["all"],
    )


def table() -> list[str]:
    """The rows of docs/scaling.md."""
    found = [needs(cells, years) for _, cells, years in AREAS]
    heads = [f"{name}: {cells:,} cells, {years} years" for name, cells, years in AREAS]
    rows = [
        ("composites", [f"{one.grid_years:,}" for one in found]),
        ("masks", [f"{one.pairs:,}" for one in found]),
        ("openEO requests", [_told(one.requests) for one in found]),
        ("credits, synchronous", [_told(one.credits) for one in found]),
        ("months of one free account", [_told(one.credits / CREDITS_A_MONTH) for one in found]),
        ("files", [_size(one.files_gb) for one in found]),
        ("database, where it keeps pixels", [_size(one.database_gb) for one in found]),
        ("BTC-B on two CPU cores", [_hours(one.cpu_hours) for one in found]),
        ("BTC-B on an H200", [_hours(one.gpu_hours) for one in found]),
        ("Redis, ledger", [f"{_told(one.redis_mb)} MB" for one in found]),
        ("memory of the grid, each process", [f"{_told(one.grid_mb)} MB" for one in found]),
        ("requests to a bucket", [_told(one.object_requests) for one in found]),
    ]
    lines = [("", heads), ("---", ["---"] * len(heads)), *rows]
    return [f"| {' | '.join((name, *values))} |".replace("|  |", "| |") for name, values in lines]


def main() -> None:
    """Print the table, or the needs of one area."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int)
    parser.add_argument("--years", type=int, default=8)
    asked = parser.parse_args()
    if asked.cells is None:
        print("\n".join(table()))
        return
    for name, value in vars(needs(asked.cells, asked.years)).items():
        print(f"{name:16} {value:14,.1f}")


def _kept(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _told(number: float) -> str:
    """Two digits that count."""
    return f"{float(f'{number:.2g}'):,.{1 if number < 10 else 0}f}"


def _size(gb: float) -> str:
    return f"{_told(gb / 1e3)} TB" if gb >= 1e3 else f"{_told(gb)} GB"


def _hours(hours: float) -> str:
    if hours < 1 / 60:
        return f"{_told(hours * 3600)} s"
    if hours < 1:
        return f"{_told(hours * 60)} min"
    return f"{_told(hours)} h" if hours < 72 else f"{_told(hours / 24)} days"


if __name__ == "__main__":
    main()
