"""The images that others publish: pulled where a registry answers, else stand-ins made from Debian's packages.

A stand-in carries the published name. It has the programs, accounts and folders that docker-compose.yml and the
Dockerfiles count on, and this machine's settings for pip, which the product's own files know nothing of.
"""

import http.server
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from verification.figures import Figures
from verification.tell import NotHeldError, run, say

PYTHON = "python:3.11-slim-bookworm"
REDIS = "redis:7-bookworm"
DATABASE = "timescale/timescaledb-ha:pg17.10-ts2.28.2"
CUDA = "nvidia/cuda:13.0.3-base-ubuntu24.04"
SUITE = "bookworm"

_REDIS = f"""
FROM {PYTHON}
RUN apt-get update && apt-get install -y --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/* \\
 && install -d -o redis -g redis /data
WORKDIR /data
VOLUME /data
CMD ["redis-server"]
"""

_DATABASE = f"""
FROM {PYTHON}
RUN apt-get update && apt-get install -y --no-install-recommends postgresql postgresql-postgis \\
 && rm -rf /var/lib/apt/lists/* \\
 && install -d -o postgres -g postgres -m 700 /home/postgres/pgdata/data \\
 && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ 2>/dev/null || true
COPY start-postgres /usr/local/bin/
ENV PGDATA=/home/postgres/pgdata/data
USER postgres
STOPSIGNAL SIGINT
ENTRYPOINT ["/usr/local/bin/start-postgres"]
"""

# What the published image does with POSTGRES_DB, POSTGRES_USER and POSTGRES_PASSWORD on the first start.
_START_POSTGRES = r"""#!/bin/sh
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  umask 077
  printf '%s' "$POSTGRES_PASSWORD" >/tmp/password
  initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-host=scram-sha-256 --auth-local=trust \
    --encoding=UTF8 --locale=C.UTF-8 >/dev/null
  rm /tmp/password
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  pg_ctl -w -o "-c listen_addresses=" start >/dev/null
  createdb --username="$POSTGRES_USER" "$POSTGRES_DB"
  pg_ctl -w -m fast stop >/dev/null
fi
exec postgres -c listen_addresses='*'
"""


def provide_bases(folder: Path, environment: Mapping[str, str], figures: Figures) -> None:
    """Have all base images in the engine."""
    if all(_has(name, environment) for name in (PYTHON, REDIS, DATABASE, CUDA)):
        _serve_wheels()  # a stand-in that is kept still asks here
        return
    if _pull(REDIS, environment):
        for name in (PYTHON, DATABASE, CUDA):
            run(["docker", "pull", "--quiet", name], environment)
        figures.add("base images", "", "the published ones")
        return
    say("No registry answers: making stand-ins for the base images.")
    root = folder / "root"
    if not (root / "made").exists():
        shutil.rmtree(root, ignore_errors=True)
        packages = "ca-certificates,python3,python3-venv,python3-pip"
        run(["debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(root)], environment)
        (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
        shutil.rmtree(root / "var/cache/apt/archives")
        _configure_pip(root)
        (root / "made").touch()
    _import(root, (PYTHON, CUDA), environment)
    _build(folder / "redis", REDIS, {"Dockerfile": _REDIS}, environment)
    _build(folder / "database", DATABASE, {"Dockerfile": _DATABASE, "start-postgres": _START_POSTGRES}, environment)
    sizes = ", ".join(f"{name} {megabytes(name, environment)}" for name in (PYTHON, REDIS, DATABASE))
    figures.add("base images", "", f"stand-ins: {sizes}; the CUDA base is the Python one under another name")


def megabytes(image: str, environment: Mapping[str, str]) -> str:
    """The size of an image, as people say it."""
    size = int(run(["docker", "image", "inspect", "-f", "{{.Size}}", image], environment)) / 1e6
    return f"{size / 1000:.2f} GB" if size >= 1000 else f"{size:.0f} MB"


def _has(image: str, environment: Mapping[str, str]) -> bool:
    return (
        subprocess.run(
            ["docker", "image", "inspect", image], env=environment, capture_output=True, check=False
        ).returncode
        == 0
    )


def _pull(image: str, environment: Mapping[str, str]) -> bool:
    command = ["docker", "pull", "--quiet", image]
    try:
        return subprocess.run(command, env=environment, capture_output=True, timeout=120, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _import(root: Path, names: tuple[str, ...], environment: Mapping[str, str]) -> None:
    archive = subprocess.Popen(
        ["tar", "-C", str(root), "--exclude=./proc/*", "--exclude=./sys/*", "-c", "."], stdout=subprocess.PIPE
    )
    done = subprocess.run(
        ["docker", "import", "--change", 'CMD ["python3"]', "-", names[0]],
        stdin=archive.stdout,
        env=environment,
        capture_output=True,
        check=False,
    )
    if archive.wait() != 0 or done.returncode != 0:
        raise NotHeldError(f"docker import: {done.stderr.decode()}")
    for name in names[1:]:
        run(["docker", "tag", names[0], name], environment)


def _build(context: Path, tag: str, files: Mapping[str, str], environment: Mapping[str, str]) -> None:
    context.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (context / name).write_text(text.lstrip("\n"), encoding="utf-8")
        (context / name).chmod(0o755)
    run(["docker", "build", "--network", "host", "--tag", tag, str(context)], environment)


def _configure_pip(root: Path) -> None:
    """Give a stand-in this machine's certificates, and the wheels that its pip finds in folders."""
    certificates = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    lines = ["[global]", "timeout = 180"]
    if certificates:
        bundle = root / "etc/ssl/certs/ca-certificates.crt"
        bundle.write_bytes(Path(certificates).read_bytes())
        lines.append("cert = /etc/ssl/certs/ca-certificates.crt")
    if address := _serve_wheels():
        lines += [f"find-links = {address}", "trusted-host = 127.0.0.1"]
    (root / "etc/pip.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _serve_wheels() -> str | None:
    """Serve the folder of PIP_FIND_LINKS on the loopback, as long as this process lives; builds see no folder."""
    wheels = os.environ.get("PIP_FIND_LINKS", "")
    if not Path(wheels).is_dir() or not wheels:
        return None

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", WHEELS_PORT), partial(Quiet, directory=wheels))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{WHEELS_PORT}/"


WHEELS_PORT = 18431
