"""What ``verify-compose`` does with the stack, in order."""

import hashlib
import json
import stat
import time
from collections.abc import Callable
from secrets import token_hex

from verification.bases import megabytes
from verification.figures import Figures
from verification.hub import NETWORK, hub
from verification.stack import Stack
from verification.tell import NotHeldError, run, say, until

CELLS = range(463, 469)
YEARS = (2022, 2023, 2024)
EARLIER = 2021
CPU_WORKERS = 3
READY_S, RUN_S = 300, 1500
ONE_SHOT = "setup"
INSTALLED = "/opt/venv/lib/python3.11/site-packages/workers/__init__.py"
AS_IN_COMPOSE = ("docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp")  # noqa: S108
LONG_RUNNING = {"redis", "timescaledb", "worker-cpu", "worker-control", "worker-btc-cpu", "beat", "flower", "dashboard"}


def verify(stack: Stack, figures: Figures, with_gpu_image: bool, keep: bool) -> None:
    """Do it all; the first thing that does not hold ends it."""
    _start(stack, figures)
    _look_at_containers(stack, figures)
    if with_gpu_image:
        _build_gpu_image(stack, figures)
    _map_while_things_break(stack, figures)
    _ask_again(stack, figures)
    _call_the_producer(stack, figures)
    _lose_everything(stack, figures)
    _upgrade_in_a_run(stack, figures)
    if not keep:
        _stop(stack, figures)


def _start(stack: Stack, figures: Figures) -> None:
    say("make up: building and starting everything.")
    command = f"make up COMPOSE={stack.environment['COMPOSE']}"
    built_s = stack.timed("up")
    healthy_s = until(lambda: _is_ready(stack), READY_S, "all containers healthy")
    again_s = stack.timed("up")
    until(lambda: _is_ready(stack), READY_S, "all containers healthy")
    figures.add("start, with all builds", command, f"{_minutes(built_s)}; all healthy {healthy_s:.0f} s later")
    figures.add("the same again", command, f"{again_s:.0f} s")


def _is_ready(stack: Stack) -> bool:
    found = stack.services()
    return found.keys() >= LONG_RUNNING and all(
        state in ("healthy", "running") for all_ in found.values() for state in all_
    )


def _look_at_containers(stack: Stack, figures: Figures) -> None:
    mode = stat.S_IMODE((stack.folder / ".env").stat().st_mode)
    _hold(mode == 0o600, f".env has mode {mode:o}")
    secrets = [
        line.partition("=")[2]
        for line in (stack.folder / ".env").read_text(encoding="utf-8").splitlines()
        if not line.startswith("#") and ("PASSWORD" in line.partition("=")[0] or "AUTH" in line.partition("=")[0])
    ]
    for service in sorted(LONG_RUNNING | {ONE_SHOT}):
        for container in stack.containers(service, also_stopped=True):
            known = stack.state(container)
            config, host = known["Config"], known["HostConfig"]
            if service != "timescaledb":
                _hold(host["ReadonlyRootfs"], f"{service}: its root file system can be written to")
                _hold(config["User"] not in ("", "0", "root"), f"{service}: runs as root")
                _hold(host["CapDrop"] == ["ALL"], f"{service}: keeps capabilities")
            bindings = [one["HostIp"] for ports in (host["PortBindings"] or {}).values() for one in ports]
            _hold(all(address == "127.0.0.1" for address in bindings), f"{service}: listens on {bindings}")
            _hold(
                not any(secret in " ".join(known["Args"]) for secret in secrets), f"{service}: a secret in its command"
            )
    for image in ("eo-tasks-cpu:local", "eo-tasks-btc-cpu:local"):
        layers = run(["docker", "history", "--no-trunc", image], stack.environment)
        layers += run(["docker", "image", "inspect", image], stack.environment)
        _hold(not any(secret in layers for secret in secrets), f"{image}: a secret in its layers")
        figures.add(f"size of {image}", f"docker image inspect {image}", megabytes(image, stack.environment))
    packages = stack.inside("worker-cpu", "ls", "/opt/venv/lib/python3.11/site-packages").split()
    _hold(not {"torch", "nvidia"} & set(packages), "the image of CPU workers has torch or CUDA in it")
    figures.add(
        "users, root file systems, capabilities, ports, secrets",
        "docker inspect",
        "as the file says, in all containers",
    )


