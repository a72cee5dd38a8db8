"""``eo-tasks`` against a running system."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from redis import Redis

from eo_tasks.state.entry import Limits
from eo_tasks.state.ledger import Ledger
from eo_tasks.units import Stage, Unit
from tests.system import CONTROL, system

pytestmark = pytest.mark.integration

FAILED = Unit(Stage.DOWNLOAD, 463, (2021,))


def eo_tasks(environment: Mapping[str, str], cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eo_tasks.cli", *arguments],
        env=dict(environment), cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    """A ledger with one unit in flight and one that failed."""
    ledger = Ledger(redis, Limits())
    ledger.enqueue(FAILED)
    ledger.fail(ledger.begin(FAILED, "me", "cpu@host"), "SourceError: Cell 463, 2021: credits exhausted")
    ledger.enqueue(Unit(Stage.DOWNLOAD, 464, (2021,)))
    return ledger


def test_status_shows_states_queues_and_errors(environment: dict[str, str], ledger: Ledger, tmp_path: Path) -> None:
    shown = eo_tasks(environment, tmp_path, "status", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout) == {
        "units": {"download_2021": {"failed": 1, "enqueued": 1}},
        "queues": {"downloads": 0, "stores": 0, "btc": 0, "control": 0},
        "errors": {"download_463_2021": "SourceError: Cell 463, 2021: credits exhausted"},
    }
    assert "download_463_2021" in eo_tasks(environment, tmp_path, "status").stdout


def test_retry_takes_only_what_is_asked_for(environment: dict[str, str], ledger: Ledger, tmp_path: Path) -> None:
    other = eo_tasks(environment, tmp_path, "retry", "--cell", "464")
    assert (other.returncode, other.stderr) == (1, "Error: No failed unit matches; see eo-tasks status.\n")
    done = eo_tasks(environment, tmp_path, "retry", "--cell", "463", "--year", "2021")
    assert done.returncode == 0
    assert done.stdout == "1 units will be tried again within 15 s.\n"
    assert dict(ledger.waiting_for_a_person()) == {}


def test_enqueue_prints_what_is_planned(sample_environment: dict[str, str], redis: Redis, tmp_path: Path) -> None:
    with system(sample_environment, tmp_path) as running:
        running.start("control", CONTROL)
        asked = eo_tasks(sample_environment, tmp_path, "enqueue", "--years", "2021-2022", "--cells", "463")
    assert asked.returncode == 0, asked.stderr + running.logs()
    assert json.loads(asked.stdout)["planned"] == 5


@pytest.mark.parametrize("command", [("status",), ("retry",), ("enqueue", "--years", "2021")])
def test_wrong_password_of_redis_is_one_line(
    sample_environment: dict[str, str], command: tuple[str, ...], tmp_path: Path
) -> None:
    ended = eo_tasks(sample_environment | {"REDIS_PASSWORD": "wrong"}, tmp_path, *command)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: Redis at redis://127.0.0.1:")
    assert ended.stderr.endswith("refuses the password: check REDIS_PASSWORD.\n")
    assert "wrong" not in ended.stderr


@pytest.mark.parametrize("command", [("status",), ("retry",), ("enqueue", "--years", "2021")])
def test_redis_that_is_not_there_is_one_line(
    sample_environment: dict[str, str], command: tuple[str, ...], tmp_path: Path
) -> None:
    nowhere = {"REDIS_URL": "redis://127.0.0.1:9/0", "REDIS_RESULT_URL": "redis://127.0.0.1:9/1"}
    ended = eo_tasks(sample_environment | nowhere, tmp_path, *command)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: Redis at redis://127.0.0.1:9/0 does not work")
    assert len(ended.stderr.strip().splitlines()) == 1
