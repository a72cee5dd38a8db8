"""The orchestration: our chain against Celery's alone, the feeder, the ledger, and a million grid-years.

    python -m benchmarks.orchestration                    # every section, small: about five minutes
    python -m benchmarks.orchestration --chain --status   # some
    python -m benchmarks.orchestration --full             # in the sizes of the kept figures: about forty minutes
    python -m benchmarks.orchestration --million --stored --full  # a million that is stored already

Prints tables and writes ``benchmarks/results/orchestration.json``; a section that was not asked for keeps what it has
there. Each runs in a process of its own with a Redis of its own. Steps do nothing, but ask and confirm what real ones
do; what is compared runs in turns on one Redis, with the same settings of delivery.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.orchestration.system import client, describe, environment_of, own_redis
from eo_tasks.files import read_json, write_json
from eo_tasks.settings import override_environment

RESULTS = Path(__file__).parents[1] / "results" / "orchestration.json"
SECTIONS = ("chain", "profile", "enqueue", "memory", "status", "million", "workers")


def main() -> None:
    """Run what the command line asks for."""
    chosen = parser().parse_args()
    if chosen.section:
        print(json.dumps(measure(chosen.section, chosen)))
        return
    sections = [name for name in SECTIONS if getattr(chosen, name)] or list(SECTIONS)
    result = read_json(chosen.out) or {}
    console = Console(width=120)
    for name in sections:
        start = perf_counter()
        found = in_child(name)
        result["million_stored" if name == "million" and chosen.stored else name] = found
        console.print(f"[bold]{name}[/bold], {perf_counter() - start:.0f} s, {found['machine']}")
        SHOW[name](console, found)
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(chosen.out, result)


def parser() -> argparse.ArgumentParser:
    """What can be chosen."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in SECTIONS:
        made.add_argument(f"--{name}", action="store_true")
    made.add_argument("--full", action="store_true", help="in the sizes of the kept figures")
    made.add_argument("--rounds", type=int, help="of what is compared in turns")
    made.add_argument("--steps", type=int, help="of one round of --chain")
    made.add_argument("--cells", type=int, help="of --million, five years each")
    made.add_argument("--stored", action="store_true", help="--million with everything stored already")
    made.add_argument("--most-s", type=float, default=1500, help="of --million; it ends where it is by then")
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)  # in a process of its own
    return made


