"""What each stage does, without Celery: ids in, files made, a small outcome out.

Every step may run twice: where its output is stored and whole it returns at once, *skipped*.
"""

from eo_tasks.steps.images import download, store
from eo_tasks.steps.inventory import take_inventory
from eo_tasks.steps.masks import infer, infer_all
from eo_tasks.steps.pipeline import Outcome, Pipeline
from eo_tasks.steps.scratch import clear_scratch

__all__ = ["Outcome", "Pipeline", "clear_scratch", "download", "infer", "infer_all", "store", "take_inventory"]
