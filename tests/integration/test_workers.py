"""What exists only inside a running worker, and what Flower shows of it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest
from redis import Redis

from eo_tasks.local.redis_server import free_port
from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.units import Stage
from tests.system import CONTROL, CPU, GPU, celery, system, wait_for

pytestmark = pytest.mark.integration

DEADLINE_S = 120


@pytest.mark.parametrize("arguments", [CPU, CONTROL, GPU], ids=["cpu", "control", "gpu"])
def test_worker_touches_its_heartbeat_file_while_it_lives_and_removes_it_when_it_stops(
    sample_environment: dict[str, str], redis: Redis, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    heartbeat = tmp_path / "heartbeat"
    with system(sample_environment | {"HEARTBEAT_FILE": str(heartbeat)}, tmp_path / "logs") as running:
        running.start("worker", arguments)
        wait_for(redis, heartbeat.exists, DEADLINE_S, running.logs)
        wait_for(redis, lambda: "ready." in running.logs(), DEADLINE_S, running.logs)
        worker = running.processes["worker"]
        os.kill(worker.pid, signal.SIGTERM)
        assert worker.wait(DEADLINE_S) == 0
        assert not heartbeat.exists()


def test_gpu_worker_is_ready_when_its_process_has_loaded_the_network_and_only_that_has_torch(
    sample_environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    with system(sample_environment, tmp_path / "logs") as running:
        running.start("worker", GPU)
        wait_for(redis, lambda: "ready." in running.logs(), DEADLINE_S, running.logs)
        log = (tmp_path / "logs" / "worker.log").read_text()
        parent = psutil.Process(running.processes["worker"].pid)
        with_torch = {process.pid for process in (parent, *parent.children()) if has_torch(process)}
        assert parent.pid not in with_torch  # nothing that could touch CUDA before the process is made
        assert len(with_torch) == 1
    assert 0 <= log.find("BTC network loaded: ") < log.find("ready.")


def has_torch(process: psutil.Process) -> bool:
    return "libtorch" in Path(f"/proc/{process.pid}/maps").read_text()


def test_cpu_and_control_workers_need_no_torch() -> None:
    block = "import sys; sys.modules['torch'] = sys.modules['transformers'] = sys.modules['cv2'] = None; "
    subprocess.run([sys.executable, "-c", block + "import workers.cpu, beat, eo_tasks.tasks"], check=True)


def test_flower_has_a_page_for_a_unit_under_its_name(
    sample_environment: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    ledger, port = Ledger(redis, Limits()), free_port()
    with system(sample_environment, tmp_path / "logs") as running:
        running.start("flower", ("-A", "eo_tasks", "flower", "--address=127.0.0.1", f"--port={port}"))
        wait_for(redis, lambda: "Connected to" in running.logs(), DEADLINE_S, running.logs)
        running.start("cpu", CPU)
        running.start("control", CONTROL)
        request = json.dumps({"years": [2021], "grid_ids": [463]})
        celery(sample_environment, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)

        def is_stored() -> bool:
            return ledger.counts(Stage.STORE, "2021").get(State.COMPLETED) == 1

        wait_for(redis, is_stored, DEADLINE_S, running.logs)
        with urlopen(f"http://127.0.0.1:{port}/task/download_463_2021", timeout=30) as page:
            text = page.read().decode()
    assert "eo_tasks.download" in text
    assert "download_463_2021" in text
