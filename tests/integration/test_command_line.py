"""``eo-tasks`` against a running system."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

import pytest
import rasterio
from redis import Redis

from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges
from eo_tasks.sample import Sample
from eo_tasks.score import score
from eo_tasks.state.audit import Audit
from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.runs import Run, Runs, RunState
from eo_tasks.units import Stage, Unit
from tests.system import CONTROL, system

pytestmark = pytest.mark.integration

FAILED, QUEUED = (Unit(Stage.DOWNLOAD, cell, (2021,)) for cell in (463, 464))


def eo_tasks(environment: Mapping[str, str], cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eo_tasks.cli", *arguments],
        env=dict(environment), cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    """A ledger with one unit in flight and one that failed, and the run that wants both."""
    ledger = Ledger(redis, Limits())
    run = Runs(redis).add(Run(Wanted(Ranges.of([463, 464]), (2021,)), created_at=1.0))
    ledger.make_ready([FAILED, QUEUED], run.id)
    ledger.take(Stage.DOWNLOAD, run.id, 2)
    ledger.fail(ledger.begin(FAILED, "me", "cpu@host"), "SourceError: Cell 463, 2021: credits exhausted")
    return ledger


def test_status_shows_runs_states_queues_and_errors(
    environment: dict[str, str], ledger: Ledger, tmp_path: Path
) -> None:
    shown = eo_tasks(environment, tmp_path, "status", "--json")
    assert shown.returncode == 0, shown.stderr
    (run,) = Runs(ledger.redis).all()
    facts = json.loads(shown.stdout)
    summary = facts.pop("summary")
    assert facts == {
        "runs": {run.id: "active"},
        "units": {"download_2021": {"failed": 1, "enqueued": 1}},
        "queues": {"downloads": 0, "stores": 0, "btc": 0, "control": 0},
        "waiting_for_a_person": 1,
        "errors": {"download_463_2021": "SourceError: Cell 463, 2021: credits exhausted"},
        "orders": {},
        "credits": {},
        "notes": {},
        "accounts": {},
        "workers": [],
    }
    assert (summary["total"], summary["stuck"], summary["runs"][0]["id"]) == (4, 1, run.id)
    assert "download_463_2021" in eo_tasks(environment, tmp_path, "status").stdout


def test_errors_lists_kinds_with_numbers_and_an_example(
    environment: dict[str, str], ledger: Ledger, tmp_path: Path
) -> None:
    shown = json.loads(eo_tasks(environment, tmp_path, "errors", "--json").stdout)
    (group,) = ledger.error_groups()
    assert shown == [
        {
            "id": group.fingerprint,
            "class": "SourceError",
            "number": 1,
            "message": "credits exhausted",
            "example": "SourceError: Cell 463, 2021: credits exhausted",
            "units": ["download_463_2021"],
        }
    ]
    assert group.fingerprint in eo_tasks(environment, tmp_path, "errors").stdout


def test_retry_takes_only_what_is_asked_for(environment: dict[str, str], ledger: Ledger, tmp_path: Path) -> None:
    for choice in (("--cell", "464"), ("--year", "2022"), ("--stage", "btc")):
        other = eo_tasks(environment, tmp_path, "retry", *choice)
        assert (other.returncode, other.stderr) == (1, "Error: No failed unit matches; see eo-tasks errors.\n")
    unknown = eo_tasks(environment, tmp_path, "retry", "--error", "GridError")
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("Error: --error GridError: no unit failed so. Kinds of errors now: SourceError")
    chosen = ("--cell", "463", "--year", "2021", "--error", "SourceError", "--run", "latest")
    done = eo_tasks(environment, tmp_path, "retry", *chosen)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 units are tried again: 1 queued now, 0 when there is room.\n"
    assert dict(ledger.waiting_for_a_person()) == {}
    assert ledger.entry(FAILED).state is State.ENQUEUED


@pytest.mark.parametrize("is_good", [True, False])
def test_canaries_go_first_and_the_rest_only_if_they_succeed(
    environment: dict[str, str], ledger: Ledger, broker: Redis, tmp_path: Path, *, is_good: bool
) -> None:
    ledger.fail(ledger.begin(QUEUED, "me", "cpu@host"), "SourceError: Cell 464, 2021: credits exhausted")
    command = [sys.executable, "-m", "eo_tasks.cli", "retry", "--canary", "1"]
    with subprocess.Popen(
        command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as retrying:
        assert broker.blpop(["downloads"], timeout=60) is not None
        assert ledger.entry(QUEUED).state is State.FAILED
        lease = ledger.begin(FAILED, "me", "cpu@host")
        if is_good:
            ledger.finish(lease, is_skipped=False)
        else:
            ledger.fail(lease, "SourceError: Cell 463, 2021: credits exhausted")
        told, complained = retrying.communicate(timeout=60)
    if is_good:
        assert (retrying.returncode, ledger.entry(QUEUED).state) == (0, State.ENQUEUED)
        assert "All 1 canaries succeeded." in told
    else:
        assert (retrying.returncode, ledger.entry(QUEUED).state) == (3, State.FAILED)
        assert complained == "0 of 1 canaries succeeded, 1 failed: the rest is left alone.\n"


def test_run_is_paused_resumed_and_canceled_by_its_id(
    environment: dict[str, str], ledger: Ledger, tmp_path: Path
) -> None:
    (run,) = Runs(ledger.redis).all()
    paused = eo_tasks(environment, tmp_path, "runs", "pause", run.id[:4])
    assert paused.stdout.startswith(f"Run {run.id} is paused; 1 queued units were taken back.")
    assert run.id in eo_tasks(environment, tmp_path, "runs").stdout
    assert eo_tasks(environment, tmp_path, "runs", "resume", "latest").returncode == 0
    assert eo_tasks(environment, tmp_path, "runs", "cancel", run.id).returncode == 0
    (shown,) = json.loads(eo_tasks(environment, tmp_path, "runs", "--json").stdout)
    assert (shown["run"], shown["state"], shown["cells"], shown["years"]) == (run.id, "canceled", 2, [2021])
    again = eo_tasks(environment, tmp_path, "runs", "stop", run.id)
    assert (again.returncode, again.stderr) == (1, f"Error: Run {run.id} has ended (canceled) already.\n")
    unknown = eo_tasks(environment, tmp_path, "runs", "stop", "nonsense")
    assert (unknown.returncode, unknown.stderr) == (
        1, f"Error: Run nonsense: no such run; there are: {run.id}.\n",
    )  # fmt: skip


def test_pausing_has_a_command_of_its_own_and_is_written_down(
    environment: dict[str, str], ledger: Ledger, tmp_path: Path
) -> None:
    (run,) = Runs(ledger.redis).all()
    assert "Go on with: eo-tasks resume" in eo_tasks(environment, tmp_path, "pause", "latest").stdout
    assert eo_tasks(environment, tmp_path, "resume", run.id).stdout == f"Run {run.id} goes on.\n"
    assert eo_tasks(environment, tmp_path, "retry").returncode == 0
    retried, resumed, paused = Audit(ledger.redis).latest()
    assert [deed.action for deed in (paused, resumed, retried)] == ["pause", "resume", "retry"]
    assert (paused.target, retried.target) == (run.id, "download_463_2021")
    assert paused.who.endswith(" (command line)")


def test_shell_completes_runs_and_kinds_of_errors(environment: dict[str, str], ledger: Ledger, tmp_path: Path) -> None:
    (run,) = Runs(ledger.redis).all()
    (group,) = ledger.error_groups()

    def completed(words: str, settings: Mapping[str, str] = environment) -> list[str]:
        asked = dict(settings) | {
            "_EO_TASKS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")),
        }  # fmt: skip
        done = subprocess.run(
            [Path(sys.executable).with_name("eo-tasks")],
            env=asked, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stderr == ""
        return [line.removeprefix("plain,") for line in done.stdout.splitlines()]

    assert completed("eo-tasks pau") == ["pause"]
    assert completed("eo-tasks pause ") == ["latest", run.id]
    assert completed(f"eo-tasks report --run {run.id[:3]}") == [run.id]
    assert completed("eo-tasks retry --error ") == [group.fingerprint, "SourceError"]
    assert completed("eo-tasks pause ", environment | {"REDIS_PASSWORD": "wrong"}) == ["latest"]


def test_status_is_watched_until_it_is_enough(environment: dict[str, str], ledger: Ledger, tmp_path: Path) -> None:
    (run,) = Runs(ledger.redis).all()
    command = [sys.executable, "-u", "-m", "eo_tasks.cli", "status", "--watch", "--every", "0.1"]
    screen, theirs = pty.openpty()
    seen = b""

    def see(text: str) -> None:
        nonlocal seen
        until = monotonic() + 60
        while text.encode() not in seen:
            assert monotonic() < until, seen.decode()
            if select.select([screen], [], [], 1)[0]:
                seen += os.read(screen, 65536)

    with subprocess.Popen(
        command, env=environment | {"TERM": "xterm"}, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs
    ) as watching:
        os.close(theirs)
        see("1 wait for you")
        ledger.fail(ledger.begin(QUEUED, "me", "cpu@host"), "SourceError: Cell 464, 2021: credits exhausted")
        see("2 wait for you")
        Runs(ledger.redis).change(run, RunState.PAUSED, "out of credits")
        see("out of credits")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(timeout=30) == 0
    os.close(screen)
    assert b"Traceback" not in seen


def test_status_cannot_be_watched_by_programs(environment: dict[str, str], redis: Redis, tmp_path: Path) -> None:
    refused = eo_tasks(environment, tmp_path, "status", "--watch", "--json")
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (2, "Error: Give one of --watch and --json.")


def test_plan_is_a_dry_run_and_changes_nothing(
    sample_environment: dict[str, str], redis: Redis, broker: Redis, tmp_path: Path
) -> None:
    asked = ("--years", "2021-2022", "--cells", "463,464", "--json")
    planned = eo_tasks(sample_environment, tmp_path, "plan", *asked)
    assert planned.returncode == 0, planned.stderr
    assert planned.stdout == eo_tasks(sample_environment, tmp_path, "enqueue", "--dry-run", *asked).stdout
    assert json.loads(planned.stdout)["units"]["download"]["todo"] == 4
    assert redis.keys() == broker.keys() == []


def test_sample_is_mapped_stage_by_stage_without_redis(
    sample_environment: dict[str, str], sample: Sample, tmp_path: Path
) -> None:
    nowhere = sample_environment | {"REDIS_URL": "redis://127.0.0.1:9/0"}
    asked = ("--years", "2022-2023", "--cells", "464", "--json")
    for stage, number in (("download", 2), ("store", 2), ("btc", 1)):
        done = eo_tasks(nowhere, tmp_path, stage, *asked)
        assert (done.returncode, done.stderr) == (0, "")
        told = json.loads(done.stdout)
        assert (told["stage"], told["done"], told["failed"]) == (stage, number, 0)
    with (
        rasterio.open(Path(nowhere["DATA_DIR"]) / "masks" / "2022" / "change_mask_grid_464_2022.tiff") as mask,
        rasterio.open(sample.truth_file(464, 2022, 2023)) as truth,
    ):
        assert score([mask.read(1)], [truth.read(1)]).f1 > 0.5


def test_dry_run_changes_nothing(
    sample_environment: dict[str, str], redis: Redis, broker: Redis, tmp_path: Path
) -> None:
    asked = ("enqueue", "--years", "2021-2022", "--cells", "463,464", "--dry-run")
    shown = eo_tasks(sample_environment, tmp_path, *asked)
    assert shown.returncode == 0, shown.stderr
    assert "0 stale masks, 4 downloads; credits: about 0." in shown.stdout
    facts = json.loads(eo_tasks(sample_environment, tmp_path, *asked, "--json").stdout)
    assert facts["units"]["btc"] == {"todo": 2, "done": 0, "in_flight": 0, "stuck": 0, "empty": 0, "blocked": 0}
    assert facts["busy_s"]["download"] is None
    assert redis.keys() == broker.keys() == []


def test_enqueue_prints_what_is_planned(sample_environment: dict[str, str], redis: Redis, tmp_path: Path) -> None:
    with system(sample_environment, tmp_path) as running:
        running.start("control", CONTROL)
        asked = eo_tasks(sample_environment, tmp_path, "enqueue", "--years", "2021-2022", "--cells", "463")
    assert asked.returncode == 0, asked.stderr + running.logs()
    assert json.loads(asked.stdout)["planned"] == 5


@pytest.mark.parametrize("command", [("status",), ("retry",), ("errors",), ("runs",), ("enqueue", "--years", "2021")])
def test_wrong_password_of_redis_is_one_line(
    sample_environment: dict[str, str], command: tuple[str, ...], tmp_path: Path
) -> None:
    ended = eo_tasks(sample_environment | {"REDIS_PASSWORD": "wrong"}, tmp_path, *command)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: Redis at redis://127.0.0.1:")
    assert ended.stderr.endswith("refuses the login: check REDIS_USERNAME and REDIS_PASSWORD.\n")
    assert "wrong" not in ended.stderr


@pytest.mark.parametrize("command", [("status",), ("retry",), ("errors",), ("runs",), ("enqueue", "--years", "2021")])
def test_redis_that_is_not_there_is_one_line(
    sample_environment: dict[str, str], command: tuple[str, ...], tmp_path: Path
) -> None:
    nowhere = {"REDIS_URL": "redis://127.0.0.1:9/0", "REDIS_RESULT_URL": "redis://127.0.0.1:9/1"}
    ended = eo_tasks(sample_environment | nowhere, tmp_path, *command)
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: Redis at redis://127.0.0.1:9/0 does not work")
    assert len(ended.stderr.strip().splitlines()) == 1


def test_reader_that_has_seen_enough_ends_the_command_quietly(
    environment: dict[str, str], ledger: Ledger, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "eo_tasks.cli", "status", "--watch", "--every", "0.1"],
        env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as watching:  # fmt: skip
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline().startswith("0 of 4 units ended")
        watching.stdout.close()
        assert watching.wait(timeout=30) != 0
        assert watching.stderr.read() == ""


def test_report_is_written_where_it_is_asked_for(environment: dict[str, str], ledger: Ledger, tmp_path: Path) -> None:
    (run,) = Runs(ledger.redis).all()
    assert eo_tasks(environment, tmp_path, "report").stdout == "Report: report.html\n"
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    shown = eo_tasks(environment, tmp_path, "report", "--run", "latest", "--format", "json", "-o", "-")
    assert json.loads(shown.stdout)["run"] == run.id
    assert [row["error"] for row in json.loads(shown.stdout)["rows"]] == [
        "SourceError: Cell 463, 2021: credits exhausted",
        "",
    ]
    unknown = eo_tasks(environment, tmp_path, "report", "--run", "nonsense")
    assert (unknown.returncode, unknown.stderr) == (1, f"Error: Run nonsense: no such run; there are: {run.id}.\n")
