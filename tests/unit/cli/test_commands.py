"""What is true of every command: help with an example, the same words, exit codes that are told."""

from collections.abc import Iterator

import click
import pytest

from eo_tasks.cli.main import SECTIONS, main
from tests.command_line import call


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in sorted(group.commands.items()):
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize(("path", "command"), [pytest.param(*one, id=" ".join(one[0])) for one in commands(main)])
def test_help_of_a_command_has_an_example(path, command):
    shown = call(*path, "--help")
    assert shown.exit_code == 0
    assert "Example" in shown.output
    assert any(f"eo-tasks {name}" in shown.output for name in path)
    first = (command.help or "").split("\n\n")[0]
    assert first.endswith(".")


def test_every_command_of_the_dashboard_is_one_here():
    words = {"run", "plan", "enqueue", "status", "errors", "retry", "pause", "resume", "stop", "cancel", "report"}
    words |= {"grid", "sample", "download", "store", "btc", "doctor", "config", "db", "sync", "export"}
    assert words <= set(main.commands)


def test_help_tells_the_exit_codes_and_groups_the_commands():
    shown = call("--help").output
    for code in ("0    done", "1    a setting", "2    the command line", "3    it ended", "130  interrupted"):
        assert code in shown
    for title in SECTIONS:
        assert f"{title}:" in shown
    for name in main.commands:
        assert f"  {name} " in shown


def test_pausing_is_the_same_command_under_runs():
    runs = main.commands["runs"]
    assert isinstance(runs, click.Group)
    for name in ("pause", "resume", "stop", "cancel"):
        assert runs.commands[name] is main.commands[name]
