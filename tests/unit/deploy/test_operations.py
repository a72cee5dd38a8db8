"""The operations manual: every alert has an entry, and every command is one that there is."""

import re
from pathlib import Path

import click
import pytest
import yaml

from eo_tasks.alerts import rules
from eo_tasks.cli.main import main

ROOT = Path(__file__).parents[3]
MANUAL = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
HEADINGS = {name for line in re.findall(r"^### (.*)$", MANUAL, re.MULTILINE) for name in line.split(", ")}
OF_PROMETHEUS = [
    rule["alert"]
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
OF_OURS = re.findall(r'Alert\(\s*"(\w+)"', Path(rules.__file__).read_text(encoding="utf-8"))
CODE = re.findall(r"`([^`]+)`", MANUAL)


def test_every_alert_has_an_entry_and_every_entry_an_alert():
    assert len(OF_OURS) == len(rules.RULES)
    assert {*OF_OURS, *OF_PROMETHEUS} == HEADINGS


@pytest.mark.parametrize("code", [one for one in CODE if re.match(r"eo-tasks \w", one)])
def test_a_command_is_one_that_there_is(code: str):
    command: click.Command = main
    words = code.split()[1:]
    context = click.Context(command)
    while words and isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, code
        command = found
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


@pytest.mark.parametrize("code", [one for one in CODE if one.startswith("make ")])
def test_a_target_of_make_is_one_that_there_is(code: str):
    assert re.search(rf"^{re.escape(code.split()[1])}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
