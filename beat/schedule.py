"""The schedule as a table. Only one clock ticks: RedBeat holds a lock in Redis, a second one stands by."""

from dataclasses import dataclass

from beat.ticks import sweep
from eo_tasks.celery import CONTROL, app, queue
from eo_tasks.settings import current_settings
from workers.health import watch


@dataclass(frozen=True)
class Tick:
    """A periodic task.

    Attributes:
        every_s: Its interval; a tick that nobody took within it is dropped.
    """

    task: str
    every_s: float


SCHEDULE = (Tick(sweep.name, current_settings().sweep_s),)

app.conf.update(
    beat_scheduler="redbeat.RedBeatScheduler",
    beat_schedule={
        tick.task: {"task": tick.task, "schedule": tick.every_s, "options": {"expires": tick.every_s, "queue": CONTROL}}
        for tick in SCHEDULE
    },
    beat_max_loop_interval=5,
    redbeat_redis_url=current_settings().result_url,
    redbeat_key_prefix="eo-tasks:redbeat:",
    redbeat_lock_timeout=15,  # a dead clock is replaced after this; the default takes 25 minutes
    task_annotations={**app.conf.task_annotations, **{tick.task: {"ignore_result": True} for tick in SCHEDULE}},
    worker_pool="prefork",
    worker_concurrency=1,
    # As a worker, answer the clock and the producer, and nothing else.
    task_queues=[queue(CONTROL)],
)
watch(app)
