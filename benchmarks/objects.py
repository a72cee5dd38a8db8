"""What each step asks of an object store: requests, which is what one costs and how long a far one takes.

Counted in the log of a real S3 server on loopback; seconds would be that server's, which is none for production.
"""

import argparse
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eo_tasks.files import write_json
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.settings import load_settings
from eo_tasks.steps import Pipeline, download, store
from eo_tasks.steps.masks import infer
from tests.bucket import ObjectStore, object_store
from tests.painted import PaintedSource, paint

CELLS, YEARS = 40, (2021, 2022, 2023)
REQUEST = re.compile(r"(GET|HEAD|PUT|POST|DELETE) /country(\S*) HTTP")  # in colours, some of them


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/objects.json"))
    out: Path = parser.parse_args().out
    with TemporaryDirectory(prefix="eo-tasks-benchmark-") as folder, object_store(Path(folder) / "s3") as server:
        found = measure(server, Path(folder))
    write_json(out, {"at": datetime.now(UTC).isoformat(timespec="seconds"), "cells": CELLS, "requests": found})
    for what, counts in found.items():
        print(f"{what:40} {counts['all']:6.2f}   " + ", ".join(f"{name} {n:g}" for name, n in counts.items()))


def measure(server: ObjectStore, folder: Path) -> dict[str, dict[str, float]]:
    """Requests of each step, a unit or a cell."""
    server.make_bucket("country")
    where = server.settings("country") | {"WORK_DIR": str(folder / "work")}
    settings = paint(where, folder / "grid.gpkg", CELLS, ())
    pipeline = Pipeline(load_settings(**{name.lower(): value for name, value in settings.items()}))
    pipeline.__dict__["source"] = PaintedSource()
    log = Log(folder / "s3" / "s3.log")
    cells, pair = range(CELLS), (YEARS[0], YEARS[1])
    stored = [GridYear(cell, year) for cell in cells for year in YEARS]
    found = {
        "download, a unit": log.of(lambda: [download(pipeline, one) for one in stored], len(stored)),
        "store, a unit": log.of(lambda: [store(pipeline, one) for one in stored], len(stored)),
        "BTC, a pair": log.of(lambda: infer(pipeline, YearPair(0, *pair)), 1),
    }
    for cell in cells[1:4]:
        infer(pipeline, YearPair(cell, *pair))
    asked: Mapping[str, Callable[[], Any]] = {
        "is a composite stored? a cell": lambda: pipeline.store.image_ids(2021, cells),
        "is a mask stored? a cell without one": lambda: pipeline.store.mask_ids(*pair, pipeline.recipe, cells[4:]),
        "is a mask stored? a cell with one": lambda: pipeline.store.mask_ids(*pair, pipeline.recipe, cells[:4]),
    }
    sizes = {"is a mask stored? a cell with one": 4, "is a mask stored? a cell without one": CELLS - 4}
    return found | {what: log.of(ask, sizes.get(what, CELLS)) for what, ask in asked.items()}


class Log:
    """The server's, read on as it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, run: Callable[[], object], number: int) -> dict[str, float]:
        """Requests while something runs, each of ``number``."""
        before = self._path.stat().st_size
        run()
        with self._path.open("rb") as file:
            file.seek(before)
            text = file.read().decode()
        kinds = Counter("LIST" if m[1] == "GET" and "list-type" in m[2] else m[1] for m in REQUEST.finditer(text))
        return {"all": kinds.total() / number, **{kind: kinds[kind] / number for kind in sorted(kinds)}}


if __name__ == "__main__":
    main()
