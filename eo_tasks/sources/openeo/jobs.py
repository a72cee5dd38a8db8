"""What an account at an openEO backend can be asked for, each a short step: create, start, look, list, fetch."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from eo_tasks.errors import (
    AccountError,
    EmptyCompositeError,
    EOTasksError,
    ResultGoneError,
    SourceError,
    SourceUnavailableError,
)
from eo_tasks.sources.openeo.assets import JSON, assets_of, links_of, only_geotiff
from eo_tasks.sources.openeo.connection import CONNECT_S, Line
from eo_tasks.sources.openeo.faults import code_of, job_failure
from eo_tasks.sources.openeo.graph import composite_graph
from eo_tasks.sources.openeo.job import Job
from eo_tasks.sources.openeo.transfer import LinkGoneError, download, receive

if TYPE_CHECKING:
    from eo_tasks.sources.request import CompositeRequest

PAGE = 100


class Jobs:
    """The batch jobs and synchronous requests of one account; every call is one step that ends soon.

    Only ``compute`` and ``fetch`` take longer than an answer. No message begins with what was asked for; whoever calls
    knows that.
    """

    def __init__(self, line: Line, collection: str, timeout_s: float) -> None:
        self._line = line
        self._collection = collection
        self._timeout_s = timeout_s

    def create(self, title: str, request: "CompositeRequest") -> str:
        """Create a batch job, which starts nothing yet, and give its id.

        An error may come after the backend has created it: look for ``title`` among ``all`` before creating again.

        Raises:
            EOTasksError: See ``faults.MEANINGS``.
        """
        graph = composite_graph(request, self._collection)
        with self._no_data_explained():
            job = self._line.ask("job", lambda backend: backend.create_job(graph, title=title, validate=False))
        return str(job.job_id)

    def start(self, job_id: str) -> None:
        """Start a job; one that is started already goes on.

        Raises:
            SourceBusyError: All places of the account are taken.
            NoSuchJobError: The backend does not know the job.
            EOTasksError: See ``faults.MEANINGS``.
        """
        try:
            with self._no_data_explained():
                self._line.ask(f"start of job {job_id}", lambda backend: backend.job(quoted(job_id)).start())
        except SourceError as error:
            if code_of(error) != "JobLocked":  # it is queued or running
                raise

    def look(self, job_id: str) -> Job:
        """What the backend says of a job.

        Raises:
            NoSuchJobError: It does not know the job.
            EOTasksError: See ``faults.MEANINGS``.
        """
        told = self._read(f"job {job_id}", f"/jobs/{quoted(job_id)}")
        return Job.of({**told, "id": job_id})

    def all(self) -> Iterator[Job]:
        """All jobs of the account, whoever made them, page by page.

        Raises:
            EOTasksError: See ``faults.MEANINGS``; some jobs may have been given by then.
        """
        url: str | None = f"/jobs?limit={PAGE}"
        seen: set[str] = set()
        pages: set[str] = set()
        while url is not None and url not in pages:  # a page that follows itself is the last
            pages.add(url)
            told, url = self._page(url)
            for record in told.get("jobs") or ():
                job = Job.of(record)
                if job.id and job.id not in seen:  # pages shift while jobs are created
                    seen.add(job.id)
                    yield job

    def failure(self, job_id: str) -> EOTasksError:
        """Why a job is in status ``error``, by its log.

        Returns:
            ``EmptyCompositeError`` where it found no data, ``CreditsExhaustedError`` where it says so, else
            ``JobFailedError``, also for an empty log: that is how a job dies that took too much memory.

        Raises:
            SourceUnavailableError: The log cannot be read now.
            AccountError: The account or the collection cannot be used.
        """
        try:
            log = self._line.ask(
                f"log of job {job_id}", lambda backend: backend.job(quoted(job_id)).logs(level="error")
            )
            lines = [str(entry.get("message", "")) for entry in log]
        except AccountError:
            raise
        except SourceError as error:
            lines = [f"its log cannot be read ({error})"]
        failure = job_failure(self._line.login, job_id, lines)
        if isinstance(failure, EmptyCompositeError):
            self._check_collection()
        return failure

    def fetch(self, job_id: str, target: Path) -> dict[str, str]:
        """Bring the file of a finished job to ``target``, which is there whole or not at all.

        A later call goes on where a broken one ended. Links that have expired are asked for anew.

        Returns:
            Facts of the request.

        Raises:
            ResultGoneError: The job has no file (any more).
            SourceUnavailableError: The transfer broke, or the backend does not answer.
            SourceError: It has several files.
            EOTasksError: See ``faults.MEANINGS``.
        """
        try:
            self._download(job_id, target)
        except LinkGoneError:
            try:
                self._download(job_id, target)
            except LinkGoneError as error:
                raise ResultGoneError(
                    f"openEO job {job_id} at {self._line.login}: its file is gone, also by fresh links. "
                    "It is computed again."
                ) from error
        return {"job_id": job_id}

    def compute(self, request: "CompositeRequest", target: Path) -> dict[str, str]:
        """Have a composite computed at once and bring its file to ``target``; blocks for as long as that takes.

        Returns:
            Facts of the request.

        Raises:
            SourceBusyError: The backend does as many at once as it may.
            EmptyCompositeError: It has no scene.
            EOTasksError: See ``faults.MEANINGS``.
        """
        graph = {"process": {"process_graph": composite_graph(request, self._collection)}}
        limits = (CONNECT_S, self._timeout_s)

        def post(backend: Any) -> dict[str, str]:
            with backend.post("/result", json=graph, expected_status=200, stream=True, timeout=limits) as response:
                target.parent.mkdir(parents=True, exist_ok=True)
                receive(response, target)
                told = {
                    "request_id": response.headers.get("OpenEO-Identifier"),
                    "credits": response.headers.get("OpenEO-Costs", response.headers.get("OpenEO-Costs-experimental")),
                }
                return {name: value for name, value in told.items() if value}

        with self._no_data_explained():
            return self._line.ask("request", post)

    def stop(self, job_id: str) -> None:
        """Stop a job, so that it costs no more; a failure of that is nobody's concern."""
        with contextlib.suppress(EOTasksError):
            self._line.ask(f"stop of job {job_id}", lambda backend: backend.job(quoted(job_id)).stop())

    def delete(self, job_id: str) -> None:
        """Delete a job and what it made; a failure of that is nobody's concern."""
        with contextlib.suppress(EOTasksError):
            self._line.ask(f"removal of job {job_id}", lambda backend: backend.job(quoted(job_id)).delete())

    def _download(self, job_id: str, target: Path) -> None:
        asset = self._asset(job_id)
        size, checksum = asset.get("file:size"), asset.get("file:checksum")
        self._line.ask(
            f"download of job {job_id}",
            lambda backend: download(
                backend,
                str(asset["href"]),
                target,
                expected_size=size if isinstance(size, int) else None,
                checksum=str(checksum) if checksum else None,
            ),
        )

    def _asset(self, job_id: str) -> JSON:
        """The one GeoTIFF of a job, with an absolute address."""
        step, url = f"results of job {job_id}", f"/jobs/{quoted(job_id)}/results"
        try:
            told, base = self._read_with_url(step, url)
        except SourceError as error:
            if type(error) is not SourceError or getattr(error.__cause__, "http_status_code", None) != 404:
                raise
            raise ResultGoneError(f"{error} It is computed again.") from error
        assets = assets_of(told, base)
        for link in [] if assets else links_of(told, "item"):  # where each file has a STAC item of its own
            assets |= assets_of(*self._read_with_url(step, self._inside(link, base)))
        return only_geotiff(assets, f"openEO job {job_id} at {self._line.login}")

    def _page(self, url: str) -> tuple[JSON, str | None]:
        told, base = self._read_with_url("list of jobs", url)
        following = links_of(told, "next")
        return told, self._inside(following[0], base) if following else None

    def _inside(self, link: str, base: str) -> str:
        """The address of a link, under the backend's own where it is the same machine.

        Backends behind a proxy give links that begin with ``http:``, or with a path that lacks the proxy's part; the
        client sends its token to addresses under its own only.
        """
        root = self._line.ask("address", lambda backend: str(backend.root_url)).rstrip("/")
        url = urljoin(base, link)
        parts, own = urlsplit(url), urlsplit(root)
        if url.startswith(f"{root}/") or parts.hostname != own.hostname:
            return url
        path = parts.path.removeprefix(own.path) if parts.path.startswith(f"{own.path}/") else parts.path
        return f"{root}{path}" + (f"?{parts.query}" if parts.query else "")

    def _read(self, step: str, url: str) -> JSON:
        return self._read_with_url(step, url)[0]

    def _read_with_url(self, step: str, url: str) -> tuple[JSON, str]:
        def get(backend: Any) -> tuple[Any, str]:
            response = backend.get(url, expected_status=200)
            return response.json(), str(response.url)

        told, address = self._line.ask(step, get)
        if not isinstance(told, dict):
            raise SourceUnavailableError(f"openEO {step} at {self._line.login}: no openEO answer. It is tried again.")
        return told, address

    @contextlib.contextmanager
    def _no_data_explained(self) -> Iterator[None]:
        """Some backends answer "no data" for a collection that they do not have."""
        try:
            yield
        except EmptyCompositeError:
            self._check_collection()
            raise

    def _check_collection(self) -> None:
        login, collection = self._line.login, self._collection
        try:
            self._line.ask(f"collection {collection!r}", lambda backend: backend.describe_collection(collection))
        except SourceError as error:
            if getattr(error.__cause__, "http_status_code", None) != 404:
                raise
            prefix = login.prefix
            raise AccountError(
                f"openEO collection {collection!r} at {login}: it is not there. Check {prefix}_URL and "
                f"{prefix}_COLLECTION."
            ) from error


def quoted(job_id: str) -> str:
    """A job's id as a part of a path."""
    return quote(job_id, safe="")
