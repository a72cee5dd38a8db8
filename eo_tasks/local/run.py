"""``eo-tasks run``: the main job on one machine, every part a child process, stopped when it is done."""

import fcntl
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic

from eo_tasks.errors import PermanentError
from eo_tasks.local.redis_server import prepare_redis, wait_for_redis
from eo_tasks.local.screens import open_dashboard, open_flower, tell
from eo_tasks.local.services import Services
from eo_tasks.plan import Plan, plan
from eo_tasks.progress import Progress, read_progress
from eo_tasks.settings import Settings, override_environment
from eo_tasks.state.runs import Run, RunState
from eo_tasks.steps import take_inventory

log = logging.getLogger(__name__)

LOOK_S = 0.5
REST = 10  # looking at a country's units must not take the workers' time
ENVIRONMENT = "environment"  # a file for shells that want to talk to the run: `. data/run/environment`


@dataclass(frozen=True)
class Finished:
    """How a local run ended.

    Attributes:
        progress: The last look; ``None`` if there was nothing to do.
    """

    run: Run
    plan: Plan
    progress: Progress | None


def run_locally(
    settings: Settings,
    years: Sequence[int],
    grid_ids: Sequence[int | str] | None,
    *,
    with_flower: bool,
    with_dashboard: bool = True,
    announce: Callable[[str], None],
    follow: Callable[[Progress], None],
) -> Finished:
    """Do the main job with embedded parts and stop them all again, whatever happens.

    Args:
        settings: Where and how.
        years: The years to map.
        grid_ids: The cells; all for ``None``.
        with_flower: Whether Flower is started too.
        with_dashboard: Whether the dashboard is.
        announce: Called with a line for people.
        follow: Called with the progress, a few times a second.

    Raises:
        EOTasksError: The request cannot be used, or a part does not start.
    """
    from eo_tasks.tasks.context import pipeline
    from eo_tasks.tasks.enqueue import make_run

    run = make_run(years, grid_ids)
    _ = pipeline().source, pipeline().backends  # what it lacks is told before anything starts
    todo = plan(run.wanted, take_inventory(pipeline(), run.wanted))
    if todo.is_complete:
        return Finished(run, todo, None)
    runtime = settings.folder / "run"
    with _alone(runtime), Services(runtime) as services:
        try:
            _start(services, settings)
            told = runtime / ENVIRONMENT
            if with_dashboard:
                open_dashboard(services, settings, told, announce)
            if with_flower:
                open_flower(services, settings, told, announce)
            announce(f"Logs: {runtime}/*.log")
            return Finished(run, todo, _follow(services, run, todo, follow))
        finally:
            (runtime / ENVIRONMENT).unlink(missing_ok=True)


def _start(services: Services, settings: Settings) -> None:
    """Start Redis, then everyone who works with it."""
    server = prepare_redis(settings.folder / "redis")
    services.start("redis", server.argv)
    wait_for_redis(server)
    override_environment(dict(server.environment) | _absolute(settings))
    _reconnect()
    environment = settings.folder / "run" / ENVIRONMENT
    environment.unlink(missing_ok=True)
    tell(environment, server.environment)
    services.start_celery("worker-control", "-A", "beat", "worker", "-n", "control@%h", "-l", settings.log_level)
    services.start_celery("worker-cpu", "-A", "workers.cpu", "worker", "-n", "cpu@%h", "-l", settings.log_level)
    services.start_celery("worker-gpu", "-A", "workers.gpu", "worker", "-n", "gpu@%h", "-l", settings.log_level)
    services.start_celery("beat", "-A", "beat", "beat", "-l", settings.log_level, "--pidfile=")


def _absolute(settings: Settings) -> dict[str, str]:
    """Where data are, for processes that start in another folder."""
    name = "DATA_DIR" if settings.data_dir == settings.folder else "WORK_DIR"
    return {name: str(settings.folder.resolve())}


def _reconnect() -> None:
    """Point this process's Celery app and ledger at the Redis just started."""
    from eo_tasks import celery
    from eo_tasks.settings import current_settings
    from eo_tasks.tasks import context

    celery.configure(celery.app, current_settings())
    context.reopen()
    ledger = context.ledger()
    ledger.release_all()  # whoever held a unit, or an order, died with the last Redis
    context.orders().release_all()
    ledger.forget([*ledger.stuck_units(), *ledger.empty_units()])  # who runs this again wants it tried again


def _follow(services: Services, run: Run, todo: Plan, follow: Callable[[Progress], None]) -> Progress:
    """Enqueue the run, then look until nothing more will come."""
    from eo_tasks.tasks.checkpoints import export_changed
    from eo_tasks.tasks.context import ledger, runs
    from eo_tasks.tasks.control import resume
    from eo_tasks.tasks.enqueue import enqueue_years

    kept = runs().get(run.id)
    if kept is not None and kept.state is RunState.PAUSED:
        resume(kept)  # who runs this again has mended what it waited for
    enqueue_years(run.wanted.years, run.wanted.grid_ids)
    pause = Event()
    while True:
        begun = monotonic()
        progress = read_progress(ledger(), run.wanted, todo, run.created_at)
        follow(progress)
        if progress.is_settled:
            export_changed(begun, is_last=True)
            return progress
        _check_not_halted(run)
        services.check()
        pause.wait(max(LOOK_S, REST * (monotonic() - begun)))


def _check_not_halted(run: Run) -> None:
    """Raise where the run waits for a person.

    Raises:
        PermanentError: The account has no credits, or cannot be used, or the budget is spent.
    """
    from eo_tasks.tasks.context import runs

    kept = runs().get(run.id)
    if kept is not None and kept.state is RunState.PAUSED and kept.note:
        raise PermanentError(kept.note)


@contextmanager
def _alone(runtime: Path) -> Iterator[None]:
    """Hold ``DATA_DIR`` for one local run at a time.

    Raises:
        PermanentError: Another one runs.
    """
    runtime.mkdir(parents=True, exist_ok=True)
    with (runtime / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise PermanentError(
                f"{runtime.parent}: another eo-tasks run works on this DATA_DIR. Wait for it, or choose another one."
            ) from error
        yield
