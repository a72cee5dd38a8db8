"""What opens composites, masks and polygons in QGIS: mosaics, styles, and a project that has them all.

Paths in them are relative, so that a folder may be moved as a whole. QGIS 3.22 and later read them.
"""

from eo_tasks.products.qgis.mosaic import Band, Mosaic, Source
from eo_tasks.products.qgis.project import Group, Layer, project
from eo_tasks.products.qgis.styles import (
    style_file,
    style_of_change,
    style_of_composites,
    style_of_polygons,
    style_of_probability,
)

__all__ = [
    "Band",
    "Group",
    "Layer",
    "Mosaic",
    "Source",
    "project",
    "style_file",
    "style_of_change",
    "style_of_composites",
    "style_of_polygons",
    "style_of_probability",
]
