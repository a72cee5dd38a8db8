"""The sample, made once for all integration tests."""

from pathlib import Path

import pytest

from eo_tasks.sample import Sample, write_sample

CHECKPOINT = Path(__file__).parents[2] / "eo_tasks" / "sample" / "checkpoint"


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """The sample area's scenes, grid and truth."""
    return write_sample(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def sample_environment(environment: dict[str, str], sample: Sample) -> dict[str, str]:
    """The environment of a worker that maps the sample area; short leases, so that a test sees them end."""
    return environment | {
        "GRID_FILE": str(sample.grid_file),
        "IMAGERY_SOURCE": "stac",
        "STAC_URL": str(sample.catalog),
        "BTC_MODEL_CHECKPOINT": str(CHECKPOINT),
        "LEASE_S": "3",
        "SWEEP_S": "2",
    }
