"""The matrix in Chromium: how long a page takes to draw each screen while it is scrolled, at 100 and at 1,000 cells.

``python -m benchmarks.matrix``
"""

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright
from redis import Redis
from rich.console import Console
from rich.table import Table

from benchmarks.measure import describe_machine
from eo_tasks.local.redis_server import prepare_redis, wait_for_redis
from tests.browser.busy import fill, write_grid
from tests.dashboard import Dashboard

SIZES = (100, 1000)  # cells, of ten years
RESULTS = Path(__file__).parent / "results" / "matrix.json"
SCROLL = """async () => {
  const scroller = document.querySelector(".matrix"), frame = () => new Promise(requestAnimationFrame);
  const took = [];
  for (let step = 0; step < 100; step++) {
    await frame();
    const begun = performance.now();
    scroller.scrollTop = (step % 2 ? 1 : 0.5) * step / 100 * scroller.scrollHeight;
    await frame();
    await frame();
    took.push(performance.now() - begun);
  }
  return took.sort((one, other) => one - other);
}"""  # two frames: the one that draws, and the one by which it is drawn; never less than two screens' refreshes


def measure(browser: Browser, cells: int) -> dict[str, Any]:
    """Milliseconds from a scroll until it is drawn."""
    with ExitStack() as ending:
        folder = Path(ending.enter_context(tempfile.TemporaryDirectory(prefix="eo-bench-")))
        server = prepare_redis(folder / "redis")
        redis = subprocess.Popen(server.argv, stdout=subprocess.DEVNULL)
        ending.callback(redis.wait)
        ending.callback(redis.terminate)
        wait_for_redis(server)
        write_grid(folder / "grid.gpkg", cells)
        fill(Redis(port=server.port, password=server.password, db=1, decode_responses=True), cells, range(2015, 2025))
        settings = {"GRID_FILE": str(folder / "grid.gpkg"), "DATA_DIR": str(folder / "data")}
        board = Dashboard({**os.environ, **server.environment, **settings}, folder)
        ending.callback(board.kill)
        board.start()
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{board.url}/#/matrix")
        page.wait_for_selector(f".matrix[data-cells='{cells}']")
        took = page.evaluate(SCROLL)
        page.close()
        return {"cells": cells, "p50_ms": took[50], "p95_ms": took[95], "max_ms": took[-1]}


def main() -> None:
    """Measure, print, keep."""
    import torch

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        raise SystemExit("No Chromium on this machine (Debian: chromium).")
    with sync_playwright() as started, started.chromium.launch(executable_path=path, args=["--no-sandbox"]) as browser:
        rows = [measure(browser, cells) for cells in SIZES]
    table = Table("Cells", "p50, ms", "p95, ms", "longest, ms", title="From a scroll until it is drawn, ten years")
    for row in rows:
        table.add_row(str(row["cells"]), *(f"{row[key]:.0f}" for key in ("p50_ms", "p95_ms", "max_ms")))
    ratio = rows[-1]["p50_ms"] / rows[0]["p50_ms"]
    Console().print(table, f"{SIZES[1]} cells against {SIZES[0]}: {ratio:.2f} times")
    found = {"screens": rows, "ratio": ratio, "machine": describe_machine(torch.device("cpu"))}
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
