"""A million grid-years through producer, feeder and ledger, with workers that are only played."""

import json
import subprocess
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from statistics import linear_regression, median
from time import monotonic, perf_counter
from typing import Any

from redis import Redis

from benchmarks.orchestration.chain import YEARS
from benchmarks.orchestration.ledger import BulkLedger, bulk_ledger, work_off
from benchmarks.orchestration.system import client, rss_mb, used_bytes
from eo_tasks import steps
from eo_tasks.celery import BTC, DOWNLOADS
from eo_tasks.grid import GridYear
from eo_tasks.local.redis_server import RedisServer
from eo_tasks.plan import Inventory, Wanted, pairs_of
from eo_tasks.settings import override_environment
from eo_tasks.state.entry import Followers
from eo_tasks.steps import Pipeline
from eo_tasks.tasks import context
from eo_tasks.tasks.checkpoints import export_changed
from eo_tasks.tasks.feed import feed
from eo_tasks.tasks.send import dispatch, publish
from eo_tasks.units import Stage, Unit

WORKER = "cpu@worker-1"
TICK_S = 3.0  # as beat gives the feeder
SAMPLES = 40
SIDE_M = 1000


class Stored:
    """What the played workers have stored: one byte a unit, so that this process does not grow with what is done."""

    def __init__(self, cells: int, *, is_all: bool) -> None:
        begun = b"\x01" if is_all else b"\x00"
        self.images = {year: bytearray(begun * cells) for year in YEARS}
        self.masks = {years: bytearray(begun * cells) for years in pairwise(YEARS)}

    def note(self, units: list[Unit]) -> None:
        """A worker has stored these."""
        for unit in units:
            held = self.masks[unit.years[0], unit.years[1]] if unit.stage is Stage.BTC else self.images[unit.years[0]]
            held[unit.grid_id] = 1

    def take_inventory(self, pipeline: Pipeline, wanted: Wanted, not_before: float = 0) -> Inventory:
        """In the place of ``steps.take_inventory``."""
        cells = wanted.grid_ids
        return Inventory(
            images={year: frozenset(cell for cell in cells if self.images[year][cell]) for year in wanted.years},
            staged={},
            masks={years: frozenset(cell for cell in cells if self.masks[years][cell]) for years in wanted.year_pairs},
        )


def write_grid(path: Path, cells: int) -> None:
    """A grid file of so many cells in a square."""
    import geopandas
    import numpy as np
    import shapely

    row, column = np.divmod(np.arange(cells), int(cells**0.5) or 1)
    west, south = column * SIDE_M, 5_000_000 + row * SIDE_M
    squares = shapely.box(west, south, west + SIDE_M, south + SIDE_M)
    geopandas.GeoDataFrame(geometry=squares, crs=32633).to_file(path)


def measure_million(server: RedisServer, folder: Path, cells: int, most_s: float, *, is_stored: bool) -> dict[str, Any]:
    """Ask for cells × five years and see it through, or as far as ``most_s`` goes."""
    grid_file = folder / "grid.gpkg"
    child = [sys.executable, "-m", "benchmarks.orchestration.million", str(grid_file), str(cells)]
    subprocess.run(child, check=True)  # so that this process knows nothing of the grid yet
    override_environment({"GRID_FILE": str(grid_file), "DATA_DIR": str(folder / "data")})
    context.reopen()
    stored = Stored(cells, is_all=is_stored)
    steps.take_inventory = stored.take_inventory
    from eo_tasks.tasks.enqueue import enqueue_years

    broker, redis = client(server), client(server, 1)
    base, rss_before = used_bytes(redis), rss_mb()
    answers = []
    for _ in range(2):  # the first one reads the grid
        start = perf_counter()
        answer = enqueue_years(years=list(YEARS))
        answers.append({"s": perf_counter() - start, "rss_mb": rss_mb()})
    total = cells * (3 * len(YEARS) - 1)
    found = Feeding(bulk_ledger(), stored, broker, redis, base).go(answer["run"], total, most_s)
    start = perf_counter()
    files = export_changed(0, is_last=True)
    return {
        "cells": cells,
        "grid_years": cells * len(YEARS),
        "pairs": cells * (len(YEARS) - 1),
        "is_stored": is_stored,
        "rss_mb_before": rss_before,
        "answer_reading_the_grid": answers[0],
        "answer": answers[1] | {"cells_looked_at": answer["cells_looked_at"]},
        "redis_bytes_before": base,
        "max_in_flight": context.ledger().limits.max_in_flight,
        **found,
        "export": {"s": perf_counter() - start, "files": files, "rss_mb": rss_mb()},
    }


