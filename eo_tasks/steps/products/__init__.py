"""Products that people open: a STAC catalog, change polygons, quicklooks, a QGIS project; made of what is stored.

Each may be made again at any time: what is as it should be stays.
"""

from eo_tasks.steps.products.catalog import check_files, make_catalog
from eo_tasks.steps.products.made import Made, Selection
from eo_tasks.steps.products.polygons import export_polygons
from eo_tasks.steps.products.qgis import make_project
from eo_tasks.steps.products.quicklooks import contact_sheet, make_quicklooks

__all__ = [
    "Made",
    "Selection",
    "check_files",
    "contact_sheet",
    "export_polygons",
    "make_catalog",
    "make_project",
    "make_quicklooks",
]
