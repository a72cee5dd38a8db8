"""The GPU-queue worker: batched inference of BTC (``celery -A workers.gpu worker``); without a GPU it uses the CPU.

The pool's one process is a fresh interpreter, not a fork: CUDA does not survive a fork. It alone imports torch, and it
loads the network before the worker is ready.
"""

import logging
from typing import Any

import rasterio
from celery.signals import worker_process_init

from eo_tasks.celery import BTC, app, queue
from eo_tasks.errors import EOTasksError
from eo_tasks.tasks.context import pipeline
from workers.health import watch
from workers.login import check_login
from workers.logs import keep_logs
from workers.ready import announce, wait_for_process
from workers.resources import GDAL, gdal_cache_mb
from workers.tidy import keep_tidy

log = logging.getLogger(__name__)

LOAD_S = 1800.0  # a process that loads for longer is replaced; the first one may download the checkpoint

app.conf.update(
    worker_pool="prefork",
    worker_concurrency=1,
    worker_pool_start_method="spawn",
    worker_proc_alive_timeout=LOAD_S,
    imports=("workers.gpu",),  # the fresh interpreter needs the signal handler below
)
watch(app)
keep_tidy(app)
keep_logs()
check_login()
wait_for_process(app)
app.conf.task_queues = [queue(BTC)]


@worker_process_init.connect
def load_network(**_: Any) -> None:
    """Load the network once per process, on its device; the worker is ready when that is done."""
    settings = pipeline().settings
    rasterio.Env(GDAL_CACHEMAX=gdal_cache_mb(settings, 1), **GDAL).__enter__()  # for the life of this process
    try:
        pipeline().store.check()
        model = pipeline().model
    except EOTasksError as error:
        announce(str(error))
        return
    log.info(
        "BTC network loaded: %s, revision %s, on %s in %s, %d windows at once",
        model.name, model.revision, model.engine.device, model.precision, model.engine.batch_size,
    )  # fmt: skip
    announce()
