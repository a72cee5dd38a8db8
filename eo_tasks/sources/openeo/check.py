"""Look at a backend before a run does: what could go wrong, in the order in which it would."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from eo_tasks.errors import AccountError, EOTasksError, TransientError
from eo_tasks.grid import PIXEL_M, Cell
from eo_tasks.raster import PixelGrid
from eo_tasks.settings import ImagerySource, OpenEOAuth
from eo_tasks.sources.openeo.account import account_of, person_of
from eo_tasks.sources.openeo.backend import Backend, disconnect
from eo_tasks.sources.openeo.connection import quick_session
from eo_tasks.sources.openeo.faults import translated
from eo_tasks.sources.openeo.graph import SCL
from eo_tasks.sources.openeo.jobs import Jobs
from eo_tasks.sources.openeo.logging_in import logged_in
from eo_tasks.sources.openeo.login import Login
from eo_tasks.sources.openeo.result import read_result
from eo_tasks.sources.request import CompositeRequest

if TYPE_CHECKING:
    from eo_tasks.settings import Settings

SIDE_PX = 10
MOST_JOBS = 1000  # looked at
PLACE = (14.5, 46.05)  # longitude and latitude of Ljubljana: Sentinel-2 sees it from several orbits


class Finding(NamedTuple):
    """One thing that is in order."""

    what: str
    told: str


@dataclass(frozen=True)
class Check:
    """The checks of one backend.

    Attributes:
        cell: Where the request is made; ``None`` for some place of the collection.
        today: The day; the request is for the last complete year.
    """

    settings: "Settings"
    source: ImagerySource
    cell: Cell | None = None
    today: date = field(default_factory=lambda: datetime.now(UTC).date())
    clock: Callable[[], float] = time.monotonic

    def findings(self, is_request_made: bool = True) -> Iterator[Finding]:
        """What is in order, one by one.

        Args:
            is_request_made: Whether to have something computed, which costs a few credits.

        Raises:
            EOTasksError: The first thing that is not.
        """
        try:
            yield from self._findings(is_request_made)
        except TransientError as error:  # a worker would try again; here a person does
            raise type(error)(str(error).replace("It is tried again", "Try again")) from error
        finally:
            disconnect()

    def _findings(self, is_request_made: bool) -> Iterator[Finding]:
        backend = Backend.from_settings(self.settings, self.source)
        login, answer_s = backend.login, backend.answer_s
        anyone = replace(login, method=OpenEOAuth.NONE)
        with (
            quick_session(answer_s) as session,
            translated(login, "backend"),
            logged_in(anyone, session, answer_s) as connection,
        ):
            yield _backend(login, connection)
        with (
            quick_session(answer_s) as session,
            translated(login, "login"),
            logged_in(login, session, answer_s) as connection,
        ):
            with translated(login, "account"):
                account = {} if login.method is OpenEOAuth.NONE else account_of(connection)
            yield Finding("account", _person(login, account))
            yield Finding("limits", self._limits())
            yield Finding("credits", _credits(connection, account))
            with translated(login, f"collection {backend.collection!r}"):
                described = connection.describe_collection(backend.collection)
            year = self._year(described)
            yield Finding("collection", self._bands(login, described) + f"; {_span(described)}")
            capabilities = connection.capabilities()
        with backend.connected() as jobs:  # as workers are
            has_jobs = login.method is not OpenEOAuth.NONE and capabilities.supports_endpoint("/jobs")
            yield Finding("jobs", _jobs(jobs) if has_jobs else "none: the backend has synchronous requests only")
            if is_request_made:
                is_possible = capabilities.supports_endpoint("/result", method="POST")
                asked = self._asked(described, year)
                made = self._request(backend, jobs, asked) if is_possible else "not made: it has batch jobs only"
                yield Finding("request", made)

    @property
    def _collection(self) -> str:
        return str(getattr(self.settings, f"{self.source}_collection"))

    def _limits(self) -> str:
        settings = self.settings
        most = settings.openeo_max_credits
        return (
            f"{settings.openeo_max_jobs} jobs and {settings.openeo_max_requests} requests at once, "
            f"{settings.openeo_starts_per_minute} starts a minute, "
            + ("any number of credits" if most is None else f"{most:g} credits a run")
        )

    def _bands(self, login: Login, described: Mapping[str, Any]) -> str:
        held = _bands_of(described)
        wanted = [*self.settings.composite_bands, SCL]
        if missing := [band for band in wanted if held and band not in held]:
            raise AccountError(
                f"openEO collection {self._collection!r} at {login} has no {', '.join(missing)}; it has "
                f"{', '.join(held)}. Check {login.prefix}_COLLECTION and COMPOSITE_BANDS."
            )
        return f"{self._collection} has {', '.join(wanted)}" if held else f"{self._collection} does not tell its bands"

    def _year(self, described: Mapping[str, Any]) -> int:
        """The last year that is over and of whose season the collection has something.

        Raises:
            AccountError: There is none.
        """
        first, last = _interval(described)
        months = self.settings.composite_months
        newest = min(self.today.year - 1, last.year if last else self.today.year)
        oldest = first.year if first else newest
        for year in range(newest, max(oldest, newest - 20) - 1, -1):
            asked = CompositeRequest("", PixelGrid(0, (0, 0, 0, 0)), year, (), months, ())
            if (first is None or first < asked.end) and (last is None or last >= asked.start):
                return year
        raise AccountError(
            f"openEO collection {self._collection!r} has {_span(described)}: nothing of months "
            f"{months[0]}–{months[-1]} of a year that is over. Check {self.source.upper()}_COLLECTION and "
            "COMPOSITE_MONTHS."
        )

    def _asked(self, described: Mapping[str, Any], year: int) -> CompositeRequest:
        settings = self.settings
        pixels = _square(described) if self.cell is None else _middle(PixelGrid.of(self.cell))
        place = "A place of the collection" if self.cell is None else f"Cell {self.cell.label or self.cell.grid_id}"
        return CompositeRequest(
            f"{place}, {year}",
            pixels,
            year,
            settings.composite_bands,
            settings.composite_months,
            settings.masked_scl,
            settings.max_cloud_cover,
        )

    def _request(self, backend: Backend, jobs: Jobs, asked: CompositeRequest) -> str:
        began = self.clock()
        with TemporaryDirectory(prefix="eo-tasks-") as folder:
            target = Path(folder) / "request.tiff"
            try:
                details = jobs.compute(asked, target)
                took_s, size = self.clock() - began, target.stat().st_size
                made = read_result(target, asked, backend.origin(details))
            except EOTasksError as error:
                raise type(error)(f"{asked.name}: {error}") from error
        clear = made.clear_count
        return (
            f"{asked.name}, months {asked.months[0]}–{asked.months[-1]}: {clear.shape[1]}×{clear.shape[0]} px in "
            f"{took_s:.1f} s, {size / 1000:.1f} kB; {clear.min()} to {clear.max()} clear observations"
            + (f"; {details['credits']} credits" if "credits" in details else "")
        )


def _backend(login: Login, connection: Any) -> Finding:
    capabilities = connection.capabilities()
    title = capabilities.get("title") or capabilities.get("id") or "openEO backend"
    return Finding("backend", f"{title} at {login}, openEO API {capabilities.api_version()}")


def _person(login: Login, account: Mapping[str, Any]) -> str:
    if login.method is OpenEOAuth.NONE:
        return f"none: {login.prefix}_AUTH_METHOD=none"
    return f"{person_of(account)}, logged in with {login.described}"


def _credits(connection: Any, account: Mapping[str, Any]) -> str:
    billing = connection.capabilities().get("billing") or {}
    currency = billing.get("currency") or "credits"
    plan = account.get("default_plan") or billing.get("default_plan")
    left = account.get("budget")
    told = f"{left:g} {currency} left" if isinstance(left, int | float) else "the backend does not tell what is left"
    return f"{told}; plan {plan}" if plan else told


def _jobs(jobs: Jobs) -> str:
    listed = list(islice(jobs.all(), MOST_JOBS + 1))
    if not listed:
        return "none yet"
    counts = Counter(str(job.status) for job in listed[:MOST_JOBS])
    several = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    return f"{sum(counts.values())}{' and more' if len(listed) > MOST_JOBS else ''}: {several}"


def _bands_of(described: Mapping[str, Any]) -> list[str]:
    """Names of a collection's bands; empty where it does not tell."""
    for dimension in (described.get("cube:dimensions") or {}).values():
        if dimension.get("type") == "bands":
            return [str(band) for band in dimension.get("values") or ()]
    return []


