"""The CPU worker: downloads and stores (``celery -A workers.cpu worker``)."""

from typing import Any

import rasterio
from celery.signals import worker_init, worker_process_init

from eo_tasks.celery import DOWNLOADS, STORES, app, queue
from eo_tasks.errors import EOTasksError
from eo_tasks.settings import current_settings
from eo_tasks.tasks.context import pipeline
from workers.health import watch
from workers.login import check_login
from workers.logs import keep_logs
from workers.resources import GDAL, gdal_cache_mb, recycle
from workers.tidy import keep_tidy

settings = current_settings()
app.conf.update(worker_pool="prefork", worker_concurrency=settings.max_workers)
recycle(app, settings, settings.max_workers)
watch(app)
keep_tidy(app)
keep_logs()
check_login()
# Stores first: a composite that is paid for is brought to safety before the next one is begun.
app.conf.task_queues = [queue(STORES), queue(DOWNLOADS)]
app.conf.broker_transport_options = {**app.conf.broker_transport_options, "queue_order_strategy": "priority"}


@worker_init.connect
def check_source(**options: Any) -> None:
    """Refuse to start, and so to take tasks, with a source that lacks a setting or a store that is not there."""
    try:
        _ = pipeline().source, pipeline().backends
        pipeline().store.check()
    except EOTasksError as error:
        raise SystemExit(f"eo-tasks: {error}") from None


@worker_process_init.connect
def configure_gdal(**_: Any) -> None:
    """Open GDAL's environment for the life of this process."""
    rasterio.Env(GDAL_CACHEMAX=gdal_cache_mb(settings, settings.max_workers), **GDAL).__enter__()
