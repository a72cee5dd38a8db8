"""``doctor``: what keeps a running system from going on, and what lies about at openEO accounts."""

import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from time import time

import click
from rich.console import Console
from rich.table import Table

from eo_tasks.cli.exit_codes import UNUSABLE
from eo_tasks.errors import EOTasksError
from eo_tasks.setting_types import S3Url
from eo_tasks.settings import Settings, load_settings
from eo_tasks.state.connection import connect, explained
from eo_tasks.state.runs import RunState
from eo_tasks.storage import open_place

LEAST_FREE_GB = 5
LATE_TICKS = 4  # intervals without a tick, after which the clock or its worker counts as gone

Finding = tuple[str, str, bool]  # what was looked at, what was found, whether it is in order


@click.command()
@click.option("--delete", is_flag=True, help="Delete jobs of ours at openEO accounts that nobody needs.")
def doctor(delete: bool) -> None:
    """Look for what keeps the system from going on.

    Redis, clock, disk, runs, accounts, orders and their jobs. Ends with 1 if something needs a person.

    \b
    Examples:
      eo-tasks doctor
      eo-tasks doctor --delete
    """
    settings = load_settings()
    console = Console()
    table = Table("", "Looked at", "Found", title="eo-tasks doctor", title_justify="left")
    is_well = True
    with explained(settings.redis_url):
        connect(settings.broker_url).ping()
        for what, told, is_good in (*_system(settings), *_orders(), *_jobs(delete=delete)):
            table.add_row("ok" if is_good else "!!", what, told)
            is_well &= is_good
    console.print(table)
    sys.exit(0 if is_well else UNUSABLE)


def _system(settings: Settings) -> Iterator[Finding]:
    from beat.ticks import SCHEDULE
    from eo_tasks.tasks.context import ledger, runs, state_redis

    yield "Redis", "answers", True
    for tick in SCHEDULE[:2]:
        last = state_redis().get(f"eo-tasks:tick-ended:{tick.name}")
        age_s = None if last is None else time() - float(last)
        told = "never" if age_s is None else f"{timedelta(seconds=round(age_s))} ago"
        is_late = age_s is None or age_s > LATE_TICKS * tick.every_s
        advice = ": is beat running, and its worker (celery -A beat worker)?" if is_late else ""
        yield f"Tick {tick.name}", f"{told}{advice}", not is_late or not runs().active()
    yield from _place(settings)
    chosen = settings.folder.absolute()
    folder = next(path for path in (chosen, *chosen.parents) if path.exists())
    free_gb = shutil.disk_usage(folder).free / 1e9
    yield "Disk", f"{free_gb:.0f} GB free at {folder}", free_gb >= LEAST_FREE_GB
    number = sum(group.number for group in ledger().error_groups())
    yield "Failed units", f"{number}: eo-tasks errors" if number else "none", not number
    for run in runs().all():
        if run.state is RunState.PAUSED:
            yield f"Run {run.id}", f"paused: {run.note or 'by a person'}", not run.note


def _place(settings: Settings) -> Iterator[Finding]:
    """A bucket; a folder is told of by its disk."""
    if isinstance(settings.data_dir, S3Url):
        try:
            open_place(settings).check()
        except EOTasksError as error:
            yield "Bucket", str(error), False
        else:
            yield "Bucket", f"{settings.data_dir} can be written and read", True


def _orders() -> Iterator[Finding]:
    from eo_tasks.tasks.context import accounts, orders

    known = orders().all()
    by_state = Counter(str(order.state) for order in known)
    yield "Orders", ", ".join(f"{number} {state}" for state, number in by_state.items()) or "none", True
    for order in known:
        if order.error:
            yield f"Order {order.id}", f"{order.name}, {order.state}, try {order.attempts + 1}: {order.error}", True
    for account, standing in accounts().all().items():
        yield f"Account {account}", standing.reason, not standing.out_until


def _jobs(*, delete: bool) -> Iterator[Finding]:
    from eo_tasks.tasks.context import pipeline
    from eo_tasks.tasks.ordering.doctor import delete_litter, own_jobs

    for source, backend in pipeline().backends.items():
        try:
            found = own_jobs(backend)
        except EOTasksError as error:
            yield f"Jobs at {source}", str(error), False
            continue
        counted = Counter(str(one.standing) for one in found)
        told = ", ".join(f"{number} {standing}" for standing, number in counted.items()) or "none of ours"
        yield f"Jobs at {source}", told, True
        litter = [one for one in found if one.is_litter]
        if delete:
            for one in delete_litter(backend, litter):
                yield f"Job {one.job.id}", f"{one.job.title}: {one.standing}, {one.job.status}; deleted", True
            continue
        for one in litter:
            told = f"{one.job.title}: {one.standing}, {one.job.status}; delete it with: eo-tasks doctor --delete"
            yield f"Job {one.job.id}", told, False
