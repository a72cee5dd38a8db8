"""A Docker engine: the one that runs, or one of our own in a folder, as root on Debian."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from verification.tell import NotHeldError, run, say, until

PACKAGES = ("docker.io", "docker-compose", "debootstrap", "make", "git")
START_S = 60


@contextlib.contextmanager
def engine(folder: Path, keep: bool) -> Iterator[Mapping[str, str]]:
    """Give the environment in which ``docker`` and ``$COMPOSE`` work."""
    environment = dict(os.environ)
    if _answers(environment):
        say("Using the Docker engine that runs.")
        yield environment | {"COMPOSE": _compose(environment)}
        return
    _install()
    # Debian's client beside Debian's engine, whatever else is on the path.
    environment |= {
        "PATH": f"/usr/bin:{environment['PATH']}",
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "DOCKER_BUILDKIT": "1",
        "COMPOSE_DOCKER_CLI_BUILD": "1",
        "COMPOSE_HTTP_TIMEOUT": "300",
    }
    process = _start(folder, environment)
    try:
        yield environment | {"COMPOSE": _compose(environment)}
    finally:
        if keep:
            say(f"The engine goes on: export DOCKER_HOST={environment['DOCKER_HOST']}; stop it with kill {process.pid}")
        else:
            process.terminate()
            process.wait(timeout=120)


def _start(folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """An engine without any rule in the machine's firewall: containers reach each other and nothing outside."""
    say("Starting a Docker engine.")
    log = (folder / "dockerd.log").open("wb")
    process = subprocess.Popen(
        [
            "dockerd", "--data-root", f"{folder}/engine", "--exec-root", f"{folder}/exec",
            "-p", f"{folder}/dockerd.pid", "-H", environment["DOCKER_HOST"], "--storage-driver", "overlay2",
            "--iptables=false", "--ip6tables=false", "--bip", "10.199.0.1/24",
            "--exec-opt", "native.cgroupdriver=cgroupfs",
        ],
        stdout=log,
        stderr=log,
        env=environment,
    )  # fmt: skip
    log.close()
    with contextlib.suppress(NotHeldError):
        until(lambda: _answers(environment) or process.poll() is not None, START_S, "dockerd")
    if not _answers(environment):
        said = (folder / "dockerd.log").read_text(errors="replace").splitlines()[-5:]
        raise NotHeldError("The Docker engine does not start: " + "\n".join(said))
    return process


def _answers(environment: Mapping[str, str]) -> bool:
    if shutil.which("docker", path=environment["PATH"]) is None:
        return False
    asked = subprocess.run(
        ["docker", "version", "-f", "{{.Server.Version}}"], env=environment, capture_output=True, check=False
    )
    return asked.returncode == 0


def _compose(environment: Mapping[str, str]) -> str:
    v2 = subprocess.run(["docker", "compose", "version"], env=environment, capture_output=True, check=False)
    return "docker compose" if v2.returncode == 0 else "docker-compose"


def _install() -> None:
    if all(shutil.which(name) for name in ("dockerd", "docker-compose", "debootstrap", "make", "git")):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise NotHeldError(
            "No Docker engine answers. Start one, or run this as root on Debian, where it starts its own."
        )
    say("Installing " + ", ".join(PACKAGES))
    quiet = dict(os.environ) | {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-qq"], quiet)
    run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], quiet)
