"""The dashboard with a million units and fifty who watch: how long answers take, and how much memory it has.

``python -m benchmarks.dashboard [--cells 34500] [--clients 50] [--seconds 30]``
"""

import argparse
import asyncio
import json
import os
import ssl
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import httpx
import numpy as np
import psutil
from redis import Redis
from rich.console import Console
from rich.table import Table
from websockets.asyncio.client import connect

from benchmarks.measure import describe_machine
from benchmarks.orchestration.million import write_grid
from eo_tasks.local.redis_server import RedisServer, free_port, prepare_redis, wait_for_redis
from eo_tasks.overview.known import Known
from eo_tasks.overview.states import States
from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges
from eo_tasks.state.entry import Entry, State
from eo_tasks.state.keys import PERIODS, counts_key, units_key
from eo_tasks.state.runs import Run, Runs

YEARS = tuple(range(2015, 2025))
MIXTURE = {State.COMPLETED: 70, State.SKIPPED: 10, State.ENQUEUED: 15, State.EMPTY: 3, State.FAILED: 2}
CHUNK = 5000
BOX = "9.2,45.1,9.6,45.5"
PAUSE_S = 1.0  # of a client between two questions
RESULTS = Path(__file__).parent / "results" / "dashboard.json"


def fill(redis: Redis, cells: int) -> int:
    """Entries of every unit as the ledger keeps them, and a run that wants them; gives their number."""
    random, number = np.random.default_rng(7), 0
    names, shares = list(MIXTURE), np.array(list(MIXTURE.values())) / 100
    run = Run(Wanted(Ranges.of(range(cells)), YEARS), 1.0, since=1.0)
    Runs(redis).add(run)
    for stage, period in run.wanted.places:
        states = [names[index] for index in random.choice(len(names), cells, p=shares)]
        pipe = redis.pipeline(transaction=False)
        for start in range(0, cells, CHUNK):
            part = {
                str(cell): Entry(states[cell], 1, 0, 1.7e9 + cell, 1.7e9, 0, "cpu@worker-1").write()
                for cell in range(start, min(start + CHUNK, cells))
            }
            pipe.hset(units_key(stage, period), mapping=part)  # type: ignore[arg-type]
        pipe.hset(counts_key(stage, period), mapping={str(state): states.count(state) for state in MIXTURE})
        pipe.sadd(PERIODS, f"{stage}:{period}")
        pipe.execute()
        number += cells
    return number


def touch(redis: Redis, cell: int) -> None:
    """One unit moves on."""
    place = ("download", str(YEARS[-1]))
    redis.hset(f"eo-tasks:units:{place[0]}:{place[1]}", str(cell), Entry(State.STARTED, 1).write())
    redis.hincrby(f"eo-tasks:counts:{place[0]}:{place[1]}", "started", 1)


def refresh(redis: Redis, server: RedisServer, cells: int) -> dict[str, float]:
    """How long it takes to read the states of all units, and then those of the place where one moved on."""
    broker = Redis(port=server.port, password=server.password, decode_responses=True)
    states, seconds = States(Known.of(redis, broker), np.arange(cells)), {}
    for name in ("all", "none", "one"):
        if name == "one":
            touch(redis, cells - 1)
        begun = perf_counter()
        changes = states.refresh()
        seconds[name] = perf_counter() - begun
    assert changes is not None
    assert len(changes) == 1, "a place that was just read rests"
    return seconds


