"""A worker's share of its machine, from the settings."""

from celery import Celery

from eo_tasks.settings import Settings

KB_PER_GB = 1_000_000
GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # remote COGs: read the header, list nothing
    "GDAL_HTTP_MULTIRANGE": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "1",
    "VSI_CACHE": "TRUE",
}


def recycle(app: Celery, settings: Settings, concurrency: int) -> None:
    """Replace a process that has outgrown its part of ``MEMORY_LIMIT_GB`` once its task is done."""
    app.conf.worker_max_memory_per_child = int(settings.memory_limit_gb * KB_PER_GB / concurrency)


def gdal_cache_mb(settings: Settings, concurrency: int) -> int:
    """GDAL's block cache of one process: a tenth of its memory; GDAL's default is a share of the whole machine's."""
    return max(int(settings.memory_limit_gb * 1000 / concurrency / 10), 64)
