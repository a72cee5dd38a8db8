"""What the shell completes from a running system: ids of runs and of kinds of errors."""

from contextlib import suppress

import click
from click.shell_completion import CompletionItem
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from eo_tasks.errors import EOTasksError
from eo_tasks.ranges import write_ranges
from eo_tasks.settings import load_settings
from eo_tasks.state.entry import Limits
from eo_tasks.state.lookups import Lookups
from eo_tasks.state.runs import Runs

PATIENCE_S = 0.5  # someone waits at the keyboard
UNUSABLE = (RedisError, EOTasksError)  # then nothing is completed; the command itself says what is wrong


def complete_runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of runs that begin so, the latest first, and ``latest``."""
    found = [("latest", "the run asked for last")]
    with suppress(*UNUSABLE), _redis() as redis:
        runs = reversed(Runs(redis).all())
        found += [(run.id, f"{run.state}, years {write_ranges(run.wanted.years)}") for run in runs]
    return _beginning(found, incomplete)


def complete_errors(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids and classes of kinds of errors that begin so."""
    found: list[tuple[str, str]] = []
    with suppress(*UNUSABLE), _redis() as redis:
        groups = Lookups(redis, Limits()).error_groups()
        found += [(group.fingerprint, f"{group.number}: {group.example}") for group in groups]
        found += [(name, "all of this class") for name in sorted({group.error_class for group in groups})]
    return _beginning(found, incomplete)


def _redis() -> Redis:
    return Redis.from_url(
        load_settings().result_url,
        decode_responses=True,
        socket_connect_timeout=PATIENCE_S,
        socket_timeout=PATIENCE_S,
        retry=Retry(NoBackoff(), 0),
    )


def _beginning(found: list[tuple[str, str]], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(value, help=told) for value, told in found if value.startswith(incomplete)]
