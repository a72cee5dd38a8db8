"""Where composites come from: openEO in production, any STAC catalog beside it."""

from eo_tasks.settings import ImagerySource, Settings
from eo_tasks.sources.request import CompositeRequest, Source

__all__ = ["CompositeRequest", "Source", "open_source"]


def open_source(settings: Settings) -> Source:
    """The source that ``IMAGERY_SOURCE`` names; opening one connects to nothing.

    Raises:
        SettingsError: A setting that the source needs is missing.
    """
    if settings.imagery_source[0] is ImagerySource.STAC:
        from eo_tasks.sources.stac import StacSource

        return StacSource.from_settings(settings)
    from eo_tasks.sources.openeo.source import OpenEOSource

    return OpenEOSource.from_settings(settings)
