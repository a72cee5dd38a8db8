"""The Kubernetes manifests, as kustomize builds them."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from eo_tasks.settings import Settings

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
FIELDS = {name.upper() for name in Settings.model_fields}
SECRETS = {name.upper() for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
SERVERS = {"redis", "postgres"}  # not ours, and only in the demo
WORKERS = {"worker-cpu", "worker-gpu", "worker-control"}

Manifest = dict[str, Any]

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="kubectl, which builds the overlays, is absent"
)


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


def run_by(container: Manifest) -> list[str]:
    """The program of a container of ours: what workers are started through is common to them."""
    return container.get("args") or container["command"]


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
