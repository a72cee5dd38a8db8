"""The ``eo-tasks`` command."""

from eo_tasks.cli.main import main

__all__ = ["main"]
