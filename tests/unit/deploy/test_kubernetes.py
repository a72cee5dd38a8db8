"""The Kubernetes manifests, as kustomize builds them: what they must hold, without a cluster."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from kombu.transport.redis import Channel

from eo_tasks.celery import BTC, UNIT_QUEUES, app
from eo_tasks.settings import Settings, load_settings
from eo_tasks.state.keys import active_key
from eo_tasks.units import Stage

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
VERSIONS = ("1.30", "1.37")
FIELDS = {name.upper() for name in Settings.model_fields}
SECRETS = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
SERVERS = {"redis", "postgres"}  # not ours, and only in the demo
WORKERS = {"worker-cpu", "worker-gpu", "worker-control"}
YAMLLINT = "{extends: default, rules: {line-length: {max: 120}, document-start: disable}}"

Manifest = dict[str, Any]

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, which builds the overlays, is absent")


@cache
def built(overlay: str) -> tuple[Manifest, ...]:
    """Every object of an overlay."""
    done = subprocess.run(["kubectl", "kustomize", FOLDER / "overlays" / overlay], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, *kinds: str) -> dict[str, Manifest]:
    """Objects by name."""
    return {one["metadata"]["name"]: one for one in built(overlay) if one["kind"] in kinds}


def pods(overlay: str) -> dict[str, Manifest]:
    """Templates of pods by the name of what makes them."""
    made_by = of_kind(overlay, "Deployment", "StatefulSet", "Job")
    return {name: one["spec"]["template"] for name, one in made_by.items()}


def container(pod: Manifest) -> Manifest:
    """A pod's only container."""
    (only,) = pod["spec"]["containers"]
    return only


def ours(overlay: str) -> dict[str, Manifest]:
    """Containers that run the project's code, by name."""
    return {name: container(pod) for name, pod in pods(overlay).items() if name not in SERVERS}


def settings_of(overlay: str) -> dict[str, str]:
    """What the ConfigMap says."""
    (settings,) = (one for name, one in of_kind(overlay, "ConfigMap").items() if name.startswith("settings-"))
    return settings["data"]


def component(pod: Manifest) -> str:
    """What policies and budgets know a pod by."""
    return pod["metadata"]["labels"]["app.kubernetes.io/component"]


def selected(selector: Manifest, names: set[str]) -> set[str]:
    """Components among the named ones that a selector takes."""
    taken = set(names)
    for value in selector.get("matchLabels", {}).values():
        taken &= {value}
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        taken &= set(expression["values"])
    return taken


def every_overlay(function: Any) -> Any:
    """Run a test for each of them."""
    return pytest.mark.parametrize("overlay", OVERLAYS)(function)


# They can be applied


@every_overlay
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_one_that_kubernetes_knows_with_no_field_that_it_does_not(overlay: str, version: str):
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    for one in built(overlay):
        if one["apiVersion"].partition("/")[0] != "keda.sh":
            kubernetes_validate.validate(one, version, strict=True)


@every_overlay
def test_every_object_of_keda_is_one_that_it_knows_with_no_field_that_it_does_not(overlay: str):
    keda = pytest.importorskip("cloudcoil.models.keda.v1alpha1")
    for one in built(overlay):
        if one["apiVersion"] == "keda.sh/v1alpha1":
            read = getattr(keda, one["kind"]).model_validate(one)
            assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == one


