"""What the project is made of, and the checks of what deploys it."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[3]


def run_in(folder: Path, *command: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a command in a folder, with the tools of this environment first on the path."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"PATH": path})


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy that a test may break."""
    for name in ("deploy", "scripts", ".ci", ".github"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("docker-compose.yml", "Dockerfile.cpu", "Dockerfile.gpu"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_what_deploys_the_project_has_no_finding():
    done = run_in(ROOT, "scripts/check-deploy")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_finding_is_told_and_the_other_checks_go_on(copy: Path):
    compose = copy / "docker-compose.yml"
    compose.write_text(compose.read_text(encoding="utf-8") + "\nservise: {}\n", encoding="utf-8")
    dockerfile = copy / "Dockerfile.cpu"
    dockerfile.write_text(dockerfile.read_text(encoding="utf-8") + "\nUSER root\n", encoding="utf-8")
    done = run_in(copy, "scripts/check-deploy")
    assert done.returncode == 1
    assert re.search(r"FAILED +compose files: schema", done.stdout)
    assert re.search(r"FAILED +Dockerfiles: hadolint", done.stdout)
    assert re.search(r"ok +shell scripts", done.stdout)


def test_every_licence_is_known():
    done = run_in(ROOT, sys.executable, "scripts/licences")
    assert done.returncode == 0, done.stderr
    listed = (ROOT / "build" / "licences.md").read_text(encoding="utf-8")
    assert re.search(r"\| celery \| [\d.]+ \| BSD", listed)


def test_a_licence_that_is_not_known_is_told(copy: Path):
    script = copy / "scripts" / "licences"
    script.write_text(script.read_text(encoding="utf-8").replace(r"|LGPL-3\.0-only", ""), encoding="utf-8")
    done = run_in(copy, sys.executable, "scripts/licences")
    assert done.returncode == 1
    assert "psycopg" in done.stderr


def test_every_direct_dependency_is_pinned_by_the_constraints():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    assert {canonicalize_name(Requirement(one).name) for one in named} - {"eo-tasks"} <= pinned


def test_actions_are_fixed_by_commit_and_may_only_read():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"]) for step in steps if "uses" in step)
    assert ".ci/run" in [step.get("run") for step in steps]


def test_the_bill_of_materials_names_what_is_installed(tmp_path: Path):
    out = tmp_path / "sbom.json"
    command = ["cyclonedx-py", "environment", "--pyproject", "pyproject.toml", "--output-reproducible"]
    done = run_in(ROOT, *command, "--of", "JSON", "--output-file", out, sys.prefix)
    assert done.returncode == 0, done.stderr
    names = {component["name"].lower() for component in json.loads(out.read_text(encoding="utf-8"))["components"]}
    assert {"celery", "torch", "redis"} <= names