def in_child(section: str) -> dict[str, Any]:
    """Measure a section in a process that did nothing before."""
    command = [sys.executable, "-m", "benchmarks.orchestration", *sys.argv[1:], "--section", section]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def measure(section: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """A section's figures, and what was measured on."""
    with TemporaryDirectory(prefix="eo-tasks-benchmark-") as path, own_redis(Path(path) / "redis") as server:
        folder = Path(path)
        override_environment(environment_of(server, folder))
        from benchmarks.orchestration import chain, ledger, million

        size = Sizes(chosen)
        about = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": describe(server)}
        found: dict[str, Any]
        match section:
            case "chain":
                found = {"rows": chain.measure_chain(server, folder, size.steps, size.rounds)}
                about |= {"steps": size.steps, "rounds": size.rounds}
            case "profile":
                found = {"rows": chain.measure_profile(server, folder, size.steps)}
            case "enqueue":
                found = ledger.measure_enqueue(server, folder, size.units, size.rounds)
            case "memory":
                found = ledger.measure_memory(server, folder, size.entries)
            case "status":
                found = ledger.measure_status(server, folder, (10**4, 10**5, 10**6), 100)
            case "million":
                most_s, is_stored = chosen.most_s, chosen.stored
                found = million.measure_million(server, folder, size.cells, most_s, is_stored=is_stored)
            case "workers":
                found = chain.measure_workers(server, folder, size.waiting_cells, min(size.rounds, 3))
        client(server).close()
        return about | found


class Sizes:
    """How much of everything."""

    def __init__(self, chosen: argparse.Namespace) -> None:
        is_full = chosen.full
        self.rounds: int = chosen.rounds or (
            21 if is_full else 7
        )  # short and many, so that a disturbance is one of many
        self.steps: int = chosen.steps or (840 if is_full else 280)
        self.units = 20_000 if is_full else 4_000
        self.entries = 100_000 if is_full else 20_000
        self.cells: int = chosen.cells or (200_000 if is_full else 20_000)
        self.waiting_cells = 40 if is_full else 10


def show_chain(console: Console, found: dict[str, Any]) -> None:
    """Tables of both topologies."""
    for topology, rows in found["rows"].items():
        columns = (
            "",
            "steps/s",
            "worker ms",
            "Redis ms",
            "round trips",
            "commands",
            "in scripts",
            "ours / it",
            "by CPU",
        )
        table = Table(*columns, title=f"Steps that do nothing, {topology}; what one takes", title_justify="left")
        for name, row in rows.items():
            table.add_row(
                name,
                f"{row['steps_per_s']:.0f}",
                f"{row['worker_cpu_ms_per_step']:.2f}",
                f"{row['redis_cpu_ms_per_step']:.2f}",
                f"{row['round_trips_per_step']:.1f}",
                f"{sum(row['commands_per_step'].values()):.1f}",
                f"{sum(row['in_scripts_per_step'].values()):.1f}",
                f"{row['ours_against_it']:.2f}",
                f"{row['ours_against_it_by_cpu']:.2f}",
            )
        console.print(table)


def show_profile(console: Console, found: dict[str, Any]) -> None:
    """Where the time goes, side by side."""
    rows = found["rows"]
    table = Table("ms per step, profiled (calls)", *rows, title="Where a solo worker's time goes", title_justify="left")
    table.add_row("in all", *(f"{row['ms_per_step']:.2f}" for row in rows.values()))
    for part in dict.fromkeys(part for row in rows.values() for part in row["parts"]):
        cells = [row["parts"].get(part) for row in rows.values()]
        table.add_row(part, *("" if c is None else f"{c['ms_per_step']:.2f} ({c['calls_per_step']:g})" for c in cells))
    console.print(table)


def show_enqueue(console: Console, found: dict[str, Any]) -> None:
    """Rates."""
    table = Table("", "per second", "ours / it", title="Enqueueing", title_justify="left")
    for name, row in found["rows"].items():
        table.add_row(name, f"{row['per_s']:.0f}", f"{row['ours_against_it']:.1f}")
    console.print(table)
    console.print("µs per unit", {name: round(value) for name, value in found["us_per_unit"].items()})


def show_memory(console: Console, found: dict[str, Any]) -> None:
    """Bytes."""
    table = Table("", "bytes of Redis", title=f"Memory of {found['units']} units", title_justify="left")
    for what, size in found["waiting"].items():
        table.add_row(what, f"{size:.0f}")
    for stage, lengths in found["done"].items():
        for length, size in lengths.items():
            table.add_row(f"{stage} done, by a worker of {length} letters", f"{size:.0f}")
    for what, size in found["bare chain"].items():
        table.add_row(f"bare chain of 3, {what}", f"{size:.0f}")
    console.print(table)


def show_status(console: Console, found: dict[str, Any]) -> None:
    """Times."""
    table = Table("units", "question", "ms", "ms in Redis", title="Counting", title_justify="left")
    for size, questions in found["rows"].items():
        for name, row in questions.items():
            table.add_row(size, name, f"{row['ms']:.2f}", f"{row['redis_ms']:.3f}")
    console.print(table)
    console.print("growth exponent", found["growth_exponent"])


def show_million(console: Console, found: dict[str, Any]) -> None:
    """Figures, and some of the samples."""
    console.print({name: value for name, value in found.items() if name not in ("samples", "machine", "at")})
    columns = ("done", "seconds", "RSS MB", "ledger MB", "rest MB", "feed s")
    table = Table(*columns, title=f"{found['grid_years']} grid-years", title_justify="left")
    for row in found["samples"][:: max(len(found["samples"]) // 10, 1)]:
        table.add_row(
            f"{row['done']:.0f}",
            f"{row['seconds']:.1f}",
            f"{row['rss_mb']:.0f}",
            f"{row['ledger_bytes'] / 1e6:.1f}",
            f"{row['rest_bytes'] / 1e6:.1f}",
            f"{row['feed_s']:.1f}",
        )
    console.print(table)


def show_workers(console: Console, found: dict[str, Any]) -> None:
    """The speed-up."""
    title = f"Steps that wait {1e3 * found['step_s']:.0f} ms"
    table = Table("processes", "steps/s", "speed-up", "of waiting alone", title=title, title_justify="left")
    for number, row in found["rows"].items():
        table.add_row(number, f"{row['steps_per_s']:.1f}", f"{row['speed_up']:.2f}", f"{row['of_waiting_alone']:.0%}")
    console.print(table)


SHOW: dict[str, Callable[[Console, dict[str, Any]], None]] = {
    "chain": show_chain,
    "profile": show_profile,
    "enqueue": show_enqueue,
    "memory": show_memory,
    "status": show_status,
    "million": show_million,
    "workers": show_workers,
}


if __name__ == "__main__":
    main()
