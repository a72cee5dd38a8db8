"""A small country to try everything on, made on the spot: grid, scenes, known changes, a network that knows them.

No network is needed and nothing in it is real. ``write_sample`` puts it on disk; ``score`` holds results against it.
"""

from eo_tasks.sample.score import Score, score
from eo_tasks.sample.write import Sample, write_sample

__all__ = ["Sample", "Score", "score", "write_sample"]
