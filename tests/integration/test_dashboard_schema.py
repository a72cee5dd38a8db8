"""The dashboard's API is what its own description says, whatever is asked: hundreds of requests made from it."""

import os
from collections.abc import Iterator

import pytest
import schemathesis
from redis import Redis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from eo_tasks.grid import GridYear
from eo_tasks.local.redis_server import RedisServer
from tests.dashboard import TOKEN, Dashboard, dashboard
from tests.painted import paint
from tests.system import this_process

pytestmark = pytest.mark.integration

CELLS, YEARS = 3, (2021, 2022)
EXAMPLES = 10  # of each operation, beside the ones at the edges of what is described


@pytest.fixture(scope="module")
def country(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """A dashboard of three cells: two done, one whose download of 2022 failed."""
    folder = tmp_path_factory.mktemp("country")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV") if name in os.environ}
    environment = kept | dict(redis_server.environment) | {"DATA_DIR": str(folder / "data")}
    environment = paint(environment, folder / "grid.gpkg", CELLS, YEARS)
    environment |= {"IMAGERY_SOURCE": "stac", "STAC_URL": "nowhere/catalog.json"}
    for path in (folder / "data" / "images" / "2022").glob("sentinel2_grid_2_*"):
        path.unlink()
    with Redis(port=redis_server.port, password=redis_server.password, db=1) as redis:
        redis.flushall()
    with pytest.MonkeyPatch.context() as patch, this_process(environment, patch) as ledger:
        from eo_tasks.tasks.enqueue import enqueue_years

        enqueue_years(list(YEARS), None)
        lease = ledger.begin(GridYear(2, 2022).download, "me", "cpu@here")
        assert lease is not None
        ledger.fail(lease, "SourceError: Cell 2, 2022: no such scene")
    with dashboard(environment, folder / "dashboard") as running:
        yield running


@pytest.mark.parametrize("token", [None, TOKEN], ids=["anybody", "program"])
def test_every_answer_is_as_described(country: Dashboard, token: str | None) -> None:
    assert found(country, token) == []


def found(board: Dashboard, token: str | None) -> list[str]:
    """What is not as the dashboard's own description says, each with a request that shows it."""
    config = SchemathesisConfig.from_dict(
        {
            "seed": 7,
            "headers": {} if token is None else {"Authorization": f"Bearer {token}"},
            "continue-on-failure": True,
            "generation": {"max-examples": EXAMPLES, "deterministic": True, "no-shrink": True, "database": "none"},
        }
    )
    schema = schemathesis.openapi.from_url(f"{board.url}/api/v1/openapi.json", config=config)
    wrong, asked = [], 0
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            wrong.append(f"{event}")
        if isinstance(event, events.ScenarioFinished):
            asked += len(event.recorder.interactions)
            wrong += [
                f"{check.name}: {check.failure_info.failure.title}\n{check.failure_info.failure.message}\n"
                f"{check.failure_info.code_sample}"
                for checks in event.recorder.checks.values()
                for check in checks
                if check.failure_info is not None
            ]
    assert asked > 100
    return wrong