class Feeding:
    """Ticks of the feeder with played workers in between, and samples of what that takes."""

    def __init__(self, ledger: BulkLedger, stored: Stored, broker: Redis, redis: Redis, base: int) -> None:
        self._ledger, self._stored, self._broker, self._redis, self._base = ledger, stored, broker, redis, base
        self._longest = {DOWNLOADS: 0, BTC: 0}
        self._most_active = 0

    def go(self, run_id: str, total: int, most_s: float) -> dict[str, Any]:
        """Feed and work until the run has ended, or for so long."""
        start, feed_s, work_s, done, ticks = perf_counter(), 0.0, 0.0, self._counted(), 0
        run = context.runs().get(run_id)
        assert run is not None
        samples: list[dict[str, float]] = []
        while run is not None and not run.state.has_ended and perf_counter() - start < most_s:
            begun = perf_counter()
            feed(monotonic() + TICK_S)
            fed = perf_counter()
            self._look()
            worked = self._work(run_id)
            done = self._counted()
            feed_s, work_s, ticks = feed_s + fed - begun, work_s + perf_counter() - fed, ticks + 1
            if not samples or done - samples[-1]["done"] >= total / SAMPLES:
                samples.append(self._sample(done, feed_s, work_s, perf_counter() - start))
            if not worked and not context.runs().position(run).cell:  # all is done: let the pass that sees it begin
                context.runs().rewind(run)
            run = context.runs().get(run_id)
        last = self._sample(done, feed_s, work_s, perf_counter() - start)
        return {
            "state": "gone" if run is None else str(run.state),
            "done": done,
            "of": total,
            "ticks": ticks,
            "seconds": perf_counter() - start,
            "seconds_from_all_done_to_the_end": last["seconds"] - samples[-1]["seconds"] if samples else 0,
            "feed_us_per_unit": 1e6 * feed_s / max(done, 1),
            "work_us_per_unit": 1e6 * work_s / max(done, 1),
            "longest_queue": self._longest,
            "most_in_flight_of_a_stage": self._most_active,
            "growth": _growth(samples),
            "samples": [*samples, last],
        }

    def _work(self, run_id: str) -> int:
        """Do all that is queued, as workers would; stores follow their downloads at once."""
        number = 0
        while units := self._received():
            downloads = [unit for unit in units if unit.stage is Stage.DOWNLOAD]
            pairs = [unit for unit in units if unit.stage is Stage.BTC]
            work_off(self._ledger, downloads, WORKER, lambda unit: Followers(then=_store_of(unit)))
            self._look()
            stores = [_store_of(unit) for unit in downloads]
            completed = work_off(self._ledger, stores, WORKER, lambda unit: Followers(pairs=_pairs_of(run_id, unit)))
            publish(completed)
            self._look()
            work_off(self._ledger, pairs, WORKER)
            self._stored.note(stores + pairs)
            dispatch(Stage.BTC, context.runs().active())
            self._look()
            number += len(units)
        return number

    def _received(self) -> list[Unit]:
        texts = [text for name in (DOWNLOADS, BTC) for text in self._broker.rpop(name, 1000) or []]
        return [Unit.parse(json.loads(text)["headers"]["id"]) for text in texts]

    def _look(self) -> None:
        for name in self._longest:
            self._longest[name] = max(self._longest[name], int(self._broker.llen(name)))
        active = max(int(self._redis.zcard(f"eo-tasks:active:{stage}")) for stage in Stage)
        self._most_active = max(self._most_active, active)

    def _counted(self) -> int:
        counts = self._ledger.all_counts().values()
        return sum(n for numbers in counts for state, n in numbers.items() if state.is_done)

    def _sample(self, done: int, feed_s: float, work_s: float, seconds: float) -> dict[str, float]:
        used, other = used_bytes(self._redis) - self._base, 0
        for redis in (self._redis, self._broker):
            keys = (key for key in redis.scan_iter(count=1000) if not key.startswith("eo-tasks:units:"))
            other += sum(int(redis.memory_usage(key, samples=0) or 0) for key in keys)
        return {
            "done": done,
            "seconds": seconds,
            "feed_s": feed_s,
            "work_s": work_s,
            "rss_mb": rss_mb(),
            "ledger_bytes": used - other,
            "rest_bytes": other,  # queues, lists, indexes, counts, leases, runs
        }


def _growth(samples: list[dict[str, float]]) -> Mapping[str, float]:
    """Slopes against units done, once the first few samples are over."""
    steady = samples[len(samples) // 10 :]
    done = [sample["done"] for sample in steady]
    if len(set(done)) < 3:
        return {}

    def by(name: str) -> float:
        return float(linear_regression(done, [sample[name] for sample in steady]).slope)

    feed_us = [
        1e6 * (later["feed_s"] - sooner["feed_s"]) / max(later["done"] - sooner["done"], 1)
        for sooner, later in pairwise(steady)
    ]
    quarter = max(len(feed_us) // 4, 1)
    return {
        "ledger_bytes_per_unit": by("ledger_bytes"),
        "rest_bytes_per_unit": by("rest_bytes"),
        "rss_bytes_per_unit": 1e6 * by("rss_mb"),
        "rss_mb_first": steady[0]["rss_mb"],
        "rss_mb_last": steady[-1]["rss_mb"],
        "feed_us_per_unit_first_quarter": median(feed_us[:quarter]),
        "feed_us_per_unit_last_quarter": median(feed_us[-quarter:]),
    }


def _store_of(download: Unit) -> Unit:
    return Unit(Stage.STORE, download.grid_id, download.years)


def _pairs_of(run_id: str, store: Unit) -> tuple[tuple[str, Unit], ...]:
    return tuple((run_id, pair.btc) for pair in pairs_of(GridYear(store.grid_id, store.years[0]), YEARS))


if __name__ == "__main__":
    write_grid(Path(sys.argv[1]), int(sys.argv[2]))
