"""Composites computed by an openEO backend, such as the Copernicus Data Space Ecosystem's."""

import contextlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from eo_tasks.errors import EmptyCompositeError, EOTasksError, SourceError, SourceUnavailableError
from eo_tasks.raster import Composite, Origin
from eo_tasks.settings import OpenEOMode
from eo_tasks.sources.openeo.faults import job_failure, translated
from eo_tasks.sources.openeo.graph import composite_graph
from eo_tasks.sources.openeo.login import Login
from eo_tasks.sources.openeo.result import read_result

if TYPE_CHECKING:
    from eo_tasks.settings import Settings
    from eo_tasks.sources.request import CompositeRequest

FIRST_POLL_S, LAST_POLL_S = 1.0, 30.0
MISSED_POLLS = 5  # in a row, after which a job counts as out of reach
OFFSET_APPLIED = "applied by the backend"  # documentation of CDSE's SENTINEL2_L2A
OFFSET_UNKNOWN = "left to the backend: openEO does not tell"


@dataclass(frozen=True)
class OpenEOSource:
    """Has a backend compute composites and fetches them."""

    login: Login
    collection: str
    mode: OpenEOMode
    timeout_s: float
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        """Take the ``OPENEO_*`` settings; nothing is connected yet.

        Raises:
            SettingsError: The login lacks a variable.
        """
        return cls(
            login=Login.from_settings(settings),
            collection=settings.openeo_collection,
            mode=settings.openeo_mode,
            timeout_s=settings.openeo_timeout_s,
        )

    def composite(self, request: "CompositeRequest", scratch: Path) -> Composite:
        """Make one composite; see ``Source.composite``."""
        scratch.mkdir(parents=True, exist_ok=True)
        target = scratch / f"{secrets.token_hex(8)}.tiff"
        try:
            details = self._fetch(request, target)
            return read_result(target, request, self._origin(details))
        except EOTasksError as error:
            is_empty = isinstance(error, EmptyCompositeError)
            asked = f" Asked for were months {request.months[0]}–{request.months[-1]}." if is_empty else ""
            raise type(error)(f"{request.name}: {error}{asked}") from error
        finally:
            target.unlink(missing_ok=True)

    def _fetch(self, request: "CompositeRequest", target: Path) -> dict[str, str]:
        with translated(self.login, "login"), self.login.connection() as connection:
            try:
                graph = composite_graph(request, self.collection)
                if self.mode is OpenEOMode.BATCH:
                    return self._fetch_batch(connection, graph, request.name, target)
                with translated(self.login, "request"):
                    connection.download(graph, target, timeout=int(self.timeout_s), validate=False)
                return {}
            except EmptyCompositeError:
                # Some backends answer "no data" for a collection that they do not have.
                with translated(self.login, f"collection {self.collection!r}"):
                    connection.describe_collection(self.collection)
                raise

    def _fetch_batch(self, connection: Any, graph: dict[str, Any], title: str, target: Path) -> dict[str, str]:
        with translated(self.login, "job"):
            job = connection.create_job(graph, title=title, validate=False)
        described = self._run(job)
        with translated(self.login, f"download of job {job.job_id}"):
            self._download(job, target)
        costs = described.get("costs")
        return {"job_id": job.job_id} | ({} if costs is None else {"credits": str(costs)})

    def _run(self, job: Any) -> Mapping[str, Any]:
        """Start a job and wait until it has finished; gives what the backend says of it then.

        A job that cannot start or takes too long is given up, so that it neither takes a slot nor costs credits.
        """
        deadline = self.clock() + self.timeout_s
        try:
            with translated(self.login, f"start of job {job.job_id}"):
                job.start()
        except SourceUnavailableError:
            _give_up(job.delete)
            raise
        pause_s, missed = FIRST_POLL_S, 0
        while True:
            try:
                with translated(self.login, f"job {job.job_id}"):
                    described: Mapping[str, Any] = job.describe()
                status, missed = str(described.get("status", "unknown")), 0
            except SourceUnavailableError:
                missed += 1
                if missed >= MISSED_POLLS:
                    raise
                described, status = {}, "unknown"
            if status == "finished":
                return described
            if status == "error":
                raise job_failure(self.login, job.job_id, self._last_line(job))
            if status == "canceled":
                raise SourceError(f"openEO job {job.job_id} at {self.login} was canceled there. Retry the cell.")
            if self.clock() + pause_s > deadline:
                _give_up(job.stop)
                raise SourceUnavailableError(
                    f"openEO job {job.job_id} at {self.login} is {status} after {self.timeout_s:g} s and was stopped. "
                    "It is tried again; raise OPENEO_TIMEOUT_S if the backend is slow."
                )
            self.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LAST_POLL_S)

    def _last_line(self, job: Any) -> str:
        with translated(self.login, f"log of job {job.job_id}"):
            lines = [str(entry.get("message", "")) for entry in job.logs(level="error")]
        return lines[-1] if lines else ""

    def _download(self, job: Any, target: Path) -> None:
        assets = job.get_results().get_assets()
        files = [asset for asset in assets if "tif" in f"{asset.media_type} {asset.key}".lower()]
        if not files:
            raise SourceUnavailableError(
                f"openEO job {job.job_id} at {self.login} finished without a file ({len(assets)} assets). "
                "It is computed again."
            )
        if len(files) > 1:
            names = ", ".join(asset.key for asset in files)
            raise SourceError(
                f"openEO job {job.job_id} at {self.login} made several files ({names}) where one is expected. "
                "Report it to the backend's operator."
            )
        files[0].download(target, redact_url_logging=True)

    def _origin(self, details: dict[str, str]) -> Origin:
        host = urlsplit(self.login.url if "://" in self.login.url else f"https://{self.login.url}").hostname or ""
        is_cdse = host.endswith("dataspace.copernicus.eu")
        return Origin(
            source="openeo",
            collection=self.collection,
            offset=OFFSET_APPLIED if is_cdse else OFFSET_UNKNOWN,
            details={"url": str(self.login), "mode": str(self.mode), **details},
        )


def _give_up(action: Callable[[], Any]) -> None:
    """Tidy up at the backend; a failure of that must not hide why."""
    import requests
    from openeo import BaseOpenEoException

    with contextlib.suppress(BaseOpenEoException, requests.RequestException):
        action()
