"""Celery shells: ids in, one step, small JSON out."""

from eo_tasks.tasks.enqueue import enqueue_years
from eo_tasks.tasks.ordering.fetch import fetch
from eo_tasks.tasks.stages import btc, download, store

__all__ = ["btc", "download", "enqueue_years", "fetch", "store"]
