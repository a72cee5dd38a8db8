"""The schedule of the clock, and of the worker that answers it."""

from beat.ticks import SCHEDULE
from eo_tasks.celery import CONTROL, app, queue
from eo_tasks.settings import current_settings
from workers.health import watch

app.conf.update(
    beat_scheduler="beat.clock:Clock",
    beat_schedule={
        tick.name: {"task": tick.name, "schedule": tick.every_s, "options": {"expires": tick.every_s, "queue": CONTROL}}
        for tick in SCHEDULE
    },
    beat_max_loop_interval=5,
    redbeat_redis_url=current_settings().result_url,
    redbeat_key_prefix="eo-tasks:redbeat:",
    redbeat_lock_timeout=15,  # a dead clock is replaced after this; the default takes 25 minutes
    worker_pool="prefork",
    worker_concurrency=3,  # neither an export nor a synchronisation must hold up the feeder
    # As a worker, answer the clock and the producer, and nothing else.
    task_queues=[queue(CONTROL)],
)
watch(app)
