"""Downloading alone from a real openEO server, one request a cell, without Redis."""

from pathlib import Path

import geopandas
import pytest
from shapely.geometry import box

from eo_tasks import ImageStore, SentinelDownloader
from eo_tasks.errors import AccountError
from eo_tasks.settings import Settings, load_settings
from eo_tasks.sources.openeo.backend import disconnect
from tests.openeo_backend.faulty import PASSWORD, RESULT, USER, Fault, FaultyBackend

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with FaultyBackend(tmp_path_factory.mktemp("faulty"), synchronous_s=0.02) as running:
        yield running


@pytest.fixture
def settings(server: FaultyBackend, tmp_path: Path) -> Settings:
    """Two cells, and an account at the server."""
    squares = [box(500_000 + n * 500, 5_140_000, 500_500 + n * 500, 5_140_500) for n in range(2)]
    geopandas.GeoDataFrame(geometry=squares, crs=32633).to_file(tmp_path / "grid.gpkg")
    server.set_faults()
    yield load_settings(
        data_dir=tmp_path / "data",
        grid_file=tmp_path / "grid.gpkg",
        imagery_source="openeo",
        openeo_mode="synchronous",
        openeo_url=server.url,
        openeo_auth_method="basic",
        openeo_username=USER,
        openeo_password=PASSWORD,
        openeo_answer_s=5,
    )
    server.set_faults()
    disconnect()


def test_a_year_is_downloaded_although_the_server_is_busy_once(server: FaultyBackend, settings: Settings) -> None:
    busy = {"status": 429, "code": "TooManyRequests", "headers": {"Retry-After": "3"}}
    server.set_faults(Fault("POST", RESULT, busy, times=1))
    waits: list[float] = []
    asked = len(server.audit("synchronous"))
    made = SentinelDownloader(settings, wait=waits.append).process_year(2023)
    assert (made.done, made.failed, waits) == (2, 0, [3]), made.failures
    assert len(server.audit("synchronous")) == asked + 2
    assert ImageStore(settings).process_year(2023).done == 2
    again = SentinelDownloader(settings).process_year(2023)
    assert (again.done, again.skipped) == (0, 2)
    assert len(server.audit("synchronous")) == asked + 2  # a request is paid for once


def test_an_account_without_credits_ends_the_call(server: FaultyBackend, settings: Settings) -> None:
    server.set_faults(Fault("POST", RESULT, {"status": 402, "code": "PaymentRequired"}))
    with pytest.raises(AccountError, match="Cell 0, 2023"):
        SentinelDownloader(settings).process_year(2023)
