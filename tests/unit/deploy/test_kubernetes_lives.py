"""The Kubernetes manifests: starting, staying alive, stopping, and as many workers as the queues want."""

import os
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from kombu.transport.redis import Channel

from eo_tasks.celery import BTC, UNIT_QUEUES, app
from eo_tasks.settings import Settings
from eo_tasks.state.keys import active_key
from eo_tasks.units import Stage
from tests.manifests import (
    COMPOSE,
    ROOT,
    WORKERS,
    Manifest,
    container,
    every_overlay,
    needs_kubectl,
    of_kind,
    ours,
    pods,
    selected,
    settings_of,
)

pytestmark = needs_kubectl


@every_overlay
def test_everything_that_stays_is_probed(overlay: str):
    for name, pod in pods(overlay).items():
        if name != "setup":
            probes = container(pod)
            assert "livenessProbe" in probes
            assert {"startupProbe", "readinessProbe"} & probes.keys() or name == "beat"
            assert ("readinessProbe" in probes) == (name in of_kind(overlay, "Service"))


@every_overlay
def test_a_stopped_worker_has_time_to_hand_its_units_back(overlay: str):
    for name in WORKERS:
        grace_s = pods(overlay)[name]["spec"]["terminationGracePeriodSeconds"]
        assert f"{grace_s}s" == COMPOSE[name]["stop_grace_period"]
        assert grace_s > app.conf.worker_soft_shutdown_timeout


@every_overlay
def test_a_worker_that_loads_the_network_has_as_long_as_it_waits_for_it(overlay: str):
    (load_s,) = re.findall(r"^LOAD_S = (\d+)", (ROOT / "workers" / "gpu.py").read_text(encoding="utf-8"), re.MULTILINE)
    probe = ours(overlay)["worker-gpu"]["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= int(load_s)


def is_content(probe: Manifest, folder: Path, python: str = "exit 1") -> bool:
    """Run a worker's probe where /tmp is that folder, and where `python` does what it is told to."""
    heartbeat, tools = folder / "heartbeat", folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "python").write_text(f"#!/bin/sh\n{python}\n")
    (tools / "python").chmod(0o755)
    command = [part.replace("/tmp/", f"{folder}/") for part in probe["exec"]["command"]]
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "HEARTBEAT_FILE": str(heartbeat)}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True).returncode == 0


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_what_a_killed_container_left_in_the_tmp_of_its_pod_is_no_sign_of_life(tmp_path: Path, name: str):
    heartbeat, stale = tmp_path / "heartbeat", tmp_path / "eo-tasks-10001-7"
    heartbeat.touch()
    stale.mkdir()
    os.mkfifo(stale / "ready")
    (worker,) = (one for part, one in ours("production").items() if part == name)
    command = [part.replace("/tmp/", f"{tmp_path}/") for part in worker["command"]]
    say = [*command, "echo", *worker["args"]]
    done = subprocess.run(say, env=os.environ | {"HEARTBEAT_FILE": str(heartbeat)}, capture_output=True, text=True)
    assert done.stdout.split() == worker["args"]
    assert not heartbeat.exists()
    assert not stale.exists()


def test_a_worker_is_started_when_its_network_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from workers import ready

    monkeypatch.setattr(ready, "gettempdir", lambda: str(tmp_path))
    probe = ours("production")["worker-gpu"]["startupProbe"]
    waits = ready.WaitForProcess(SimpleNamespace())
    assert not is_content(probe, tmp_path)
    (tmp_path / "heartbeat").touch()
    assert not is_content(probe, tmp_path)
    waits._leave()
    assert is_content(probe, tmp_path)


def test_a_worker_is_alive_while_its_loop_turns_or_redis_is_away(tmp_path: Path):
    probe = ours("production")["worker-cpu"]["livenessProbe"]
    heartbeat = tmp_path / "heartbeat"
    heartbeat.touch()
    assert is_content(probe, tmp_path, python="exit 0")
    os.utime(heartbeat, (0, 0))
    assert not is_content(probe, tmp_path, python="exit 0")  # Redis answers, and the loop hangs
    assert is_content(probe, tmp_path, python="exit 1")


@every_overlay
def test_the_probes_in_python_name_what_there_is(overlay: str):
    programs = [
        part if one["livenessProbe"]["exec"]["command"][0] == "python" else re.findall(r"'([^']+)'", part)[0]
        for name, one in ours(overlay).items()
        if "exec" in one.get("livenessProbe", {})
        for part in [one["livenessProbe"]["exec"]["command"][-1]]
    ]
    assert len(programs) == len(WORKERS) + 1
    for program in programs:
        imports = "\n".join(re.findall(r"from [\w.]+ import \w+", program))
        exec(compile(imports, "probe", "exec"), {})  # noqa: S102
        compile(program, "probe", "exec")
    (of_beat,) = (program for program in programs if "redbeat" in program)
    schedule = (ROOT / "beat" / "schedule.py").read_text(encoding="utf-8")
    (prefix,) = re.findall(r'redbeat_key_prefix="(.*)"', schedule)
    assert f'"{prefix}:lock"' in of_beat