def _interval(described: Mapping[str, Any]) -> tuple[date | None, date | None]:
    """First and last day of a collection; ``None`` where it is open."""
    intervals = described.get("extent", {}).get("temporal", {}).get("interval") or [[None, None]]
    first, last = (None if end is None else date.fromisoformat(str(end)[:10]) for end in intervals[0])
    return first, last


def _span(described: Mapping[str, Any]) -> str:
    first, last = _interval(described)
    return f"{first or 'the beginning'} to {last or 'today'}"


def _middle(pixels: PixelGrid) -> PixelGrid:
    """A few pixels in the middle, or all if there are few."""
    xmin, ymin, xmax, ymax = pixels.bounds
    column, row = max(0, (pixels.width - SIDE_PX) // 2), max(0, (pixels.height - SIDE_PX) // 2)
    left, top = xmin + column * PIXEL_M, ymax - row * PIXEL_M
    right, bottom = min(left + SIDE_PX * PIXEL_M, xmax), max(top - SIDE_PX * PIXEL_M, ymin)
    return PixelGrid(pixels.epsg, (left, bottom, right, top))


def _square(described: Mapping[str, Any]) -> PixelGrid:
    """A few pixels of a place in the collection, in the place's UTM zone."""
    from rasterio.warp import transform

    boxes = described.get("extent", {}).get("spatial", {}).get("bbox") or [[-180, -90, 180, 90]]
    box = boxes[0]
    west, south, east, north = box if len(box) == 4 else (box[0], box[1], box[3], box[4])
    longitude, latitude = PLACE
    if not (west <= longitude <= east and south <= latitude <= north):
        longitude, latitude = (west + east) / 2, (south + north) / 2
    epsg = (32600 if latitude >= 0 else 32700) + min(60, int((longitude + 180) // 6) + 1)
    (x,), (y,) = transform("EPSG:4326", f"EPSG:{epsg}", [longitude], [latitude])
    left, bottom = (round(value / PIXEL_M) * PIXEL_M for value in (x, y))
    side = SIDE_PX * PIXEL_M
    return PixelGrid(epsg, (float(left), float(bottom), float(left + side), float(bottom + side)))
