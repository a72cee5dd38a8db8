"""Redis as the containers have it: each part logs in as its own user, who may do what it has to and no more."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from eo_tasks.local.redis_server import free_port
from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.runs import Runs, RunState
from eo_tasks.units import Stage
from tests.dashboard import TOKEN, dashboard
from tests.guarded_redis import NEEDED, PASSWORDS, GuardedRedis, find_redis7, guarded_redis
from tests.system import BEAT, CONTROL, CPU, GPU, celery, system, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.skipif(not find_redis7(), reason=NEEDED)]

DEADLINE_S = 120
LOGIN = ("me", "of this test")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedRedis]:
    """One for all tests that change nothing in it."""
    with guarded_redis(tmp_path_factory.mktemp("guarded") / "redis") as running:
        yield running


def test_every_part_does_its_work_as_its_own_user(sample_environment: dict[str, str], tmp_path: Path) -> None:
    with guarded_redis(tmp_path / "redis") as server:
        run_everything(sample_environment, server, server, tmp_path)
        assert server.refusals() == ["flower: key control"]  # the task that it was told to send


def eo_tasks(environment: Mapping[str, str], cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person does."""
    return subprocess.run(
        [sys.executable, "-m", "eo_tasks.cli", *arguments],
        env=dict(environment), cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def run_everything(base: dict[str, str], broker: GuardedRedis, results: GuardedRedis, folder: Path) -> None:
    """Map two cells, with the dashboard's buttons and Flower's pages used meanwhile; both may be one server."""

    def environment(user: str) -> dict[str, str]:
        own = base | broker.variables(user)
        if results is not broker:  # two servers have two passwords: the second one's is in its URL
            place = f"{user}:{results.passwords[user]}@localhost:{results.port}/1"
            own["REDIS_RESULT_URL"] = f"redis://{place}"
        return own | {"FLOWER_BASIC_AUTH": ":".join(LOGIN), "FLOWER_PORT": str(port), "FLOWER_ADDRESS": "127.0.0.1"}

    port = free_port()
    redis = results.client()
    ledger = Ledger(redis, Limits())

    def is_complete() -> bool:
        (run,) = Runs(redis).all()
        return run.state is RunState.COMPLETE

    def flower(path: str) -> Any:
        return requests.get(f"http://127.0.0.1:{port}{path}", auth=LOGIN, timeout=60).json()

    with (
        system(environment("worker"), folder / "logs") as running,
        system(environment("flower"), folder / "flower") as watching,
        dashboard(environment("dashboard"), folder / "dashboard") as board,
        board.client(TOKEN) as api,
    ):
        watching.start("flower", ("-A", "eo_tasks", "flower"))
        for name, arguments in (("control", CONTROL), ("cpu", CPU), ("gpu", GPU), ("beat", BEAT)):
            running.start(name, arguments)
        started = api.post("/runs", json={"years": [2021, 2022], "grid_ids": [463, 464]})
        assert started.status_code == 201, started.text
        run = started.json()["run"]
        for action in ("pause", "resume"):
            assert api.post(f"/runs/{run}/{action}").status_code == 200
        wait_for(redis, is_complete, DEADLINE_S, running.logs)
        assert ledger.counts(Stage.BTC, "2021_2022") == {State.COMPLETED: 2}
        assert {row["name"].partition("@")[0] for row in api.get("/workers").json()} == {
            "control", "cpu", "gpu"
        }  # fmt: skip

        assert {name.partition("@")[0] for name in flower("/api/workers?refresh=1")} == {"control", "cpu", "gpu"}
        assert {row["name"] for row in flower("/api/queues/length")["active_queues"]} == {
            "downloads", "stores", "btc", "control"
        }  # fmt: skip
        assert "eo_tasks.btc" in {task["name"] for task in flower("/api/tasks").values()}
        sent = requests.post(
            f"http://127.0.0.1:{port}/api/task/send-task/enqueue_years",
            auth=LOGIN, json={"args": [[2023]]}, timeout=60,
        )  # fmt: skip
        assert sent.status_code == 503

        told = eo_tasks(environment("worker"), folder, "status", "--json")
        assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("user", PASSWORDS)
@pytest.mark.parametrize(
    "command",
    ["FLUSHALL", "FLUSHDB", "KEYS *", "CONFIG GET requirepass", "ACL LIST", "SHUTDOWN NOSAVE",
     "MONITOR", "SAVE", "REPLICAOF NO ONE", "CLIENT LIST", "SCRIPT FLUSH"] ,
)  # fmt: skip
def test_nobody_may_do_what_could_lose_or_leak_everything(server: GuardedRedis, user: str, command: str) -> None:
    with server.client(user) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("dashboard", "SET celery-task-meta-x 1"),
        ("dashboard", "DEL unacked"),
        ("dashboard", "LPUSH other x"),
        ("dashboard", "PUBLISH /0.celery.pidbox x"),
        ("flower", "LPUSH downloads x"),
        ("flower", "LPOP btc"),
        ("flower", "DEL control"),
        ("flower", "HGETALL eo-tasks:units:btc:2021_2022"),
        ("flower", "SET eo-tasks:session:x y"),
        ("flower", "EVAL return(redis.call('LPUSH','downloads','x')) 0"),
    ],
)
def test_dashboard_and_flower_reach_no_further_than_they_need(server: GuardedRedis, user: str, command: str) -> None:
    with server.client(user, database=0) as client, pytest.raises(ResponseError, match=r"permission|can't access"):
        client.execute_command(*command.split(" ", 4))


