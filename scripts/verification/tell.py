"""Running commands, waiting on conditions with deadlines, and saying what goes on."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event

BEGUN = time.monotonic()
LOOK_S = 1.0


class NotHeldError(Exception):
    """Something did not hold; the message is for a person."""


def say(text: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"[{time.monotonic() - BEGUN:6.0f} s] {text}", file=sys.stderr, flush=True)


def run(
    command: Sequence[str],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    accepted: Sequence[int] = (0,),
    text: str | None = None,
    limit_s: float = 3600,
) -> str:
    """Run a command and return what it printed; another exit code than the accepted ones is a failure."""
    done = subprocess.run(
        command, env=environment, cwd=folder, input=text, capture_output=True, text=True, timeout=limit_s, check=False
    )
    if done.returncode not in accepted:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise NotHeldError(f"{' '.join(command)[:200]} ended with {done.returncode}:\n{said}")
    return done.stdout


def until(condition: Callable[[], bool], limit_s: float, what: str) -> float:
    """Wait until a condition holds; gives the seconds it took."""
    pause, begun = Event(), time.monotonic()
    while not condition():
        if time.monotonic() - begun > limit_s:
            raise NotHeldError(f"{what}: not within {limit_s:.0f} s")
        pause.wait(LOOK_S)
    return time.monotonic() - begun
