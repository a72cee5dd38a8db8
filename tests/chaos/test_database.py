"""PostgreSQL crashes again and again while composites and masks are written into it."""

import json
from pathlib import Path

import pytest
from redis import Redis

from eo_tasks.grid import GridYear
from eo_tasks.sample import write_sample
from eo_tasks.settings import load_settings
from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.storage import open_database_store
from eo_tasks.storage.database import schema
from eo_tasks.storage.database.connection import Database, Login
from eo_tasks.units import Stage
from tests.integration.conftest import CHECKPOINT
from tests.postgres import PostgresServer, database_settings
from tests.system import BEAT, CONTROL, CPU, GPU, celery, system, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

CRASHES = 10
APART = 2  # units that end between two crashes
DEADLINE_S = 240


def test_a_database_that_crashes_under_load_loses_and_doubles_nothing(
    environment: dict[str, str],
    postgres_server: PostgresServer,
    database: dict[str, str],
    redis: Redis,
    tmp_path: Path,
) -> None:
    sample = write_sample(tmp_path / "sample")
    ledger = Ledger(redis, Limits())
    environment = environment | database | {
        "PIPELINE_MODE": "database_only",
        "GRID_FILE": str(sample.grid_file),
        "IMAGERY_SOURCE": "stac",
        "STAC_URL": str(sample.catalog),
        "BTC_MODEL_CHECKPOINT": str(CHECKPOINT),
        "LEASE_S": "3",
        "SWEEP_S": "2",
    }  # fmt: skip
    settings = load_settings(**database_settings(database))
    admin = Database(Login.of_admin(settings))
    schema.upgrade(admin)
    admin.close()
    pairs = list(zip(sample.years, sample.years[1:], strict=False))
    wanted = len(sample.grid_ids) * len(pairs)

    def ended() -> int:
        places = [(Stage.STORE, str(year)) for year in sample.years]
        places += [(Stage.BTC, f"{before}_{after}") for before, after in pairs]
        return sum(ledger.counts(*place).get(State.COMPLETED, 0) for place in places)

    def is_done() -> bool:
        done = [ledger.counts(Stage.BTC, f"{before}_{after}") for before, after in pairs]
        return sum(count.get(State.COMPLETED, 0) + count.get(State.SKIPPED, 0) for count in done) == wanted

    crashes = 0
    with system(environment, tmp_path / "logs") as running:
        for name, arguments in (("control", CONTROL), ("cpu", CPU), ("gpu", GPU), ("beat", BEAT)):
            running.start(name, arguments)
        request = json.dumps({"years": list(sample.years), "grid_ids": list(sample.grid_ids)})
        asked = celery(environment, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)
        assert asked.returncode == 0, asked.stderr
        while not is_done():
            seen = ended()
            wait_for(redis, lambda seen=seen: is_done() or ended() >= seen + APART, DEADLINE_S, running.logs)
            if not is_done():
                postgres_server.restart_immediately()
                crashes += 1
    assert crashes >= CRASHES
    store = open_database_store(settings)
    with postgres_server.connect(database["DB_NAME"]) as reader:
        images = reader.execute("SELECT grid_id, year FROM eo ORDER BY 1, 2").fetchall()
        masks = reader.execute("SELECT grid_id, year_before, year_after FROM eo_change ORDER BY 1, 2").fetchall()
    assert images == [(cell, year) for cell in sorted(sample.grid_ids) for year in sample.years]
    assert masks == [(cell, *pair) for cell in sorted(sample.grid_ids) for pair in pairs]
    (tmp_path / "read").mkdir()
    for year in sample.years:
        for grid_id, record in store.image_records(year).items():  # read whole, which checks the bytes
            assert store.get_image(GridYear(grid_id, year)).checksum == record["pixels_sha256"]
    for before, _ in pairs:
        for pair, record in store.mask_records(before).items():
            assert store.mask_files(pair, tmp_path / "read")[1] == record
    store.database.close()
    assert list(ledger.stuck_units()) == []
