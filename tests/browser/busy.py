"""A ledger as of a run half way, written as the system writes it, for pages that are looked at and not worked with."""

import json
from pathlib import Path
from time import time

import geopandas
import numpy as np
import shapely
from redis import Redis

from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges
from eo_tasks.state.alerts import Alert, AlertRecord, Alerts
from eo_tasks.state.audit import Audit, Deed
from eo_tasks.state.entry import Entry, State
from eo_tasks.state.keys import ERRORS, PERIODS, counts_key, stuck_key, units_key
from eo_tasks.state.runs import Run, Runs
from eo_tasks.state.workers import Gpu, WorkerReport, Workers

SIDE_M = 2500
PRINT = "0123456789"
MARKUP = "<img src=x onerror=alert(1)>"
EVERY = {7: State.STARTED, 11: State.ENQUEUED, 13: State.EMPTY, 17: State.FAILED}  # each seventh cell …


def write_grid(path: Path, cells: int) -> None:
    """A grid file of so many cells in a square."""
    row, column = np.divmod(np.arange(cells), int(cells**0.5))
    west, south = 500_000 + column * SIDE_M, 5_000_000 + row * SIDE_M
    squares = shapely.box(west, south, west + SIDE_M, south + SIDE_M)
    geopandas.GeoDataFrame(geometry=squares, crs=32633).to_file(path)


def fill(redis: Redis, cells: int, years: range) -> Run:
    """A run that wants these cells and years, all states among its units, and what else a page can show."""
    run = Runs(redis).add(Run(Wanted(Ranges.of(range(cells)), tuple(years)), time() - 3600, since=time() - 3600))
    for stage, period in run.wanted.places:
        states = {cell: _state(cell) for cell in range(cells)}
        entries = {
            str(cell): Entry(
                state, 1, 0, time(), time() - 9, 0, "cpu@a", _reason(cell) * (state is State.FAILED)
            ).write()
            for cell, state in states.items()
        }
        counts = {str(state): list(states.values()).count(state) for state in {*states.values()}}
        redis.hset(units_key(stage, period), mapping=entries)  # type: ignore[arg-type]
        redis.hset(counts_key(stage, period), mapping=counts)  # type: ignore[arg-type]
        redis.sadd(PERIODS, f"{stage}:{period}")
        failed = [f"{stage}_{cell}_{period}" for cell, state in states.items() if state is State.FAILED]
        redis.sadd(stuck_key(PRINT), *failed)
    redis.hset(ERRORS, PRINT, json.dumps(["StorageError", f"Cell #: {MARKUP}", _reason(17)]))
    Audit(redis).add(Deed(time(), "operator (dashboard)", "retry", MARKUP, "1 queued"))
    Alerts(redis).put(AlertRecord(Alert("disk", "a", "disk of a: 3 GB are free: make room"), time() - 60))
    card = Gpu("Some card", 0.5, 20, 40)
    Workers(redis).put(
        WorkerReport("gpu@a", "a", 1, ("btc",), 1, ("btc_1_2021_2022",), 0, time(), 0.5, 8, 9, 64, 2, 50, 100, (card,))
    )
    return run


def _state(cell: int) -> State:
    return next((state for every, state in EVERY.items() if cell % every == every - 1), State.COMPLETED)


def _reason(cell: int) -> str:
    return f"StorageError: Cell {cell}, 2021: {MARKUP}"
