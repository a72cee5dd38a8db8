"""The main job on real Sentinel-2 scenes and the grid that users hold."""

import json
from pathlib import Path

import numpy as np
import pytest
from redis import Redis
from rio_cogeo import cog_validate

from eo_tasks.cog import read_composite
from eo_tasks.grid_file import read_grid
from eo_tasks.raster import PixelGrid
from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.units import Stage
from tests.real_scenes import COLLECTION, SCENES, SLOVENIA, numpys_median, real_catalog
from tests.system import CONTROL, CPU, celery, system, wait_for

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not SCENES.is_dir(), reason="no ../shared with real scenes beside the repository"),
]

CELLS = {331: "SI_000331", 86: "SI_000086"}


def test_real_scenes_become_numpys_median_on_the_national_grid(
    environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    settings = {
        "GRID_FILE": str(SLOVENIA),
        "IMAGERY_SOURCE": "stac",
        "STAC_URL": str(real_catalog(tmp_path)),
        "STAC_COLLECTION": COLLECTION,
    }
    ledger = Ledger(redis, Limits())
    with system(environment | settings, tmp_path / "logs") as running:
        running.start("control", CONTROL)
        running.start("cpu", CPU)
        request = json.dumps({"years": [2023], "grid_ids": list(CELLS.values())})
        celery(running.environment, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)

        def is_stored() -> bool:
            return ledger.counts(Stage.STORE, "2023").get(State.COMPLETED, 0) == len(CELLS)

        wait_for(redis, is_stored, 180, running.logs)

    grid = read_grid(SLOVENIA)
    for grid_id, label in CELLS.items():
        image = Path(environment["DATA_DIR"]) / "images" / "2023" / f"sentinel2_grid_{grid_id}_2023_08.tiff"
        assert cog_validate(image, strict=True, quiet=True) == (True, [], [])
        stored = read_composite(image)
        pixels = PixelGrid.of(grid.cell(label))
        assert stored.pixels == pixels
        median, counts = numpys_median(pixels)
        seen = counts > 0
        np.testing.assert_array_equal(stored.clear_count, counts)
        assert np.abs(stored.dn[:, seen] - median[:, seen]).max() <= 0.5 + 1e-6
        record = json.loads(image.with_suffix(".json").read_text())
        assert (record["label"], record["months"], len(record["scenes"])) == (label, [4, 5, 6, 7, 8, 9], 5)
