"""Composites that an openEO backend computes at once, while the request waits."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from eo_tasks.errors import EmptyCompositeError, EOTasksError, SourceBusyError
from eo_tasks.raster import Composite
from eo_tasks.settings import ImagerySource
from eo_tasks.sources.openeo.backend import Backend
from eo_tasks.sources.openeo.result import read_result

if TYPE_CHECKING:
    from eo_tasks.settings import Settings
    from eo_tasks.sources.request import CompositeRequest


@dataclass(frozen=True)
class OpenEOSource:
    """Has a backend compute composites by synchronous requests; its batch jobs are orders, not a source."""

    backend: Backend

    @classmethod
    def from_settings(cls, settings: "Settings", source: ImagerySource = ImagerySource.OPENEO) -> Self:
        """Take the ``OPENEO_*`` or ``OPENEO2_*`` settings; nothing is connected yet.

        Raises:
            SettingsError: The login lacks a variable.
        """
        return cls(Backend.from_settings(settings, source))

    def composite(self, request: "CompositeRequest", scratch: Path) -> Composite:
        """Make one composite; see ``Source.composite``."""
        scratch.mkdir(parents=True, exist_ok=True)
        target = scratch / f"{secrets.token_hex(8)}.tiff"
        try:
            with self.backend.connected() as jobs:
                details = jobs.compute(request, target)
            return read_result(target, request, self.backend.origin(details))
        except EOTasksError as error:
            raise named(error, request) from error
        finally:
            target.unlink(missing_ok=True)


def named(error: EOTasksError, request: "CompositeRequest") -> EOTasksError:
    """The same error, its message beginning with what was asked for."""
    is_empty = isinstance(error, EmptyCompositeError)
    asked = f" Asked for were months {request.months[0]}–{request.months[-1]}." if is_empty else ""
    message = f"{request.name}: {error}{asked}"
    if isinstance(error, SourceBusyError):
        return SourceBusyError(message, error.retry_after_s)
    return type(error)(message)
