"""The ``eo-tasks`` command, called in this process."""

from click.testing import CliRunner, Result

from eo_tasks.cli.main import main

FAILED, MISUSED = 1, 2


def call(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def complaint(*arguments: object, code: int = FAILED) -> str:
    """The one line that a command ends with."""
    result = call(*arguments)
    assert isinstance(result.exception, SystemExit), f"a traceback: {result.exception!r}"
    assert result.exit_code == code
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert lines, result.output
    assert result.stderr.splitlines()[-1] == lines[0]  # nothing follows
    return lines[0].removeprefix("Error: ")
