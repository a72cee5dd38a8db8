"""The ticks: short, locked, and harmless when they come twice or late."""

import os
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, time

from eo_tasks import alerts, steps
from eo_tasks.celery import app
from eo_tasks.errors import EOTasksError
from eo_tasks.settings import PipelineMode, current_settings
from eo_tasks.state.entry import State
from eo_tasks.state.history import Sample
from eo_tasks.tasks import checkpoints, feed, sweep, sync
from eo_tasks.tasks.context import known, runs, state_redis
from eo_tasks.tasks.ordering import advance, fetch
from eo_tasks.units import Stage


@dataclass(frozen=True)
class Tick:
    """A periodic task.

    Attributes:
        name: Of its task.
        every_s: Its interval; a tick that nobody took within it is dropped.
        does: What, until a time of the monotonic clock; gives what it did, by name.
    """

    name: str
    every_s: float
    does: Callable[[float], dict[str, int]]

    @property
    def budget_s(self) -> float:
        """How long it may take: shorter than its interval."""
        return 0.6 * self.every_s

    def run(self) -> dict[str, int]:
        """Do it, unless it was done within this interval, by whoever."""
        turn = max(round(900 * self.every_s), 1)  # a clock may be a little early
        if not state_redis().set(f"eo-tasks:tick:{self.name}", time(), nx=True, px=turn):
            return {}
        done = self.does(monotonic() + self.budget_s)
        state_redis().set(f"eo-tasks:tick-ended:{self.name}", time())
        return done


def _feed(until: float) -> dict[str, int]:
    return {str(stage): number for stage, number in feed.feed(until).items()}


def _orders(until: float) -> dict[str, int]:
    return advance.look_after(until, f"tick/{os.getpid()}/{secrets.token_hex(6)}")


def _export(until: float) -> dict[str, int]:
    return {"files": checkpoints.export_changed(until)}


def _sample(until: float) -> dict[str, int]:
    done, failed = Counter[Stage](), Counter[Stage]()
    for (stage, _), counts in known().ledger.all_counts().items():
        done[stage] += counts.get(State.COMPLETED, 0)
        failed[stage] += sum(number for state, number in counts.items() if state.needs_a_person)
    known().history.add(Sample(time(), done, failed))
    return {"completed": done.total(), "failed": failed.total()}


def _alerts(until: float) -> dict[str, int]:
    return dict(alerts.watch(known(), current_settings(), lambda: monotonic() > until))


def _tidy(_: float) -> dict[str, int]:
    steps.clear_scratch(current_settings().folder)
    fetch.clear_files()
    return {"runs": runs().forget_old(time())}


_SWEEP_S = current_settings().sweep_s
_SYNC = (
    (Tick("beat.sync", current_settings().sync_s, sync.synchronise),)  # what a database that was away has missed
    if current_settings().pipeline_mode is PipelineMode.HYBRID
    else ()
)

SCHEDULE = (
    Tick("beat.feed", _SWEEP_S / 3, _feed),  # keep the queues filled
    Tick("beat.sweep", _SWEEP_S, sweep.sweep),  # lost messages, stale leases, what is due again
    Tick("beat.orders", current_settings().openeo_poll_s, _orders),  # what is ordered from remote sources
    Tick("beat.export", 4 * _SWEEP_S, _export),  # checkpoint files
    Tick("beat.sample", _SWEEP_S, _sample),  # what rates and the time left are reckoned from
    Tick("beat.alerts", 30, _alerts),  # what someone should know
    Tick("beat.tidy", 3600, _tidy),  # what killed processes left, runs of long ago
    *_SYNC,
)


def _register(tick: Tick) -> None:
    @app.task(name=tick.name, throws=(EOTasksError,), ignore_result=True)
    def task() -> dict[str, int]:
        return tick.run()


for _tick in SCHEDULE:
    _register(_tick)
