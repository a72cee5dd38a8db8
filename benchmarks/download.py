"""Transfers of results: ours, with its checksum, against a bare ``curl`` of the same files.

    python -m benchmarks.download            # about five minutes
    python -m benchmarks.download --rounds 15

A real HTTP server with ranges, a process of its own, serves files of random bytes on loopback; once as fast as it can,
once each connection at the rate of a fast line. Both candidates take turns in every round, so that a machine whose
speed drifts does not matter. Several at once are several processes, as workers are; their start is not counted: ours
wait for a word before they begin, and curl tells its own ``time_total``. Prints a table and writes
``benchmarks/results/download.json``.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.orchestration.system import commit
from eo_tasks import __version__
from eo_tasks.files import sha256, write_json

RESULTS = Path(__file__).parent / "results" / "download.json"
SIZES_MB = (8, 64, 256)
AT_ONCE = (1, 2, 4)
LINE_MB_S = 100  # of one connection where the line is the limit: 800 Mbit/s
MB = 1_000_000


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    made.add_argument("--fetch", help=argparse.SUPPRESS)
    chosen = made.parse_args()
    if chosen.serve:
        serve(chosen.serve)
    elif chosen.fetch:
        print(json.dumps(fetch(**json.loads(chosen.fetch))))
    else:
        show(Console(width=120), measure(chosen.rounds, chosen.out))


def measure(rounds: int, out: Path) -> dict[str, Any]:
    """All figures."""
    with TemporaryDirectory(prefix="eo-tasks-benchmark-") as path, serving(Path(path) / "served") as url:
        folder = Path(path)
        sums = {size: make_file(folder / "served" / f"{size}.bin", size) for size in SIZES_MB}
        found: dict[str, Any] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": describe(),
            "rounds": rounds,
            "line_mb_s": LINE_MB_S,
            "rows": [],
        }
        for line in ("loopback", "line"):
            for size in SIZES_MB:
                for number in AT_ONCE:
                    found["rows"].append(compare(f"{url}/{line}/{size}.bin", sums[size], folder, size, number, rounds))
    flat = {row["size_mb"]: row["ours_peak_rss_mb"] for row in found["rows"] if row["at_once"] == 1}
    found["peak_rss_mb"] = {"smallest": flat[SIZES_MB[0]], "largest": flat[SIZES_MB[-1]]}
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, found)
    return found


def compare(url: str, digest: str, folder: Path, size_mb: int, number: int, rounds: int) -> dict[str, Any]:
    """Both candidates in turns."""
    ours: list[dict[str, float]] = []
    curl: list[float] = []
    for turn in range(rounds + 1):  # the first warms up
        for candidate in ("ours", "curl") if turn % 2 else ("curl", "ours"):
            if candidate == "ours":
                told = {"url": url, "digest": digest, "folder": str(folder), "size": size_mb * MB}
                made = with_ours(json.dumps(told), number)
                ours += [made] if turn else []
            else:
                seconds = with_curl(url, folder, number)
                curl += [seconds] if turn else []
    seconds = [each["seconds"] for each in ours]
    return {
        "line": url.split("/")[-2],
        "size_mb": size_mb,
        "at_once": number,
        "ours_s": median(seconds),
        "curl_s": median(curl),
        "ours_mb_s": number * size_mb / median(seconds),
        "ours_against_curl": median(a / b for a, b in zip(seconds, curl, strict=True)),
        "ours_peak_rss_mb": max(each["peak_rss_mb"] for each in ours),
        "seconds": {"ours": seconds, "curl": curl},
    }


def fetch(url: str, digest: str, folder: str, size: int) -> dict[str, float]:
    """One of our transfers, and the most memory of this process."""
    import requests

    from eo_tasks.sources.openeo.transfer import download

    target = Path(folder) / f"ours-{os.getpid()}.bin"
    with requests.Session() as session:
        print("ready", flush=True)
        sys.stdin.readline()
        start = time.perf_counter()
        download(session, url, target, expected_size=size, checksum=f"1220{digest}")
        seconds = time.perf_counter() - start
    target.unlink()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {"seconds": seconds, "peak_rss_mb": int(status["VmHWM"].split()[0]) / 1e3}


def with_curl(url: str, folder: Path, number: int) -> float:
    """Seconds that the slowest of as many ``curl`` at once takes, without its start."""
    targets = [folder / f"curl-{index}.bin" for index in range(number)]
    commands = [["curl", "-sSf", "-o", str(target), "-w", "%{time_total}", url] for target in targets]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    seconds = [float(process.communicate()[0]) for process in running]
    assert all(process.returncode == 0 for process in running)
    for target in targets:
        target.unlink()
    return max(seconds)


def with_ours(told: str, number: int) -> dict[str, float]:
    """The same of ours, and the most memory that one of them has had."""
    command = [sys.executable, "-m", "benchmarks.download", "--fetch", told]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(command, **pipes) for _ in range(number)]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [json.loads(process.communicate()[0]) for process in running]
    return {name: max(answer[name] for answer in answers) for name in ("seconds", "peak_rss_mb")}


def make_file(path: Path, size_mb: int) -> str:
    """Write random bytes; gives their SHA-256."""
    with path.open("wb") as file:
        for _ in range(size_mb):
            file.write(os.urandom(MB))
    return sha256(path)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A server of a folder's files in a process of its own; gives its address."""
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.download", "--serve", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def serve(folder: Path) -> None:
    """Serve files, and ranges of them, for ever."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"folder": folder}))
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path

    def do_GET(self) -> None:
        _, line, name = self.path.split("/")
        file = self.folder / name
        size = file.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(size - first))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha256(name.encode()).hexdigest()[:16]}"')
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        self.end_headers()
        with file.open("rb") as source:
            start, sent = time.monotonic(), first
            while sent < size:
                sent += os.sendfile(self.connection.fileno(), source.fileno(), sent, min(MB, size - sent))
                if line == "line":
                    time.sleep(max(0.0, start + (sent - first) / MB / LINE_MB_S - time.monotonic()))

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def describe() -> dict[str, object]:
    """What figures are worth nothing without."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "device": next((line.partition(":")[2].strip() for line in info if "model name" in line), platform.processor()),
        "cpus": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "curl": subprocess.run(["curl", "--version"], check=True, capture_output=True, text=True).stdout.split()[1],
        "eo_tasks": __version__,
        "commit": commit(),
    }


def show(console: Console, found: dict[str, Any]) -> None:
    """A table."""
    columns = ("line", "MB", "at once", "ours s", "curl s", "ours MB/s", "ours / curl", "peak RSS MB")
    table = Table(*columns, title="Transfers with SHA-256 against curl", title_justify="left")
    for row in found["rows"]:
        table.add_row(
            row["line"],
            str(row["size_mb"]),
            str(row["at_once"]),
            f"{row['ours_s']:.3f}",
            f"{row['curl_s']:.3f}",
            f"{row['ours_mb_s']:.0f}",
            f"{row['ours_against_curl']:.2f}",
            f"{row['ours_peak_rss_mb']:.1f}",
        )
    console.print(table)
    console.print(found["machine"])


if __name__ == "__main__":
    main()