def test_nobody_comes_in_without_a_user(server: GuardedRedis) -> None:
    with server.client() as client:
        name = {"host": "localhost", "port": server.port}
        for login in ({}, {"username": "default", "password": ""}, {"password": server.passwords["worker"]}):
            stranger = type(client)(**name, **login)
            with pytest.raises(AuthenticationError):
                stranger.ping()
            stranger.close()


def test_no_password_can_be_read_from_the_servers_process_or_files(server: GuardedRedis) -> None:
    with server.client() as client:
        info = client.info("server")
    secrets = [server.passwords[user] for user in PASSWORDS]
    arguments = " ".join(psutil.Process(int(info["process_id"])).cmdline())
    users = Path(server.folder / "users.acl")
    assert users.stat().st_mode & 0o077 == 0
    text = users.read_text()
    assert not [secret for secret in secrets if secret in arguments or secret in text]


@pytest.mark.parametrize(
    ("user", "changes", "told"),
    [
        ("worker", {"REDIS_PASSWORD": "wrong"}, "refuses the login: check REDIS_USERNAME and REDIS_PASSWORD."),
        ("worker", {"REDIS_USERNAME": ""}, "refuses the login: check REDIS_USERNAME and REDIS_PASSWORD."),
        ("flower", {}, "does not let its user do that (this user has no permissions"),
    ],
)
@pytest.mark.parametrize("program", ["command", "worker", "clock"])
def test_a_part_with_a_wrong_user_says_so_and_ends(
    sample_environment: dict[str, str], server: GuardedRedis, tmp_path: Path,
    program: str, user: str, changes: dict[str, str], told: str,
) -> None:  # fmt: skip
    environment = sample_environment | server.variables(user) | changes
    if program == "command":
        ended = eo_tasks(environment, tmp_path, "runs")
    else:
        ended = celery(environment, tmp_path, *(CPU if program == "worker" else BEAT))
    assert ended.returncode == 1
    assert told in ended.stderr.strip().splitlines()[-1]
    assert "Traceback" not in ended.stderr
    assert server.passwords[user] not in ended.stderr + ended.stdout


def test_what_was_written_in_one_step_outlives_a_crash(tmp_path: Path) -> None:
    with guarded_redis(tmp_path / "redis") as server:
        with server.client("worker") as worker:
            with worker.pipeline(transaction=True) as step:
                step.set("eo-tasks:a", 1).set("eo-tasks:b", 2).execute()
            worker.eval("redis.call('SET', KEYS[1], 3) redis.call('SET', KEYS[2], 4)", 2, "eo-tasks:c", "eo-tasks:d")
        server.crash()
        server.start()
        with server.client("worker") as worker:
            assert worker.mget(*(f"eo-tasks:{name}" for name in "abcd")) == ["1", "2", "3", "4"]
        assert "NOPERM" not in (server.folder / "log").read_text()


def test_nobody_logs_in_as_the_user_that_redis_reads_its_own_file_as(server: GuardedRedis) -> None:
    with server.client() as inspector:
        known = dict(inspector.acl_getuser("default"))
        assert "off" in known["flags"]
        assert "nopass" not in known["flags"]
        assert known["passwords"] == []
