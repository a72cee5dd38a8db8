"""A small country to try everything on, made on the spot: grid, scenes, known changes, a network that knows them.

No network is needed and nothing in it is real. ``write_sample`` puts it on disk.
"""

from eo_tasks.sample.write import Sample, write_sample

__all__ = ["Sample", "write_sample"]
