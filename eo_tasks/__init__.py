"""Earth-observation change detection as a distributed Celery task queue."""

from importlib.metadata import version

__version__ = version("eo-tasks")
