"""The GPU-queue worker: batched inference of BTC (``celery -A workers.gpu worker``); without a GPU it uses the CPU.

The pool's one process is a fresh interpreter, not a fork: CUDA does not survive a fork. It loads the network before
it takes its first task.
"""

import logging
from typing import Any

from celery.signals import worker_init, worker_process_init

from eo_tasks.celery import BTC, app, queue
from eo_tasks.errors import EOTasksError
from eo_tasks.settings import current_settings
from eo_tasks.tasks.context import pipeline
from workers.health import watch

log = logging.getLogger(__name__)

app.conf.update(
    worker_pool="prefork",
    worker_concurrency=1,
    worker_pool_start_method="spawn",
    imports=("workers.gpu",),  # the fresh interpreter needs the signal handler below
)
watch(app)
app.conf.task_queues = [queue(BTC)]


@worker_init.connect
def check_checkpoint(**_: Any) -> None:
    """Refuse to start, and so to take tasks, without the device asked for or a checkpoint that loads."""
    from eo_tasks.btc.checkpoint import load_checkpoint
    from eo_tasks.btc.inference import choose_device

    settings = current_settings()
    try:
        choose_device(settings.btc_device)
        load_checkpoint(settings.btc_model_checkpoint, settings.btc_model_revision)
    except EOTasksError as error:
        raise SystemExit(f"eo-tasks: {error}") from None


@worker_process_init.connect
def load_network(**_: Any) -> None:
    """Load the network once per process, on its device."""
    checkpoint = pipeline().checkpoint
    log.info("BTC network loaded: %s, revision %s", checkpoint.name, checkpoint.revision)
