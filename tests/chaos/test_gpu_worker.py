"""The GPU worker, killed again and again in the middle of its batches."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
from redis import Redis

from eo_tasks.files import sha256
from eo_tasks.grid import YearPair
from eo_tasks.plan import Wanted
from eo_tasks.products.mask import MaskFiles
from eo_tasks.settings import load_settings
from eo_tasks.state.entry import Limits
from eo_tasks.state.ledger import Ledger
from eo_tasks.steps import Pipeline, clear_scratch
from eo_tasks.units import Stage
from tests.archive import mask_path
from tests.painted import GOLDEN, paint
from tests.system import BEAT, CONTROL, GPU, System, celery, system, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.timeout(1200)]

CELLS = 150
YEARS = (2021, 2022, 2023)
KILLS = 22
DEADLINE_S = 300


@pytest.fixture
def country(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Cells whose composites are all stored; the units are not to blame when their worker is killed."""
    return paint(environment, tmp_path / "grid.gpkg", CELLS, YEARS) | {"MAX_DEATHS": "1000"}


def test_masks_are_each_there_once_and_whole_however_often_the_gpu_worker_is_killed_in_mid_batch(
    country: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    ledger, rng = Ledger(redis, Limits()), random.Random(20261125)  # noqa: S311
    pairs = [YearPair(cell, *years) for cell in range(CELLS) for years in Wanted((0,), YEARS).year_pairs]
    periods = sorted({pair.btc.period for pair in pairs})

    def is_done() -> int:
        counted = [ledger.counts(Stage.BTC, period) for period in periods]
        return sum(number for counts in counted for state, number in counts.items() if state.is_done)

    def held() -> Counter[str]:
        """How many pairs each delivery holds, those of killed workers until their leases end."""
        return Counter(owner for owner in redis.mget([f"eo-tasks:lease:{pair.btc.id}" for pair in pairs]) if owner)

    sizes: list[int] = []
    killed: set[str] = set()
    with system(country, tmp_path / "logs") as running:
        for name, arguments in (("control", CONTROL), ("beat", BEAT), ("gpu", GPU)):
            running.start(name, arguments)
        request = json.dumps({"years": list(YEARS)})
        celery(country, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)
        for number in range(KILLS):
            done_before, more = is_done(), rng.randrange(4)

            def is_in_mid_batch(enough: int = done_before + more, dead: frozenset[str] = frozenset(killed)) -> bool:
                living = [pairs for owner, pairs in held().items() if owner not in dead]
                return is_done() >= enough and max(living, default=0) >= 2

            wait_for(redis, is_in_mid_batch, DEADLINE_S, running.logs)
            kill(running, whole=number % 2 == 0)
            in_work = {owner: pairs for owner, pairs in held().items() if owner not in killed}
            sizes.append(max(in_work.values(), default=0))
            killed |= in_work.keys()
        wait_for(redis, lambda: is_done() == len(pairs), DEADLINE_S, running.logs)

    assert len(sizes) >= 20
    assert min(sizes) >= 2, f"a worker held only {min(sizes)} pairs when it was killed"
    entries = ledger.entries(pair.btc for pair in pairs)
    assert all(entry.state.is_done for entry in entries.values())
    assert sum(entry.deaths for entry in entries.values()) >= KILLS
    clear_scratch(Path(country["DATA_DIR"]), older_than_s=0)  # a process killed while it wrote leaves a hidden file
    masks = Path(country["DATA_DIR"]) / "masks"
    expected = {path for pair in pairs for path in files_of(Path(country["DATA_DIR"]), pair)}
    assert {path for path in masks.rglob("*") if path.is_file()} == expected
    for pair, classes in expected_classes(country, pairs):
        files = MaskFiles.beside(mask_path(Path(country["DATA_DIR"]), pair))
        record = json.loads(files.png.with_suffix(".json").read_text())
        assert (record["years"], record["sha256"]) == ([pair.before, pair.after], sha256(files.png))
        with rasterio.open(files.cog) as cog:
            assert np.mean(cog.read(1) != classes) < 1e-3, pair  # threads may round a pixel on the threshold otherwise


def kill(running: System, *, whole: bool) -> None:
    """SIGKILL the GPU worker with all its processes, or its pool's process alone, which the worker replaces."""
    if whole:
        running.kill("gpu")
        running.start("gpu", GPU)
        return
    for child in psutil.Process(running.processes["gpu"].pid).children():
        if "spawn_main" in " ".join(child.cmdline()) or "celeryd" in child.name():
            child.kill()


def files_of(data_dir: Path, pair: YearPair) -> list[Path]:
    png = mask_path(data_dir, pair)
    return [*MaskFiles.beside(png).all, png.with_suffix(".json")]


def expected_classes(country: dict[str, str], pairs: list[YearPair]) -> Iterator[tuple[YearPair, np.ndarray]]:
    """What an undisturbed process makes of each pair, a few of them."""
    from eo_tasks.btc.model import compare, open_model
    from eo_tasks.raster import to_rgb
    from eo_tasks.settings import Device

    data = Path(country["DATA_DIR"])
    pipeline = Pipeline(load_settings(data_dir=data, grid_file=Path(country["GRID_FILE"])))
    model = open_model(str(GOLDEN), device=Device.CPU)
    for pair in pairs:
        years = [pipeline.store.get_image(grid_year) for grid_year in pair.grid_years]
        seen = years[0].valid & years[1].valid
        images = [np.where(seen[..., None], to_rgb(year, pipeline.settings.btc_stretch), np.uint8(0)) for year in years]
        probability = compare(model, *images)
        yield pair, np.where(seen, probability > pipeline.settings.btc_threshold, 255).astype(np.uint8)
