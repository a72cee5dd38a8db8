"""The board of ``status``."""

from rich.console import Console

from eo_tasks.cli.board import board
from eo_tasks.overview.summary import PeriodNumbers, RunNumbers, StageNumbers, Summary
from eo_tasks.state.runs import RunState
from eo_tasks.state.workers import SILENT_S, WorkerReport
from eo_tasks.units import Stage

NOW = 1_700_000_000.0


def worker(name: str, at: float, *units: str) -> WorkerReport:
    return WorkerReport(name, "host", 1, ("downloads",), 2, units, NOW - 60, at, 0.5, 2, 1.0, 8.0, 0.5, 10.0, 20.0)


def summary(**changes) -> Summary:
    states = {"completed": 30, "empty": 10, "started": 2, "enqueued": 3, "failed": 4, "waiting": 51}
    stage = StageNumbers(Stage.DOWNLOAD, 100, 40, states, 1200.0, 168.0, [PeriodNumbers("2022", (2022,), 100, states)])
    run = RunNumbers("abc", RunState.PAUSED, "no credits", NOW, NOW, (2022,), 100, 50, 0, {}, 12.34)
    given = {"at": NOW, "total": 100, "ended": 40, "stuck": 4, "left_s": 168.0, "stages": [stage], "queues": {"btc": 7}}
    given |= {"runs": [run], "orders": {"running": 1}, "accounts": {"x1": "out of credits"}}
    return Summary(**given | changes)


def drawn(*arguments) -> str:
    console = Console(width=120, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as captured:
        console.print(board(*arguments))
    return captured.get()


def test_board_shows_stages_with_rate_and_time_left():
    shown = drawn(summary(), [])
    assert "40 of 100 units ended (40%), about 0:02:48 left, 4 wait for you: eo-tasks errors" in shown
    (line,) = (line for line in shown.splitlines() if line.startswith("download"))
    assert line.split()[-5:] == ["40/100", "5", "4", "1,200", "0:02:48"]


def test_board_shows_who_is_alive_and_at_what():
    shown = drawn(summary(), [worker("cpu@a", NOW, *(f"u{n}" for n in range(5))), worker("gpu@b", NOW - SILENT_S)])
    assert "Workers: 1 of 2 alive; silent: gpu@b" in shown
    assert "cpu@a: u0, u1, u2 and 2 more" in shown


def test_board_shows_what_is_wrong():
    shown = drawn(summary(), [])
    for line in (
        "Queued: btc 7",
        "Runs: abc paused",
        "Run abc: no credits",
        "Credits: run abc 12.3",
        "Account x1: out of credits",
    ):
        assert line in shown


def test_board_of_an_idle_system_has_no_time_left():
    shown = drawn(summary(total=0, ended=0, stuck=0, left_s=0.0, stages=[], runs=[], orders={}, accounts={}), [])
    assert shown.splitlines()[0].rstrip() == "0 of 0 units ended (0%)"
