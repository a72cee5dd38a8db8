"""Where composites come from: openEO in production, any STAC catalog beside it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from eo_tasks.settings import ImagerySource, Settings
from eo_tasks.sources.request import CompositeRequest, Source

if TYPE_CHECKING:
    from eo_tasks.sources.openeo.backend import Backend

__all__ = ["CompositeRequest", "Source", "open_backends", "open_source"]


def open_source(settings: Settings) -> Source:
    """The source of ``IMAGERY_SOURCE`` that makes a composite while one waits: a STAC catalog before openEO.

    Opening one connects to nothing.

    Raises:
        SettingsError: A setting that the source needs is missing.
    """
    if ImagerySource.STAC in settings.imagery_source:
        from eo_tasks.sources.stac import StacSource

        return StacSource.from_settings(settings)
    from eo_tasks.sources.openeo.source import OpenEOSource

    return OpenEOSource.from_settings(settings)


def open_backends(settings: Settings) -> "Mapping[ImagerySource, Backend]":
    """Those of ``IMAGERY_SOURCE`` that composites are ordered from, in order of preference; nothing is connected yet.

    Raises:
        SettingsError: A setting that one needs is missing.
    """
    chosen = [source for source in settings.imagery_source if source is not ImagerySource.STAC]
    if not chosen:
        return {}
    from eo_tasks.sources.openeo.backend import Backend

    return {source: Backend.from_settings(settings, source) for source in chosen}