async def watch(url: str, clients: int, seconds: float, redis: Redis) -> dict[str, list[float]]:
    """Everybody asks for the summary each second and listens; now and then one looks at matrix, map and grid."""
    took: dict[str, list[float]] = defaultdict(list)
    encryption = ssl.create_default_context()  # unused; 30 ms of work, in which nobody else is timed right
    until = perf_counter() + seconds
    questions = {
        "/matrix": {},
        "/grid": {},
        "/grid, a box": {"bbox": BOX},
        "/map": {"stage": "download", "period": "2024"},
        "/map, a box": {"stage": "btc", "period": "2023_2024", "bbox": BOX},
    }

    async def ask(client: httpx.AsyncClient, name: str, query: Mapping[str, str]) -> None:
        begun = perf_counter()
        answer = await client.get(name.partition(",")[0], params=query)
        answer.raise_for_status()
        took[name].append(perf_counter() - begun)

    async def person(number: int) -> None:
        async with (
            httpx.AsyncClient(base_url=f"{url}/api/v1", timeout=120, verify=encryption) as client,
            connect(f"{url.replace('http', 'ws')}/api/v1/live", max_size=None) as live,
        ):
            listening = asyncio.create_task(_drain(live))
            await asyncio.sleep(number / clients * PAUSE_S)
            turn = number
            while perf_counter() < until:
                await ask(client, "/summary", {})
                if turn % 10 == 0:
                    name = list(questions)[turn // 10 % len(questions)]
                    await ask(client, name, questions[name])
                turn += 1
                await asyncio.sleep(PAUSE_S)
            listening.cancel()

    async def units_move() -> None:
        cell = 0
        while perf_counter() < until:
            await asyncio.to_thread(touch, redis, cell)
            cell += 1
            await asyncio.sleep(PAUSE_S / 2)

    await asyncio.gather(units_move(), *(person(number) for number in range(clients)))
    return took


async def _drain(live: Any) -> None:
    async for _ in live:
        pass


def measure(cells: int, clients: int, seconds: float) -> dict[str, Any]:
    """Fill a Redis, start the dashboard, and watch."""
    with ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="eo-bench-")))
        server = prepare_redis(folder / "redis")
        _start(ending, server.argv, {})
        wait_for_redis(server)
        redis = Redis(port=server.port, password=server.password, db=1, decode_responses=True)
        units = fill(redis, cells)
        write_grid(folder / "grid.gpkg", cells)
        refreshed = refresh(redis, server, cells)
        url, process = _start_dashboard(ending, server, folder)
        first: dict[str, float] = {}
        with httpx.Client(base_url=f"{url}/api/v1", timeout=600) as client:
            for name in ("/summary", "/grid", "/matrix"):
                begun = perf_counter()
                client.get(name).raise_for_status()
                first[name] = perf_counter() - begun
        took = asyncio.run(watch(url, clients, seconds, redis))
        return {
            "units": units,
            "cells": cells,
            "clients": clients,
            "seconds": seconds,
            "refresh_s": refreshed,
            "first_s": first,
            "rss_mb": process.memory_info().rss / 1e6,
            "answers": {name: _quantiles(values) for name, values in took.items()},
        }


def _start(ending: ExitStack, argv: Any, more: Mapping[str, str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(argv, env={**os.environ, **more}, stdout=subprocess.DEVNULL)
    ending.callback(process.wait)
    ending.callback(process.terminate)
    return process


def _start_dashboard(ending: ExitStack, server: RedisServer, folder: Path) -> tuple[str, psutil.Process]:
    port = free_port()
    more = {
        **server.environment,
        "MONITORING_PORT": str(port),
        "GRID_FILE": str(folder / "grid.gpkg"),
        "DATA_DIR": str(folder / "data"),
    }
    process = _start(ending, [sys.executable, "-m", "eo_tasks.dashboard"], more)
    url = f"http://127.0.0.1:{port}"
    until = perf_counter() + 60
    while True:
        try:
            httpx.get(f"{url}/healthz").raise_for_status()
        except httpx.TransportError:
            if perf_counter() > until:
                raise
        else:
            return url, psutil.Process(process.pid)


def _quantiles(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "number": len(ordered),
        "p50_ms": 1000 * median(ordered),
        "p95_ms": 1000 * ordered[int(0.95 * (len(ordered) - 1))],
        "p99_ms": 1000 * ordered[int(0.99 * (len(ordered) - 1))],
        "max_ms": 1000 * ordered[-1],
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=34_500)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30)
    given = parser.parse_args()
    import torch

    found = measure(given.cells, given.clients, given.seconds)
    found["machine"] = describe_machine(torch.device("cpu"))
    table = Table(
        "Question", "Asked", "p50, ms", "p95, ms", "p99, ms", "longest, ms", title=f"{found['units']:,} units"
    )
    for name, row in found["answers"].items():
        table.add_row(
            name, str(row["number"]), *(f"{row[key]:.0f}" for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms"))
        )
    Console().print(table)
    Console().print(f"States read: {found['refresh_s']}")
    Console().print(f"First answers: {found['first_s']}; memory {found['rss_mb']:.0f} MB")
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
