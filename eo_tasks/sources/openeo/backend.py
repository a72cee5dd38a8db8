"""One openEO backend and one account there."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import SplitResult, urlsplit

from eo_tasks.raster import Origin
from eo_tasks.settings import ImagerySource, OpenEOMode
from eo_tasks.sources.openeo.connection import Line, disconnect, line_for
from eo_tasks.sources.openeo.jobs import Jobs
from eo_tasks.sources.openeo.login import Login

if TYPE_CHECKING:
    from eo_tasks.settings import Settings

__all__ = ["Backend", "disconnect"]

OFFSET_APPLIED = "applied by the backend"  # documentation of CDSE's SENTINEL2_L2A
OFFSET_UNKNOWN = "left to the backend: openEO does not tell"


@dataclass(frozen=True)
class Backend:
    """An openEO backend and an account there.

    Attributes:
        source: Which group of settings it is.
        collection: Id of its Sentinel-2 L2A collection.
        mode: Which processing is used.
        timeout_s: Longest time that a synchronous request may compute.
        answer_s: Longest wait for an answer that computes nothing.
    """

    source: ImagerySource
    login: Login
    collection: str
    mode: OpenEOMode
    timeout_s: float
    answer_s: float

    @classmethod
    def from_settings(cls, settings: "Settings", source: ImagerySource = ImagerySource.OPENEO) -> Self:
        """Take the ``OPENEO_*`` or ``OPENEO2_*`` settings; nothing is connected yet.

        Raises:
            SettingsError: The login lacks a variable.
        """
        return cls(
            source=source,
            login=Login.from_settings(settings, source),
            collection=getattr(settings, f"{source}_collection"),
            mode=getattr(settings, f"{source}_mode"),
            timeout_s=settings.openeo_timeout_s,
            answer_s=settings.openeo_answer_s,
        )

    @property
    def account(self) -> str:
        """A short, stable id of the account; it tells no secret."""
        url = self._url
        parts = (
            url.hostname or "",
            str(url.port or ""),
            url.path.rstrip("/"),
            self.login.method,
            self.login.name or "",
        )
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    def origin(self, details: dict[str, str]) -> Origin:
        """Where a composite of this backend comes from, with facts of the one request."""
        is_cdse = (self._url.hostname or "").endswith("dataspace.copernicus.eu")
        return Origin(
            source=str(self.source),
            collection=self.collection,
            offset=OFFSET_APPLIED if is_cdse else OFFSET_UNKNOWN,
            details={"url": str(self.login), "mode": str(self.mode), **details},
        )

    @contextmanager
    def connected(self) -> Iterator[Jobs]:
        """What the account can be asked for, logged in; the connection stays open for the next time.

        Raises:
            AccountError: The login is refused.
            SourceUnavailableError: The backend or its identity provider does not answer.
        """
        line = line_for(self, lambda: Line(self.login, self.answer_s))
        line.open()
        yield Jobs(line, self.collection, self.timeout_s)

    @property
    def _url(self) -> SplitResult:
        url = self.login.url
        return urlsplit(url if "://" in url else f"https://{url}")