def test_the_files_are_clean():
    done = subprocess.run(
        [sys.executable, "-m", "yamllint", "--strict", "-d", YAMLLINT, FOLDER], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@every_overlay
def test_everything_is_in_one_namespace_that_holds_pods_to_the_strictest_profile(overlay: str):
    (namespace,) = of_kind(overlay, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for one in built(overlay):
        if one["kind"] != "Namespace":
            assert one["metadata"]["namespace"] == namespace["metadata"]["name"]


@every_overlay
def test_whatever_is_named_is_there(overlay: str):
    claims, services = of_kind(overlay, "PersistentVolumeClaim"), of_kind(overlay, "Service")
    for name, pod in pods(overlay).items():
        given = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
        given |= {claim["metadata"]["name"]: {} for claim in claims_of(overlay, name)}
        assert {mount["name"] for mount in container(pod)["volumeMounts"]} == given.keys()
        for volume in given.values():
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            assert claim is None or claim in claims
            config_map = volume.get("configMap", {})
            assert config_map.get("optional", True)
    for name, service in services.items():
        assert selected({"matchLabels": service["spec"]["selector"]}, {name})
        ports = {port["name"] for port in container(pods(overlay)[name])["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for ingress in of_kind(overlay, "Ingress").values():
        for rule in ingress["spec"]["rules"]:
            assert {path["backend"]["service"]["name"] for path in rule["http"]["paths"]} <= services.keys()
    for scaled in of_kind(overlay, "ScaledObject").values():
        assert scaled["spec"]["scaleTargetRef"]["name"] in pods(overlay)
        logins = {trigger["authenticationRef"]["name"] for trigger in scaled["spec"]["triggers"]}
        assert logins <= of_kind(overlay, "TriggerAuthentication").keys()
    addresses = {urlsplit(url).hostname for url in (settings_of(overlay)["REDIS_URL"],)}
    addresses.add(settings_of(overlay)["DB_HOST"])
    assert all("." in address or address in services for address in addresses)


def claims_of(overlay: str, name: str) -> list[Manifest]:
    """Claims that a StatefulSet makes."""
    stateful = of_kind(overlay, "StatefulSet").get(name)
    return stateful["spec"]["volumeClaimTemplates"] if stateful else []


# Settings and secrets


@every_overlay
def test_every_setting_is_one_that_there_is_with_a_value_that_it_takes(overlay: str, monkeypatch: pytest.MonkeyPatch):
    given = settings_of(overlay)
    assert given.keys() <= FIELDS
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    load_settings()


@every_overlay
def test_the_config_map_holds_no_secret(overlay: str):
    assert not settings_of(overlay).keys() & SECRETS
    assert not re.search(r"//[^/]*@", str(settings_of(overlay)))


@every_overlay
def test_every_part_gets_the_same_settings(overlay: str):
    (name,) = (name for name in of_kind(overlay, "ConfigMap") if name.startswith("settings-"))
    for one in ours(overlay).values():
        assert one["envFrom"] == [{"configMapRef": {"name": name}}]


@every_overlay
def test_every_variable_is_a_setting_and_every_secret_comes_by_reference(overlay: str):
    assert not of_kind(overlay, "Secret")
    for one in ours(overlay).values():
        for variable in one.get("env", ()):
            assert variable["name"] in FIELDS
            assert ("value" in variable) != ("secretKeyRef" in variable.get("valueFrom", {}))
            assert variable["name"] not in SECRETS or "value" not in variable
    for name in SERVERS & pods(overlay).keys():
        for variable in container(pods(overlay)[name])["env"]:
            assert ("value" in variable) != bool(re.search("PASSWORD|AUTH", variable["name"]))


@every_overlay
def test_every_secret_that_is_asked_for_is_in_an_example_that_says_nothing(overlay: str):
    examples = {
        name: dict(re.findall(r"^(\w+)=(.*)$", (FOLDER / file).read_text(encoding="utf-8"), re.MULTILINE))
        for name, file in {
            "eo-tasks": "secrets.env.example",
            "eo-tasks-admin": "admin.env.example",
            "eo-tasks-keda": "keda.env.example",
        }.items()
    }
    assert not any(value for example in examples.values() for value in example.values())
    asked = {
        (reference["name"], reference["key"])
        for pod in pods(overlay).values()
        for variable in container(pod).get("env", ())
        if (reference := variable.get("valueFrom", {}).get("secretKeyRef"))
    }
    for login in of_kind(overlay, "TriggerAuthentication").values():
        asked |= {(target["name"], target["key"]) for target in login["spec"]["secretTargetRef"]}
    assert asked
    for name, key in asked:
        assert key in examples[name]


@every_overlay
def test_a_part_gets_the_secrets_that_it_needs_and_no_others(overlay: str):
    given = {
        name: {variable["name"] for variable in one.get("env", ()) if "valueFrom" in variable}
        for name, one in ours(overlay).items()
    }
    openeo = {name for name in SECRETS if name.startswith("OPENEO")}
    assert [name for name, names in given.items() if "DB_ADMIN_PASSWORD" in names] == ["setup"]
    assert {name for name, names in given.items() if names & openeo} == {"worker-cpu", "worker-control"}
    assert openeo <= given["worker-cpu"] & given["worker-control"]
    assert {name for name, names in given.items() if "DB_PASSWORD" in names} == WORKERS | {"dashboard", "setup"}
    assert {name for name, names in given.items() if "REDIS_PASSWORD" in names} == given.keys() - {"setup"}
    for secret, owner in {"DASHBOARD_PASSWORD": "dashboard", "FLOWER_BASIC_AUTH": "flower"}.items():
        assert [name for name, names in given.items() if secret in names] == [owner]
    for secret in ("ALERT_WEBHOOK_URL", "SMTP_PASSWORD"):
        assert [name for name, names in given.items() if secret in names] == ["worker-control"]


# What runs


@every_overlay
def test_a_part_runs_what_compose_runs(overlay: str):
    commands = {name: " ".join(one["command"]) for name, one in ours(overlay).items() if name != "setup"}
    of_compose = {name: COMPOSE[name]["command"] for name in commands}
    if "btc-cpu" in commands["worker-gpu"]:
        of_compose["worker-gpu"] = COMPOSE["worker-btc-cpu"]["command"]
    assert commands == {
        name: " ".join(command.split()).replace("${LOG_LEVEL:-INFO}", "$(LOG_LEVEL)")
        for name, command in of_compose.items()
    }


@every_overlay
def test_what_a_command_names_is_set(overlay: str):
    for one in ours(overlay).values():
        named = set(re.findall(r"\$\(([A-Z_]+)\)", " ".join(one["command"])))
        assert named <= settings_of(overlay).keys()


@every_overlay
def test_kubernetes_adds_no_variable_that_could_be_taken_for_a_setting(overlay: str):
    assert "FLOWER_PORT" in FIELDS  # what the links of a service called flower would set to tcp://…
    for pod in pods(overlay).values():
        assert pod["spec"]["enableServiceLinks"] is False


@every_overlay
def test_every_pod_keeps_to_the_restricted_profile(overlay: str):
    for name, pod in pods(overlay).items():
        spec, security = pod["spec"], container(pod)["securityContext"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all(volume.keys() <= VOLUMES for volume in spec.get("volumes", ()))
        assert security.get("readOnlyRootFilesystem") is True or name == "postgres"


VOLUMES = {"name", "configMap", "emptyDir", "persistentVolumeClaim"}


@every_overlay
def test_our_pods_run_as_the_user_of_the_images(overlay: str):
    users = set()
    for dockerfile in ("Dockerfile.cpu", "Dockerfile.gpu"):
        for stage in (ROOT / dockerfile).read_text(encoding="utf-8").split("\nFROM "):
            users.update(re.findall(r"^USER (\d+):(\d+)$", stage, re.MULTILINE)[-1:])  # the last one counts
    for name in ours(overlay):
        security = pods(overlay)[name]["spec"]["securityContext"]
        assert users == {(str(security["runAsUser"]), str(security["runAsGroup"]))}
        assert security["fsGroup"] == security["runAsGroup"]


@every_overlay
def test_no_image_floats_on_latest(overlay: str):
    for pod in pods(overlay).values():
        assert re.search(r":(?!latest)[\w.-]+$|@sha256:", container(pod)["image"])


@every_overlay
def test_everything_says_what_it_needs_and_may_take(overlay: str):
    for pod in pods(overlay).values():
        resources = container(pod)["resources"]
        assert resources["requests"].keys() >= {"cpu", "memory"}
        assert mebibytes(resources["limits"]["memory"]) > mebibytes(resources["requests"]["memory"])
    limit_gb = float(settings_of(overlay)["MEMORY_LIMIT_GB"])
    assert mebibytes(ours(overlay)["worker-cpu"]["resources"]["limits"]["memory"]) * 2**20 > limit_gb * 1.2e9


def mebibytes(quantity: str) -> int:
    """Of Kubernetes' words for memory, those in use here."""
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


def test_a_gpu_is_asked_for_where_there_is_one():
    def asked(overlay: str) -> tuple[object, object]:
        resources = ours(overlay)["worker-gpu"]["resources"]
        return resources["requests"].get("nvidia.com/gpu"), resources["limits"].get("nvidia.com/gpu")

    assert asked("production") == (1, 1)
    assert asked("demo") == (None, None)
    devices = [one["value"] for one in ours("production")["worker-gpu"]["env"] if one["name"] == "BTC_DEVICE"]
    assert devices == ["cuda"]
    assert {"nodeSelector", "tolerations"} <= pods("production")["worker-gpu"]["spec"].keys()


# Starting, staying alive, stopping


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


# Who reaches what


def allowed(overlay: str, direction: str) -> Iterator[tuple[str, int, Manifest]]:
    """Component, port and other side of everything that policies let through."""
    names, key = {component(pod) for pod in pods(overlay).values()}, direction.lower()
    for policy in of_kind(overlay, "NetworkPolicy").values():
        spec = policy["spec"]
        for rule in spec.get(key, ()):
            assert direction in spec["policyTypes"]
            for name in selected(spec["podSelector"], names):
                for port in rule["ports"]:
                    for peer in rule["to" if direction == "Egress" else "from"]:
                        yield name, port["port"], peer


@every_overlay
def test_nothing_goes_in_or_out_of_any_pod_that_is_not_named(overlay: str):
    closed = of_kind(overlay, "NetworkPolicy")["nothing"]["spec"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


@every_overlay
def test_a_policy_selects_pods_that_there_are(overlay: str):
    names = {component(pod) for pod in pods(overlay).values()}
    for policy in of_kind(overlay, "NetworkPolicy").values():
        selector = policy["spec"]["podSelector"]
        assert selected(selector, names)
        for expression in selector.get("matchExpressions", ()):
            assert set(expression["values"]) <= names


@every_overlay
def test_a_part_reaches_what_it_needs_and_nothing_else(overlay: str):
    reached: dict[int, set[str]] = {}
    for name, port, _ in allowed(overlay, "Egress"):
        reached.setdefault(port, set()).add(name)
    users = {name for name, one in ours(overlay).items() if "REDIS_PASSWORD" in str(one["env"])}
    readers = {name for name, one in ours(overlay).items() if "DB_PASSWORD" in str(one["env"])}
    assert reached == {
        53: set(pods(overlay)),
        443: WORKERS,
        465: {"worker-control"},
        587: {"worker-control"},
        6379: users,
        5432: readers,
    }


@every_overlay
def test_a_part_is_reached_only_by_who_should(overlay: str):
    outside = [{"kubernetes.io/metadata.name": name} for name in ("ingress-nginx", "monitoring")]
    reached: dict[str, list[Manifest]] = {}
    for name, _, peer in allowed(overlay, "Ingress"):
        reached.setdefault(name, []).append(peer)
    assert reached.keys() == of_kind(overlay, "Service").keys()
    for name in ("dashboard", "flower"):
        assert reached[name] == [{"namespaceSelector": {"matchLabels": labels}} for labels in outside]
    for name in SERVERS & reached.keys():
        inside = {who for peer in reached[name] for who in selected(peer["podSelector"], set(pods(overlay)))}
        assert inside == {who for who, _, peer in allowed(overlay, "Egress") if is_server(peer, name)}


def is_server(peer: Manifest, name: str) -> bool:
    """Whether the other side of a rule is that server."""
    return peer.get("podSelector", {}).get("matchLabels") == {"app.kubernetes.io/component": name}


@every_overlay
def test_https_does_not_reach_neighbours_or_the_metadata_of_the_cloud(overlay: str):
    blocks = [peer["ipBlock"] for _, port, peer in allowed(overlay, "Egress") if port == 443]
    (v4,) = {tuple(block["except"]) for block in blocks if block["cidr"] == "0.0.0.0/0"}
    assert set(v4) >= {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"}


# As many workers as the queues want


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
