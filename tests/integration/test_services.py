"""Child processes of one command: kept alive, and all stopped with it."""

import os
import signal
import subprocess
import sys
from threading import Event
from time import monotonic

import psutil
import pytest

from eo_tasks.errors import PermanentError
from eo_tasks.files import write_json
from eo_tasks.local.services import Services

pytestmark = pytest.mark.integration

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


def pids(folder) -> list[int]:
    import json

    return [int(pid) for pid in json.loads((folder / "processes.json").read_text())]


def wait_until_gone(pid: int) -> None:
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=20)


def check_until_it_raises(services: Services) -> str:
    end, pause = monotonic() + 60, Event()
    while monotonic() < end:
        try:
            services.check()
        except PermanentError as error:
            return str(error)
        pause.wait(0.05)
    raise AssertionError("no error within 60 s")


def test_children_are_gone_when_the_block_ends(tmp_path):
    with Services(tmp_path) as services:
        services.start("one", SLEEP)
        services.start("two", SLEEP)
        running = pids(tmp_path)
        assert len(running) == 2
        assert all(map(psutil.pid_exists, running))
    assert not any(map(psutil.pid_exists, running))
    assert not (tmp_path / "processes.json").exists()


def test_child_that_was_killed_is_started_again(tmp_path):
    with Services(tmp_path) as services:
        services.start("one", SLEEP)
        (first,) = pids(tmp_path)
        os.kill(first, signal.SIGKILL)
        wait_until_gone(first)
        services.check()
        assert [pid for pid in pids(tmp_path) if pid != first]


def test_child_that_keeps_dying_ends_the_command_with_its_last_words(tmp_path):
    with Services(tmp_path) as services:
        services.start("one", (sys.executable, "-c", "raise SystemExit('no luck')"))
        message = check_until_it_raises(services)
    assert message.startswith("one ended with exit code 1: ")
    assert "no luck" in message


def test_child_that_says_why_it_cannot_start_is_not_tried_again(tmp_path):
    with Services(tmp_path) as services:
        services.start("one", (sys.executable, "-c", "raise SystemExit('eo-tasks: X=1: takes 2.')"))
        message = check_until_it_raises(services)
    assert message == f"one ended with exit code 1: eo-tasks: X=1: takes 2. (all of it: {tmp_path}/one.log)"
    assert (tmp_path / "one.log").read_text().count("takes 2") == 1


@pytest.fixture
def stranger():
    """A process that no ``Services`` started."""
    with subprocess.Popen(SLEEP) as process:
        yield process
        process.kill()


def test_children_of_a_killed_command_are_stopped_by_the_next_one(tmp_path, stranger):
    write_json(tmp_path / "processes.json", {str(stranger.pid): psutil.Process(stranger.pid).create_time()})
    with Services(tmp_path):
        stranger.wait(20)


def test_process_that_only_got_the_same_number_is_left_alone(tmp_path, stranger):
    write_json(tmp_path / "processes.json", {str(stranger.pid): psutil.Process(stranger.pid).create_time() - 100})
    with Services(tmp_path):
        assert stranger.poll() is None


def test_child_that_is_not_needed_is_given_up_when_it_keeps_dying_and_the_others_go_on(tmp_path, caplog):
    with Services(tmp_path) as services:
        services.start("work", SLEEP)
        (work,) = pids(tmp_path)
        services.start("screen", (sys.executable, "-c", "raise SystemExit('no luck')"), is_needed=False)
        end, pause = monotonic() + 60, Event()
        while "part given up" not in caplog.messages:
            assert monotonic() < end
            services.check()
            pause.wait(0.05)
        services.check()
        assert psutil.pid_exists(work)
    assert "screen ended with exit code 1: " in caplog.records[0].told
    assert (tmp_path / "screen.log").read_text().count("no luck") == 3


def test_child_alone_gets_its_variables_and_none_that_contradicts_them(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_FILE", "/run/secrets/other")
    show = (sys.executable, "-c", "import os; print(os.environ.get('SECRET'), os.environ.get('SECRET_FILE'))")
    with Services(tmp_path) as services:
        services.start("one", show, {"SECRET": "told"})
        services.start("two", show)
        end, pause = monotonic() + 60, Event()
        while not all((tmp_path / f"{name}.log").read_text() for name in ("one", "two")):
            assert monotonic() < end
            pause.wait(0.05)
    assert (tmp_path / "one.log").read_text() == "told None\n"
    assert (tmp_path / "two.log").read_text() == "None /run/secrets/other\n"
