"""The Kubernetes manifests: objects, settings, secrets, and what runs; without a cluster."""

import re
from urllib.parse import urlsplit

import pytest

from eo_tasks.settings import load_settings
from tests.manifests import (
    COMPOSE,
    FIELDS,
    FOLDER,
    ROOT,
    SECRETS,
    SERVERS,
    WORKERS,
    Manifest,
    built,
    container,
    every_overlay,
    needs_kubectl,
    of_kind,
    ours,
    pods,
    run_by,
    selected,
    settings_of,
)

pytestmark = needs_kubectl

VERSIONS = ("1.30", "1.37")


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
    commands = {name: " ".join(run_by(one)) for name, one in ours(overlay).items() if name != "setup"}
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
        named = set(re.findall(r"\$\(([A-Z_]+)\)", " ".join(run_by(one))))
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