def _build_gpu_image(stack: Stack, figures: Figures) -> None:
    say("Building Dockerfile.gpu.")
    begun = time.monotonic()
    command = [*stack.environment["COMPOSE"].split(), "--profile", "gpu", "build", "worker-gpu"]
    run(command, stack.environment, stack.folder)
    figures.add("build of the GPU image", " ".join(command), _minutes(time.monotonic() - begun))
    size = megabytes("eo-tasks-gpu:local", stack.environment)
    figures.add("size of eo-tasks-gpu:local", "docker image inspect eo-tasks-gpu:local", size)
    look = "import eo_tasks.btc.engine, torch; print(torch.__version__)"
    started = run([*AS_IN_COMPOSE, "eo-tasks-gpu:local", "python3", "-c", look], stack.environment)
    figures.add(
        "the GPU image starts",
        "docker run --rm --read-only --tmpfs /tmp eo-tasks-gpu:local …",
        f"torch {started.strip()}",
    )
    _put_network_into_image(stack, figures)


def _put_network_into_image(stack: Stack, figures: Figures) -> None:
    tag = "eo-tasks-gpu:with-model"
    look = (
        "from huggingface_hub import hf_hub_download\n"
        "print(open(hf_hub_download('blaz-r/BTC-B_oscd96', 'model.safetensors', revision='main')).read())"
    )
    with hub() as address:
        command = ["docker", "build", "--network", "host", "--build-arg", f"HF_ENDPOINT={address}"]
        command += ["--file", "Dockerfile.gpu", "--target", "with-model", "--tag", tag, "."]
        run(command, stack.environment, stack.folder)
    read = run([*AS_IN_COMPOSE, "--network", "none", tag, "python3", "-c", look], stack.environment)
    _hold(read.strip() == NETWORK.decode(), "the network is not in the image")
    figures.add(
        "the network in the GPU image, from a stand-in of the hub",
        "docker build --file Dockerfile.gpu --target with-model …",
        "a container without a network reads it",
    )


def _map_while_things_break(stack: Stack, figures: Figures) -> None:
    years = " ".join(map(str, YEARS))
    command = f'make enqueue YEARS="{years}"'
    say(command)
    begun = time.monotonic()
    stack.make("enqueue", f"YEARS={years}")
    wanted = len(CELLS) * len(YEARS)

    def at(composites: int, what: str, deed: Callable[[], None]) -> None:
        until(lambda: _composites(stack) >= composites, RUN_S, f"{composites} composites")
        _hold(not _is_complete(stack), f"the run was over before: {what}")
        say(f"{what} ({_composites(stack)} of {wanted} composites, {_masks(stack)} masks)")
        deed()

    at(1, "killing a CPU worker", lambda: stack.kill_from_outside(stack.containers("worker-cpu")[0]))
    at(2, f"make scale CPU={CPU_WORKERS}", lambda: stack.make("scale", f"CPU={CPU_WORKERS}"))
    scaled_s = until(lambda: _workers(stack, "cpu@") == CPU_WORKERS, READY_S, "three CPU workers")
    at(5, "killing Redis", lambda: stack.kill_from_outside(stack.containers("redis")[0]))
    at(8, "killing the database", lambda: stack.kill_from_outside(stack.containers("timescaledb")[0]))
    at(8, "killing the BTC worker", lambda: stack.kill_from_outside(stack.containers("worker-btc-cpu")[0]))
    until(lambda: _is_complete(stack), RUN_S, "the run is complete")
    mapped_s = time.monotonic() - begun
    until(lambda: _is_ready(stack), READY_S, "all containers healthy again")
    caught_up_s = until(lambda: _in_database(stack) == (wanted, _pairs(YEARS)), READY_S, "the database has everything")
    _every_mask_is_there_once(stack, YEARS)
    restarts = {name: stack.state(id_)["RestartCount"] for name in LONG_RUNNING for id_ in stack.containers(name)[:1]}
    figures.add(
        "scaling in a run", f"make scale CPU={CPU_WORKERS}", f"{CPU_WORKERS} CPU workers at work {scaled_s:.0f} s later"
    )
    blows = "a CPU worker, Redis, the database and the BTC worker killed once each"
    made = f"{wanted} composites and {_pairs(YEARS)} masks"
    told = f"complete after {_minutes(mapped_s)}; {made}, each once, the same in files and database"
    figures.add(f"the sample, {blows}", command, told)
    figures.add(
        "database after that",
        "SELECT count(*) FROM eo_change",
        f"has everything {caught_up_s:.0f} s after the run's end",
    )
    some = ", ".join(f"{name} {number}" for name, number in sorted(restarts.items()) if number)
    figures.add("what the engine started again", "docker inspect -f '{{.RestartCount}}'", some)
    usage = run(["docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"], stack.environment)
    memory = ", ".join(f"{line.split()[0]} {line.split()[1]}" for line in sorted(usage.splitlines()))
    figures.add("memory then", "docker stats --no-stream", memory)


