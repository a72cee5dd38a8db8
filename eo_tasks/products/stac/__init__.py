"""A static STAC catalog of composites and masks: items out of records, and the catalogs over them.

Everything here makes JSON-ready values; links are relative, so that the catalog may be moved or served together with
the files that it lists. STAC 1.1.0: https://github.com/radiantearth/stac-spec/tree/v1.1.0
"""

from eo_tasks.products.stac.catalogs import CATALOG, COLLECTION, Extent, catalog, child, collection, member
from eo_tasks.products.stac.composites import composite_id, composite_item
from eo_tasks.products.stac.item import Link, Origin
from eo_tasks.products.stac.masks import MaskAssets, Parent, mask_id, mask_item
from eo_tasks.products.stac.models import model_id, model_item
from eo_tasks.products.stac.tree import JsonTree

__all__ = [
    "CATALOG",
    "COLLECTION",
    "Extent",
    "JsonTree",
    "Link",
    "MaskAssets",
    "Origin",
    "Parent",
    "catalog",
    "child",
    "collection",
    "composite_id",
    "composite_item",
    "mask_id",
    "mask_item",
    "member",
    "model_id",
    "model_item",
]
