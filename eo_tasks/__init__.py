"""Earth-observation change detection as a distributed Celery task queue.

The three stages can be used by themselves, without queue and workers: ``SentinelDownloader``, ``ImageStore`` and
``BTCProcessor``. They are imported when they are first asked for, so that ``import eo_tasks`` stays cheap.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eo_tasks.steps.alone import BTCProcessor, ImageStore, Processed, SentinelDownloader

__version__ = version("eo-tasks")
__all__ = ["BTCProcessor", "ImageStore", "Processed", "SentinelDownloader", "__version__"]


def __getattr__(name: str) -> Any:
    """Import a stage's class when it is first asked for."""
    if name in __all__:
        return getattr(import_module("eo_tasks.steps.alone"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