def _ask_again(stack: Stack, figures: Figures) -> None:
    before = _files(stack)
    years = " ".join(map(str, YEARS))
    stack.make("enqueue", f"YEARS={years}")
    until(lambda: _is_complete(stack), READY_S, "the second run is complete")
    _hold(_files(stack) == before, "a second request changed files")
    figures.add("the same request again", f'make enqueue YEARS="{years}"', "nothing made, all files identical")


def _call_the_producer(stack: Stack, figures: Figures) -> None:
    years = (EARLIER, *YEARS)
    arguments = json.dumps([list(years)])
    stack.inside("worker-control", "celery", "-A", "eo_tasks", "call", "enqueue_years", f"--args={arguments}")
    seconds = until(lambda: len(stack.ask("runs")) == 2 and _is_complete(stack), RUN_S, "the year before is mapped")
    until(lambda: _in_database(stack)[1] == _pairs(years), READY_S, "the database has the year before")
    _every_mask_is_there_once(stack, years)
    told = f"{len(CELLS)} composites and {len(CELLS)} masks more after {_minutes(seconds)}"
    figures.add("a year before those", f"celery -A eo_tasks call enqueue_years --args='{arguments}'", told)


def _lose_everything(stack: Stack, figures: Figures) -> None:
    say("make backup; then files and rows are deleted; then make restore.")
    folder, years, before = stack.folder.parent / "backup", (EARLIER, *YEARS), _files(stack)
    backup_s = stack.timed("backup", f"TO={folder}", "ARGS=--verify")
    again_s = stack.timed("backup", f"TO={folder}")
    for service in ("beat", "worker-control"):  # files and database would mend each other
        run(["docker", "stop", stack.containers(service)[0]], stack.environment)
    _query(stack, "TRUNCATE eo_change, eo CASCADE")
    stack.inside("worker-cpu", "sh", "-c", "rm -rf /data/sample/images/* /data/sample/masks/*")
    _hold(not _files(stack) and _in_database(stack) == (0, 0), "something is left of what was deleted")
    restore_s = stack.timed("restore", f"FROM={folder}")
    _hold(_files(stack) == before, "what was restored is not what was backed up")
    stack.make("up")
    until(lambda: _is_ready(stack), READY_S, "all containers healthy")
    _every_mask_is_there_once(stack, years)
    made = f"{len(CELLS) * len(years)} composites and {_pairs(years)} masks"
    figures.add("backup", "make backup TO=… ARGS=--verify", f"{made} in {_minutes(backup_s)}; again: {again_s:.0f} s")
    told = f"all of them back in {_minutes(restore_s)}, the same in files and database"
    figures.add("restore, after files and rows were deleted", "make restore FROM=…", told)


def _upgrade_in_a_run(stack: Stack, figures: Figures) -> None:
    """Other code and other passwords, while everything is made again."""
    years, before = (EARLIER, *YEARS), _files(stack)
    stack.make("enqueue", f"YEARS={' '.join(map(str, years))}", "ARGS=--no-resume")
    until(lambda: _files(stack) != before, RUN_S, "something is made again")
    say("make up with other code and other passwords, while a run goes on.")
    with (stack.folder / "workers" / "__init__.py").open("a", encoding="utf-8") as code:
        code.write("# of another version\n")
    file, names = stack.folder / ".env", ("REDIS_PASSWORD", "REDIS_DASHBOARD_PASSWORD", "DB_PASSWORD")
    lines = file.read_text(encoding="utf-8").splitlines()
    changed = [f"{name}={token_hex(24)}" if (name := line.partition("=")[0]) in names else line for line in lines]
    _hold(sum(old != new for old, new in zip(lines, changed, strict=True)) == len(names), "passwords not found in .env")
    file.write_text("\n".join(changed) + "\n", encoding="utf-8")
    _hold(not _is_complete(stack), "the run was over before the upgrade")
    seconds = stack.timed("up")
    until(lambda: _is_ready(stack), READY_S, "all containers healthy")
    _hold("another version" in stack.inside("worker-cpu", "cat", INSTALLED), "the old code is still at work")
    until(lambda: _is_complete(stack), RUN_S, "the run is complete")
    until(lambda: _in_database(stack)[1] == _pairs(years), READY_S, "the database has everything")
    stack.inside("worker-control", "eo-tasks", "db", "check")
    _every_mask_is_there_once(stack, years)
    told = f"replaced in {_minutes(seconds)}; the run is complete, every mask there once"
    figures.add("other code, and other passwords of Redis and the database, in a run", "edit .env; make up", told)


