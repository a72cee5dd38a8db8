"""The stack of one clone, spoken to by make, compose and docker, as an operator does."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verification.tell import NotHeldError, run, say

# Builds on the host's network: the engine of verify-compose gives containers none that leads out.
OVERRIDE = """services:
  setup: &host {build: {network: host}}
  worker-cpu: *host
  worker-control: *host
  worker-gpu: *host
  worker-btc-cpu: *host
  beat: *host
  flower: *host
  dashboard: *host
"""


@dataclass(frozen=True)
class Stack:
    """A clone of the project, and the environment that leads to the engine."""

    folder: Path
    environment: Mapping[str, str]

    @classmethod
    def cloned(cls, source: Path, folder: Path, environment: Mapping[str, str]) -> "Stack":
        """Clone the last commit; ports that others use already are avoided."""
        shutil.rmtree(folder, ignore_errors=True)
        run(["git", "clone", "--quiet", "--no-local", "--depth=1", f"file://{source}", str(folder)])
        commit = run(["git", "log", "-1", "--format=%h %s"], folder=folder).strip()
        say(f"Cloned {commit}")
        stack = cls(folder, environment)
        (folder / "docker-compose.override.yml").write_text(OVERRIDE, encoding="utf-8")
        stack.make("env")
        ports = {name: free_port() for name in ("MONITORING_PORT", "FLOWER_PORT", "REDIS_PORT", "DB_PORT")}
        with (folder / ".env").open("a", encoding="utf-8") as file:
            file.writelines(f"{name}={port}\n" for name, port in ports.items())
            file.write("MAX_WORKERS=1\n")  # so that there is a run to scale and to break
        return stack

    def make(self, target: str, *arguments: str) -> str:
        """``make target …`` as the README tells it."""
        return run(
            ["make", "--no-print-directory", target, *arguments, f"COMPOSE={self.environment['COMPOSE']}"],
            self.environment,
            self.folder,
        )

    def timed(self, target: str, *arguments: str) -> float:
        """Seconds that ``make target …`` takes."""
        begun = time.monotonic()
        self.make(target, *arguments)
        return time.monotonic() - begun

    def inside(self, service: str, *command: str, accepted: tuple[int, ...] = (0,)) -> str:
        """Run a command in the first container of a service."""
        return run(["docker", "exec", self.containers(service)[0], *command], self.environment, accepted=accepted)

    def ask(self, *words: str) -> Any:
        """``eo-tasks … --json`` in the control worker."""
        return json.loads(self.inside("worker-control", "eo-tasks", *words, "--json"))

    def containers(self, service: str, also_stopped: bool = False) -> list[str]:
        """Ids of the containers of a service, in order of their number."""
        filters = ["--filter", f"label=com.docker.compose.service={service}"]
        every = ["--all"] if also_stopped else []
        listed = run(["docker", "ps", *every, *filters, "--format", "{{.Names}} {{.ID}}"], self.environment)
        return [line.split()[1] for line in sorted(listed.splitlines())]

    def services(self) -> dict[str, list[str]]:
        """Running containers, as service → health (``running`` for one without a check)."""
        form = '{{.Label "com.docker.compose.service"}}\t{{.Status}}'
        found: dict[str, list[str]] = {}
        for line in run(["docker", "ps", "--format", form], self.environment).splitlines():
            service, _, status = line.partition("\t")
            health = next((word for word in ("unhealthy", "starting", "healthy") if word in status), "running")
            found.setdefault(service, []).append(health)
        return found

    def state(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container's process."""
        found: dict[str, Any] = json.loads(run(["docker", "inspect", container], self.environment))[0]
        return found

    def kill_from_outside(self, container: str) -> None:
        """Kill a container's first process, as the kernel does when memory is short: the engine then restarts it.

        ``docker kill`` would count as wish of a person, after which nothing comes back.
        """
        pid = self.state(container)["State"]["Pid"]
        if not pid:
            raise NotHeldError(f"{container} does not run")
        subprocess.run(["kill", "-KILL", str(pid)], check=True)


def free_port() -> int:
    """A port of the loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])