@every_overlay
def test_what_there_is_more_than_one_of_is_never_drained_all_at_once(overlay: str):
    budgets = {
        name
        for budget in of_kind(overlay, "PodDisruptionBudget").values()
        for name in selected(budget["spec"]["selector"], set(pods(overlay)))
    }
    several = {name for name, one in of_kind(overlay, "Deployment").items() if one["spec"].get("replicas", 1) > 1}
    several |= {
        one["spec"]["scaleTargetRef"]["name"]
        for one in of_kind(overlay, "ScaledObject").values()
        if one["spec"]["maxReplicaCount"] > 1
    }
    assert "beat" in several
    assert several <= budgets
    single = {name for name, one in of_kind(overlay, "Deployment").items() if one["spec"].get("replicas") == 1}
    assert not budgets & single  # such a budget holds up every drain


def test_cpu_workers_are_spread_over_nodes():
    (rule,) = pods("production")["worker-cpu"]["spec"]["topologySpreadConstraints"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"
    assert selected(rule["labelSelector"], set(pods("production"))) == {"worker-cpu"}


def triggers(name: str) -> list[Manifest]:
    """What a worker of the production overlay is scaled by."""
    return [one["metadata"] for one in of_kind("production", "ScaledObject")[name]["spec"]["triggers"]]


def test_workers_are_scaled_by_the_queues_that_they_take_from():
    lists = {name: [one["listName"] for one in triggers(name)] for name in ("worker-cpu", "worker-gpu")}
    assert lists == {"worker-cpu": ["downloads", "stores"], "worker-gpu": [BTC, active_key(Stage.BTC)]}
    assert {*lists["worker-cpu"], BTC} == set(UNIT_QUEUES)


@pytest.mark.parametrize("queue", UNIT_QUEUES)
def test_a_queue_is_one_list_of_its_own_name(queue: str):
    class Steps:  # of kombu's channel only the names of lists are of interest
        priority_steps, sep = Channel.priority_steps, Channel.sep
        priority = Channel.priority

    assert Channel._q_for_pri(Steps(), queue, 0) == queue
    routes = [route for route in app.conf.task_routes.values() if route["queue"] == queue]
    assert routes
    assert not any("priority" in route for route in routes)  # else there were a list for each
    assert app.conf.task_default_priority is None
    assert "global_keyprefix" not in app.conf.broker_transport_options


def test_a_list_is_looked_for_in_the_database_that_it_is_in():
    settings = settings_of("production")
    databases = {
        "broker": urlsplit(settings["REDIS_URL"]).path[1:],
        "results": urlsplit(settings["REDIS_RESULT_URL"]).path[1:],
    }
    for name in ("worker-cpu", "worker-gpu"):
        for one in triggers(name):
            assert one.keys() == {"listName", "listLength", "databaseIndex"}
            assert one["databaseIndex"] == databases["broker" if one["listName"] in UNIT_QUEUES else "results"]


def test_units_in_flight_hold_the_last_gpu_and_ask_for_no_second_one():
    most = Settings.model_fields["max_in_flight"].default
    (in_flight,) = (one for one in triggers("worker-gpu") if one["listName"] == active_key(Stage.BTC))
    assert int(in_flight["listLength"]) == most
    spec = of_kind("production", "ScaledObject")["worker-gpu"]["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 2)


def test_full_queues_ask_for_all_workers():
    most = Settings.model_fields["max_in_flight"].default
    for name, scaled in of_kind("production", "ScaledObject").items():
        wanted = max(-(-most // int(one["listLength"])) for one in triggers(name))
        assert wanted >= scaled["spec"]["maxReplicaCount"]


def test_no_cpu_worker_is_taken_away_before_what_was_begun_has_ended():
    spec = of_kind("production", "ScaledObject")["worker-cpu"]["spec"]
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    longest_s = app.conf.task_annotations["eo_tasks.download"]["soft_time_limit"]
    assert behaviour["scaleDown"]["stabilizationWindowSeconds"] >= longest_s
    assert spec["minReplicaCount"] == 1


def test_what_keda_scales_has_no_fixed_number():
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in of_kind("production", "ScaledObject").values()}
    for name in scaled:
        assert "replicas" not in of_kind("production", "Deployment")[name]["spec"]
