"""What a person does by this command is written down, as what is done in the dashboard is."""

import getpass
from time import time

from eo_tasks.state.audit import Deed


def write_down(action: str, target: str, outcome: str) -> None:
    """Write a deed down."""
    from eo_tasks.tasks.context import audit

    audit().add(Deed(time(), f"{_who()} (command line)", action, target, outcome))


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "someone"