def _stop(stack: Stack, figures: Figures) -> None:
    seconds = stack.timed("down")
    left = stack.containers("worker-cpu", also_stopped=True)
    _hold(not left, "containers are left after make down")
    figures.add("stop", "make down", f"{seconds:.0f} s, everything idle")


# --- what is asked of the running system


def _units(stack: Stack, stage: str, states: tuple[str, ...] = ("completed", "skipped")) -> int:
    """Units of a stage that are done; −1 while Redis is away."""
    try:
        units = stack.ask("status")["units"]
    except NotHeldError:
        return -1
    return sum(counts.get(state, 0) for name, counts in units.items() if name.startswith(stage) for state in states)


def _composites(stack: Stack) -> int:
    return _units(stack, "store")


def _masks(stack: Stack) -> int:
    return _units(stack, "btc")


def _is_complete(stack: Stack) -> bool:
    try:
        runs = stack.ask("status")["runs"]
    except NotHeldError:
        return False
    return bool(runs) and set(runs.values()) == {"complete"}


def _workers(stack: Stack, prefix: str) -> int:
    try:
        known = stack.ask("status")["workers"]
    except NotHeldError:
        return -1
    return sum(worker["is_alive"] and worker["name"].startswith(prefix) for worker in known)


def _in_database(stack: Stack) -> tuple[int, int]:
    """Rows of images and of masks, as the database's administrator counts them; −1 while it is away."""
    asked = "SELECT (SELECT count(*) FROM eo), (SELECT count(*) FROM eo_change)"
    try:
        images, masks = _query(stack, asked)[0]
    except NotHeldError:
        return -1, -1
    return int(images), int(masks)


def _query(stack: Stack, text: str) -> list[list[str]]:
    said = stack.inside("timescaledb", "psql", "-X", "-A", "-t", "-U", "postgres", "-d", "eo_tasks_sample", "-c", text)
    return [line.split("|") for line in said.splitlines() if line]


def _pairs(years: tuple[int, ...]) -> int:
    return len(CELLS) * (len(years) - 1)


def _every_mask_is_there_once(stack: Stack, years: tuple[int, ...]) -> None:
    expected = sorted((cell, before) for cell in CELLS for before in sorted(years)[:-1])
    files = sorted(name for name in _files(stack) if name.startswith("masks/") and name.endswith(".png"))
    named = sorted(f"masks/{before}/change_mask_grid_{cell}_{before}.png" for cell, before in expected)
    _hold(files == named, f"masks in files are not {len(named)} but {len(files)}: {files}")
    rows = _query(
        stack,
        "SELECT grid_id, extract(year FROM period_start)::int FROM eo_change ORDER BY 1, 2",
    )
    _hold([(int(cell), int(before)) for cell, before in rows] == expected, f"masks in the database: {len(rows)} rows")
    look = (
        "import sys, hashlib, rasterio\n"
        "for path in sys.argv[1:]:\n"
        "    with rasterio.open(path) as mask: print(hashlib.sha256((mask.read(1) == 255).tobytes()).hexdigest())"
    )
    there = [f"/data/sample/{name}" for name in named]
    pixels = stack.inside("worker-cpu", "python", "-c", look, *there).split()
    stored = _query(stack, "SELECT grid_id, extract(year FROM period_start)::int, encode(mask, 'hex') FROM eo_change")
    in_database = {
        f"masks/{before}/change_mask_grid_{cell}_{before}.png": hashlib.sha256(
            bytes(pixel == 255 for pixel in bytes.fromhex(mask))
        ).hexdigest()
        for cell, before, mask in stored
    }
    _hold(dict(zip(named, pixels, strict=True)) == in_database, "masks in files and database differ")


def _files(stack: Stack) -> dict[str, str]:
    """Every composite and mask on the volume with its checksum."""
    command = "cd /data/sample && find images masks -type f ! -name '*.part*' -exec sha256sum {} +"
    lines = stack.inside("worker-cpu", "sh", "-c", command).splitlines()
    return {name: checksum for checksum, name in (line.split(maxsplit=1) for line in lines)}


def _hold(holds: bool, otherwise: str) -> None:
    if not holds:
        raise NotHeldError(otherwise)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{int(seconds // 60)} min {int(seconds % 60)} s"
