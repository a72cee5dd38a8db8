"""The main job with a database: through real Redis, PostgreSQL and worker processes."""

import json
from pathlib import Path

import numpy as np
import psycopg
import pytest
import rasterio
from click.testing import CliRunner
from redis import Redis

from eo_tasks.cli.main import main
from eo_tasks.files import sha256
from eo_tasks.sample import Sample
from eo_tasks.score import score
from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.units import Stage
from tests.system import BEAT, CONTROL, CPU, GPU, celery, system, wait_for

pytestmark = pytest.mark.integration

CELLS = (463, 464)
YEARS = (2021, 2022, 2023)
DEADLINE_S = 180


@pytest.mark.parametrize("mode", ["database_only", "hybrid"])
def test_grid_and_years_become_rows(
    sample_environment: dict[str, str],
    database: dict[str, str],
    sample: Sample,
    redis: Redis,
    tmp_path: Path,
    mode: str,
) -> None:
    ledger = Ledger(redis, Limits())
    environment = sample_environment | database | {"PIPELINE_MODE": mode}
    data = Path(environment["DATA_DIR"])
    upgraded = CliRunner().invoke(main, ["db", "upgrade"], env=database)
    assert upgraded.output.endswith("went from nothing to 0001.\n")
    with system(environment, tmp_path / "logs") as running:
        for name, arguments in (("control", CONTROL), ("cpu", CPU), ("gpu", GPU), ("beat", BEAT)):
            running.start(name, arguments)
        request = json.dumps({"years": list(YEARS), "grid_ids": list(CELLS)})
        asked = celery(environment, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)
        assert asked.returncode == 0, asked.stderr

        def masks_are_done() -> bool:
            done = [ledger.counts(Stage.BTC, period).get(State.COMPLETED, 0) for period in ("2021_2022", "2022_2023")]
            return done == [len(CELLS)] * 2

        wait_for(redis, masks_are_done, DEADLINE_S, running.logs)
    masks, truths = [], []
    with psycopg.connect(
        host=database["DB_HOST"], port=database["DB_PORT"], dbname=database["DB_NAME"],
        user=database["DB_USER"], password=database["DB_PASSWORD"],
    ) as reader:  # fmt: skip
        images = reader.execute("SELECT grid_id, year FROM eo ORDER BY 1, 2").fetchall()
        rows = reader.execute("SELECT grid_id, year_before, year_after, height, width, mask FROM eo_change").fetchall()
        patches = reader.execute("SELECT count(*), sum(area_ha) FROM eo_change_polygons").fetchone()
        changed = reader.execute("SELECT sum(changed_ha) FROM eo_changed_area").fetchone()
        covered = reader.execute("SELECT count(*) FROM eo_coverage WHERE has_image").fetchone()
    assert images == [(cell, year) for cell in CELLS for year in YEARS]
    assert patches is not None
    assert changed is not None
    assert patches[0] > 0
    assert patches[1] == pytest.approx(changed[0])
    assert covered == (6,)
    assert len(rows) == 4
    for cell, before, after, height, width, mask in rows:
        masks.append(np.frombuffer(mask, np.uint8).reshape(height, width) // 255)
        with rasterio.open(sample.truth_file(cell, before, after)) as truth:
            truths.append(truth.read(1))
    assert score(masks, truths).f1 > 0.8
    left = [path for path in data.rglob("*") if path.suffix in (".tiff", ".png")]
    if mode == "database_only":
        assert left == []
        return
    assert len(left) == 6 + 4 * 3
    exported = CliRunner().invoke(main, ["export", str(tmp_path / "exported")], env=environment)
    assert exported.exit_code == 0, exported.output
    for path in (*left, *data.glob("images/*/*.json"), *data.glob("masks/*/*.json")):
        assert sha256(tmp_path / "exported" / path.relative_to(data)) == sha256(path)
