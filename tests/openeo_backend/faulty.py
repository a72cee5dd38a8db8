"""An openEO backend that fails on demand: a process of its own, with a real HTTP server and real GeoTIFFs.

It speaks as much of https://api.openeo.org/v/1.2.0/ as batch jobs and synchronous requests take, and is for faults that
real server software cannot be made to have, and for drills with hundreds of quick jobs. What real software answers is
tested with ``servers.py``. Jobs live in memory; what counts is written to ``audit.jsonl``, line by line.

    with FaultyBackend(folder) as backend:
        backend.set_faults(Fault("POST", JOBS, "commit_then_502", times=2))
        ...  # use backend.url with USER and PASSWORD
        assert all(len(ids) == 1 for ids in backend.created_by_title().values())

By hand: ``python -m tests.openeo_backend.faulty --port 8080 --state /tmp/backend``.
"""

import argparse
import base64
import contextlib
import dataclasses
import hashlib
import hmac
import json
import math
import re
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import numpy as np
import rasterio
import requests
from affine import Affine
from numpy.typing import NDArray
from rasterio.warp import transform_bounds

REPOSITORY = Path(__file__).resolve().parents[2]
USER, PASSWORD = "tester", "open sesame"
COLLECTION = "SENTINEL2_L2A"
BANDS = ("B02", "B03", "B04", "B08", "SCL")
CLEAR_COUNT = "clear_count"
FILE_NAME = "openEO.tif"
MEDIA_TYPE = "image/tiff; application=geotiff"
PIXEL_M = 10
MULTIHASH_SHA256 = "1220"  # code 0x12, length 0x20; https://multiformats.io/multihash/

# What a fault's path may be; any regular expression for the whole path is.
JOBS, JOB, RESULTS, LOGS = "/jobs", "/jobs/[^/]+", "/jobs/[^/]+/results", "/jobs/[^/]+/logs"
RESULT, FILES, LOGIN, ANYTHING = "/result", "/files/.+", "/credentials/basic", "/.*"

OF_REQUESTS = ("drop", "slow", "cut", "commit_then_502", "commit_then_drop", "out_of_credits")
OF_RESULTS = ("empty", "garbage", "no_assets")
OF_JOBS = ("fail_job", "fail_job_silently", "fail_if_larger_than", "no_data", "never_clear", "shift", "wrong_bands")
LEVELS = ("debug", "info", "warning", "error")

JSON = dict[str, Any]
Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with some requests.

    Attributes:
        method: HTTP method; empty: any.
        path: Regular expression for the whole path.
        answer: ``{"status": 503, "code": …, "message": …, "headers": {…}}`` (without a code: the page of a proxy), or
            one of these. Of any request: ``drop``, ``slow:SECONDS`` before it is done, ``cut:BYTES``,
            ``commit_then_502``, ``commit_then_drop``, ``out_of_credits``. Of what is fetched, or of a job when its
            creation or start is named: ``empty``, ``garbage``, ``no_assets``. Of a job, when its creation or start or
            a synchronous request is named: ``fail_job:MESSAGE``, ``fail_job_silently``,
            ``fail_if_larger_than:PIXELS``, ``no_data``, ``never_clear``, ``shift``, ``wrong_bands``.
        times: How often; -1: always.
        after: Matching requests that are left alone before.
        every: Only each n-th of those that follow.
        title: Regular expression for a part of the title of the job that the request is about.
    """

    method: str
    path: str
    answer: str | Mapping[str, Any]
    times: int = 1
    after: int = 0
    every: int = 1
    title: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("answer", *OF_REQUESTS, *OF_RESULTS, *OF_JOBS):
            raise ValueError(f"{self.answer!r} is no fault")
        if self.kind in OF_JOBS and self.method not in ("POST", ""):
            raise ValueError(f"{self.kind} is of jobs: name the POST that creates or starts them")
        for number, kinds in ((float, ("slow",)), (int, ("cut", "fail_if_larger_than"))):
            if self.kind in kinds:
                number(self.value)

    @property
    def kind(self) -> str:
        """The answer's first word."""
        return self.answer.partition(":")[0] if isinstance(self.answer, str) else "answer"

    @property
    def value(self) -> str:
        """What follows the answer's colon."""
        return self.answer.partition(":")[2] if isinstance(self.answer, str) else ""


@dataclass(frozen=True)
class Options:
    """How the backend is when nothing goes wrong; all of it may be changed while it runs.

    Attributes:
        job_s: How long a job takes, a quarter of it in the queue.
        synchronous_s: How long a synchronous request takes.
        max_active: Most jobs queued or running; more: 400 ``ConcurrentJobLimit`` at the start.
        max_synchronous: Most synchronous requests at once; more: 429.
        starts_per_minute: Most starts and synchronous requests in ``minute_s``; more: 429 with ``Retry-After``.
        minute_s: What counts as a minute.
        link_s: How long links to results hold; then: 410 ``ResultLinkExpired``.
        page_size: Most jobs of one page of the list, however many were asked for.
        job_costs: Credits of a finished job, whatever its size.
        costs_per_250k_px: Credits of a finished job for each 250,000 pixels.
        synchronous_costs: Credits of a synchronous request.
        budget: Credits of the account; once spent: 402 ``PaymentRequired`` at the start.
    """

    job_s: float = 0.2
    synchronous_s: float = 0.1
    max_active: int = 2
    max_synchronous: int = 2
    starts_per_minute: int | None = None
    minute_s: float = 60
    link_s: float = 7 * 24 * 3600
    page_size: int | None = None
    job_costs: float = 2
    costs_per_250k_px: float = 0.25
    synchronous_costs: float = 6
    budget: float | None = None

    def costs_of(self, pixels: int) -> float:
        """Credits of a finished job."""
        return round(self.job_costs + self.costs_per_250k_px * pixels / 250_000, 4)


class FaultyBackend:
    """A running backend, seen from a test; it ends with the block, or with the test's process.

    Attributes:
        url: Its address.
        audit_file: Where it writes down what counts.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        """Prepare a backend with its files in ``folder``; for the options see ``Options``."""
        self.folder = folder
        self.audit_file = folder / "audit.jsonl"
        self.url = ""
        self._options = asdict(Options(**options))
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.openeo_backend.faulty", "--port", "0", "--state", self.folder.resolve()]
        with (self.folder / "faulty.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--options", json.dumps(self._options), "--until-eof"],
                cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            self.__exit__()
            raise RuntimeError(f"the backend did not start:\n{(self.folder / 'faulty.log').read_text()}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def set_faults(self, *faults: Fault) -> None:
        """Let these go wrong from now on, and no others; a request meets the first that is due."""
        self._control("_faults", [asdict(fault) for fault in faults])

    def set(self, **options: Any) -> None:
        """Change options."""
        self._control("_options", options)

    def jobs(self) -> list[JSON]:
        """All jobs that the backend holds now, oldest first: id, title, status, costs, bounds, year."""
        answer = requests.get(f"{self.url}/_jobs", timeout=10)
        answer.raise_for_status()
        held: list[JSON] = answer.json()
        return held

    def audit(self, event: str | None = None) -> list[JSON]:
        """What happened, in order: each with ``event``, ``time``, and what belongs to it.

        Events are login, created, started, refused, finished, failed, canceled, deleted, described, listed, linked,
        downloaded, synchronous and fault.
        """
        lines = self.audit_file.read_text(encoding="utf-8").splitlines(keepends=True)
        told = [json.loads(line) for line in lines if line.endswith("\n")]
        return [each for each in told if event in (None, each["event"])]

    def created_by_title(self) -> dict[str, list[str]]:
        """Ids of all jobs ever created, by their titles."""
        created: dict[str, list[str]] = {}
        for each in self.audit("created"):
            created.setdefault(each["title"], []).append(each["id"])
        return created

    def _control(self, path: str, told: Any) -> None:
        answer = requests.post(f"{self.url}/{path}", json=told, timeout=10)
        if not answer.ok:
            raise ValueError(answer.text)


def paint(bounds: Bounds, year: int, bands: Sequence[str]) -> NDArray[np.uint16]:
    """The pixels of an area, each a function of its own place, so that areas that overlap agree.

    Returns:
        The bands, then ``clear_count`` (1–5), shape (band, y, x); the place of a pixel is its upper left corner's.
    """
    xmin, ymin, xmax, ymax = (round(value / PIXEL_M) for value in bounds)
    place = np.arange(xmin, xmax)[None, :] + 3 * np.arange(ymax, ymin, -1)[:, None]
    layers = [1000 + (place + 17 * _band_number(band) + 101 * year) % 3000 for band in bands]
    return np.stack([*layers, 1 + place % 5]).astype(np.uint16)


def _band_number(band: str) -> int:
    return BANDS.index(band) if band in BANDS else zlib.crc32(band.encode()) % 100


class Refusal(Exception):  # noqa: N818  it is an answer
    """An error as openEO tells it."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status, self.headers = status, headers
        self.body = {"id": secrets.token_hex(4), "code": code, "message": message}


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Message
    body: bytes
    base: str

    def json(self) -> Any:
        """The body."""
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise Refusal(400, "RequestBodyInvalid", "the body is no JSON") from error


@dataclass(frozen=True)
class Answer:
    """What is sent back; ``cut``: the bytes after which the connection is closed."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None

    @classmethod
    def of(cls, told: Any, status: int = 200, **headers: str) -> Self:
        """JSON."""
        return cls(status, json.dumps(told).encode(), {"Content-Type": "application/json", **headers})


def _page(status: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    """What a proxy in front of a backend answers."""
    html = f"<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>"
    return Answer(status, html.encode(), {"Content-Type": "text/html", **(headers or {})})


@dataclass(frozen=True)
class Area:
    """What a process graph asks for; the bounds lie on the 10 m grid."""

    collection: str
    bounds: Bounds
    epsg: int
    year: int
    bands: tuple[str, ...]

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        xmin, ymin, xmax, ymax = self.bounds
        return round((xmax - xmin) / PIXEL_M), round((ymax - ymin) / PIXEL_M)

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return math.prod(self.size_px)

    @classmethod
    def of(cls, told: Any) -> Self:
        """Read the body of ``POST /jobs`` or ``POST /result``."""
        try:
            nodes = list(told["process"]["process_graph"].values())
        except (KeyError, TypeError, AttributeError) as error:
            raise Refusal(400, "ProcessGraphMissing", "the body has no process graph") from error
        try:
            loads = [node["arguments"] for node in nodes if node["process_id"] == "load_collection"]
            load = max(loads, key=lambda each: each.get("bands") not in (None, ["SCL"]))
            extent = load["spatial_extent"]
            epsg = target = _epsg(extent.get("crs", 4326))
            for node in nodes:
                if node["process_id"] == "resample_spatial":
                    target = _epsg(node["arguments"].get("projection") or epsg)
            bounds = tuple(float(extent[side]) for side in ("west", "south", "east", "north"))
            if epsg != target:
                bounds = transform_bounds(epsg, target, *bounds)
            if target == 4326:
                raise Refusal(400, "ProcessGraphInvalid", "the result would not be in metres: use resample_spatial")
            lower = (math.floor(value / PIXEL_M + 1e-6) * PIXEL_M for value in bounds[:2])
            upper = (math.ceil(value / PIXEL_M - 1e-6) * PIXEL_M for value in bounds[2:])
            year = int(load["temporal_extent"][0][:4])
            return cls(load["id"], (*lower, *upper), target, year, tuple(load.get("bands") or BANDS))
        except (KeyError, TypeError, ValueError) as error:
            raise Refusal(400, "ProcessGraphInvalid", f"load_collection is not understood: {error!r}") from error


def _epsg(crs: Any) -> int:
    return int(str(crs).upper().removeprefix("EPSG:"))


def make_file(area: Area, faults: Sequence[Fault], target: Path) -> None:
    """Compute what was asked for, or fail as told to."""
    kinds = {fault.kind for fault in faults}
    if area.collection != COLLECTION:
        raise Refusal(404, "CollectionNotFound", f"Collection {area.collection!r} does not exist.")
    for fault in faults:
        if fault.kind == "fail_job":
            raise Refusal(500, "Internal", fault.value or "failed")
        if fault.kind == "fail_job_silently":
            raise Refusal(500, "Internal", "")
        if fault.kind == "fail_if_larger_than" and area.pixels > int(fault.value):
            raise Refusal(500, "Internal", f"out of memory: {area.pixels} pixels")
        if fault.kind == "no_data":
            raise Refusal(400, "NoDataAvailable", "There is no data available for the given extents.")
    target.parent.mkdir(parents=True, exist_ok=True)
    if "empty" in kinds:
        target.write_bytes(b"")
        return
    if "garbage" in kinds:
        target.write_bytes(_page(200, "Please log in").body)
        return
    bands = area.bands[1:] if "wrong_bands" in kinds else area.bands
    image = paint(area.bounds, area.year, bands)
    if "never_clear" in kinds:
        image[:] = 0
    moved = PIXEL_M / 2 if "shift" in kinds else 0
    width, height = area.size_px
    with rasterio.open(
        target,
        "w",
        driver="GTiff",
        dtype="uint16",
        count=len(image),
        width=width,
        height=height,
        nodata=0,
        crs=f"EPSG:{area.epsg}",
        transform=Affine(PIXEL_M, 0, area.bounds[0] + moved, 0, -PIXEL_M, area.bounds[3] - moved),
        compress="deflate",
        predictor=2,
        zlevel=1,
    ) as sink:
        sink.write(image)
        sink.descriptions = (*bands, CLEAR_COUNT)


@dataclass
class Job:
    """A batch job."""

    id: str
    number: int
    title: str | None
    process: JSON
    area: Area
    faults: list[Fault]
    created: str
    status: str = "created"
    updated: str = ""
    running_since: float = 0
    costs: float | None = None
    log: list[JSON] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def is_active(self) -> bool:
        """Whether it takes a slot."""
        return self.status in ("queued", "running")

    def take(self, status: str) -> None:
        """Move to another status."""
        self.status, self.updated = status, _now()

    def say(self, level: str, message: str, code: str | None = None) -> None:
        """Add a line to its log."""
        line = {"id": str(len(self.log) + 1), "level": level, "time": _now(), "message": message}
        self.log.append(line | ({"code": code} if code else {}))

    def described(self, job_s: float) -> JSON:
        """What the list tells of it."""
        share = min(0.99, (time.monotonic() - self.running_since) / max(job_s, 1e-3)) if self.running_since else 0
        progress = {"running": round(100 * share, 1), "finished": 100}.get(self.status, 0)
        told = {"id": self.id, "title": self.title, "status": self.status, "created": self.created}
        told |= {"updated": self.updated or self.created, "progress": progress}
        return told if self.costs is None else told | {"costs": self.costs}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Route(NamedTuple):
    """An endpoint and the method of ``Backend`` that serves it."""

    method: str
    path: str
    serve: "Callable[[Backend, Request], Answer]"
    is_open: bool = False


class Backend:
    """The state of the backend, and what its endpoints do."""

    def __init__(self, folder: Path, options: Options) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._options = folder, options
        self._audit = (folder / "audit.jsonl").open("a", encoding="utf-8")
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._created = 0
        self._starts: deque[float] = deque()
        self._synchronous = 0
        self._spent = 0.0
        self._faults: list[Fault] = []
        self._seen: list[int] = []
        self._hits: list[int] = []
        self._secret = secrets.token_bytes(16)
        self._here = threading.local()  # the faults of the request that this thread serves

    def answer(self, request: Request) -> Answer | None:
        """Serve a request with the faults that are due; ``None``: close the connection."""
        spoilt = None
        self._here.faults = []
        makes_job = request.method == "POST" and re.fullmatch(f"{JOBS}|{RESULTS}", request.path)
        for fault in self._due(request):
            if fault.kind == "slow":
                time.sleep(float(fault.value))
            elif fault.kind in OF_JOBS or (makes_job and fault.kind in OF_RESULTS):
                self._here.faults.append(fault)
            else:
                spoilt = fault
        if spoilt is None:
            return self._serve(request)
        if spoilt.kind == "answer":
            assert isinstance(spoilt.answer, Mapping)
            return _answer_of(spoilt.answer)
        if spoilt.kind == "out_of_credits":
            return _answer_of({"status": 402, "code": "PaymentRequired", "message": "The account has no credits left."})
        return None if spoilt.kind == "drop" else self._spoil(self._serve(request), spoilt)

    def _due(self, request: Request) -> Iterator[Fault]:
        if request.path.startswith("/_"):
            return
        due = []
        with self._lock:
            title = self._title(request)
            for index, fault in enumerate(self._faults):
                is_meant = fault.method in ("", request.method) and re.fullmatch(fault.path, request.path)
                if not is_meant or (fault.title is not None and not re.search(fault.title, title)):
                    continue
                self._seen[index] += 1
                past = self._seen[index] - fault.after - 1
                if past < 0 or past % fault.every or 0 <= fault.times <= self._hits[index]:
                    continue
                self._hits[index] += 1
                self._note("fault", method=request.method, path=request.path, title=title, answer=fault.answer)
                due.append(fault)
                if fault.kind != "slow" and fault.kind not in OF_JOBS:
                    break
        yield from due

    def _title(self, request: Request) -> str:
        if request.method == "POST" and request.path in (JOBS, RESULT):
            with contextlib.suppress(Refusal, AttributeError):
                return str(request.json().get("title") or "")
        parts = request.path.split("/")
        job = self._jobs.get(parts[2]) if len(parts) > 2 else None
        return str(job.title or "") if job else ""

    @staticmethod
    def _spoil(answer: Answer, fault: Fault) -> Answer | None:
        if fault.kind == "commit_then_drop":
            return None
        if fault.kind == "commit_then_502":
            return _page(502, "502 Bad Gateway")
        if fault.kind == "cut":
            return dataclasses.replace(answer, cut=int(fault.value))
        if fault.kind == "no_assets":
            return Answer.of(json.loads(answer.body) | {"assets": {}}) if answer.status == 200 else answer
        return dataclasses.replace(answer, body=b"") if fault.kind == "empty" else _page(200, "Please log in")

    def _serve(self, request: Request) -> Answer:
        try:
            method = "GET" if request.method == "HEAD" else request.method
            routes = [route for route in ROUTES if re.fullmatch(_pattern(route.path), request.path)]
            for route in routes:
                if route.method == method:
                    if not route.is_open:
                        self._authorize(request)
                    return route.serve(self, request)
            raise Refusal(405 if routes else 404, "NotFound", f"{request.method} {request.path} does not exist.")
        except Refusal as refusal:
            return Answer.of(refusal.body, refusal.status, **refusal.headers)

    def _note(self, event: str, **told: Any) -> None:
        with self._lock:
            self._audit.write(json.dumps({"event": event, "time": time.time(), **told}) + "\n")
            self._audit.flush()

    # Who asks

    def _sign(self, text: str) -> str:
        return hmac.new(self._secret, text.encode(), "sha256").hexdigest()

    def _authorize(self, request: Request) -> None:
        given = request.headers.get("Authorization")
        if not given:
            raise Refusal(401, "AuthenticationRequired", "Unauthorized.")
        if given != f"Bearer basic//{self._sign(USER)}":
            raise Refusal(403, "TokenInvalid", "The token is not valid.")

    def login(self, request: Request) -> Answer:
        """Give a token for a user's name and password."""
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {expected}":
            raise Refusal(403, "CredentialsInvalid", "Credentials are not correct.")
        self._note("login")
        return Answer.of({"access_token": self._sign(USER)})

    def me(self, request: Request) -> Answer:
        """Tell the account's name and budget."""
        budget = self._options.budget
        left = None if budget is None else max(0.0, budget - self._spent)
        return Answer.of({"user_id": USER, "name": USER, "budget": left, "links": []})

    # What it can do

    def capabilities(self, request: Request) -> Answer:
        """Tell which endpoints there are."""
        endpoints: dict[str, list[str]] = {}
        for route in ROUTES:
            if not route.path.startswith(("/_", "/files", "/.well-known")):
                endpoints.setdefault(route.path, []).append(route.method)
        return Answer.of(
            {
                "api_version": "1.2.0",
                "backend_version": "1.0.0",
                "stac_version": "1.0.0",
                "type": "Catalog",
                "id": "faulty",
                "title": "faulty",
                "description": "fails on demand",
                "production": False,
                "endpoints": [{"path": path, "methods": methods} for path, methods in endpoints.items()],
                "billing": {"currency": "credits"},
                "conformsTo": ["https://api.openeo.org/1.2.0"],
                "links": [],
            }
        )

    def versions(self, request: Request) -> Answer:
        """Tell which versions of the API there are."""
        return Answer.of({"versions": [{"url": request.base, "api_version": "1.2.0", "production": False}]})

    def conformance(self, request: Request) -> Answer:
        """Tell which specifications are followed."""
        return Answer.of({"conformsTo": ["https://api.openeo.org/1.2.0"]})

    def file_formats(self, request: Request) -> Answer:
        """Tell which formats can be written."""
        return Answer.of({"input": {}, "output": {"GTiff": {"gis_data_types": ["raster"], "parameters": {}}}})

    def processes(self, request: Request) -> Answer:
        """Tell of no process: whatever a graph holds, only its extents and bands are looked at."""
        return Answer.of({"processes": [], "links": []})

    def collections(self, request: Request) -> Answer:
        """List the one collection."""
        return Answer.of({"collections": [_collection()], "links": []})

    def collection(self, request: Request) -> Answer:
        """Describe the collection."""
        if request.path != f"/collections/{COLLECTION}":
            raise Refusal(404, "CollectionNotFound", f"Collection {request.path.split('/')[2]!r} does not exist.")
        return Answer.of(_collection())

    # Jobs

    def create(self, request: Request) -> Answer:
        """Create a job, once for each request."""
        told = request.json()
        area = Area.of(told)
        with self._lock:
            self._created += 1
            job = Job(
                f"j-{secrets.token_hex(8)}", self._created, told.get("title"), told["process"], area,
                list(self._here.faults), _now(),
            )  # fmt: skip
            self._jobs[job.id] = job
            self._note(
                "created", id=job.id, title=job.title, bounds=area.bounds, epsg=area.epsg, year=area.year,
                bands=area.bands, pixels=area.pixels,
            )  # fmt: skip
        location = f"{request.base}/jobs/{job.id}"
        return Answer(201, headers={"Location": location, "OpenEO-Identifier": job.id})

    def list_jobs(self, request: Request) -> Answer:
        """List jobs, the latest first; a page goes on below a number, so that new jobs move nothing."""
        limit, below = (request.query.get(name) for name in ("limit", "below"))
        try:
            sizes = [size for size in (limit and int(limit), self._options.page_size) if size]
            with self._lock:
                jobs = [job for job in self._jobs.values() if below is None or job.number < int(below)]
                jobs.sort(key=lambda job: -job.number)
                page = jobs[: min(sizes, default=None)]
                described = [job.described(self._options.job_s) for job in page]
        except ValueError as error:
            raise Refusal(400, "ParameterValueInvalid", "limit is no number") from error
        links = []
        if len(page) < len(jobs):
            query = urlencode({"limit": min(sizes), "below": page[-1].number})
            links.append({"rel": "next", "href": f"{request.base}/jobs?{query}"})
        self._note("listed", jobs=len(page), below=below)
        return Answer.of({"jobs": described, "links": links})

    def describe(self, request: Request) -> Answer:
        """Describe a job."""
        with self._lock:
            job = self._job(request)
            self._note("described", id=job.id, status=job.status)
            return Answer.of(job.described(self._options.job_s) | {"process": job.process})

    def delete(self, request: Request) -> Answer:
        """Stop a job and remove it with its results."""
        with self._lock:
            job = self._job(request)
            job.stop.set()
            del self._jobs[job.id]
            self._note("deleted", id=job.id, title=job.title, status=job.status)
        shutil.rmtree(self._path(job).parent, ignore_errors=True)
        return Answer(204)

    def start(self, request: Request) -> Answer:
        """Start a job that was created or canceled; of others this is no error and does nothing."""
        with self._lock:
            job = self._job(request)
            if job.status not in ("created", "canceled"):
                return Answer(202)
            try:
                self._admit()
                if sum(other.is_active for other in self._jobs.values()) >= self._options.max_active:
                    message = f"{self._options.max_active} jobs are active already."
                    raise Refusal(400, "ConcurrentJobLimit", message)
            except Refusal as refusal:
                self._note("refused", id=job.id, title=job.title, code=refusal.body["code"])
                raise
            job.faults += self._here.faults
            job.stop = threading.Event()
            job.take("queued")
            self._note("started", id=job.id, title=job.title)
        threading.Thread(target=self._run, args=(job, job.stop), daemon=True).start()
        return Answer(202)

    def cancel(self, request: Request) -> Answer:
        """Stop a job if it is active."""
        with self._lock:
            job = self._job(request)
            if job.is_active:
                job.stop.set()
                job.take("canceled")
                self._note("canceled", id=job.id, title=job.title)
        return Answer(204)

    def logs(self, request: Request) -> Answer:
        """Tell a job's log."""
        level = request.query.get("level") or "debug"
        if level not in LEVELS:
            raise Refusal(400, "ParameterValueInvalid", f"there is no level {level}")
        with self._lock:
            lines = [line for line in self._job(request).log if LEVELS.index(line["level"]) >= LEVELS.index(level)]
        if offset := request.query.get("offset"):
            lines = [line for line in lines if int(line["id"]) > int(offset)]
        return Answer.of({"level": level, "logs": lines, "links": []})

    def results(self, request: Request) -> Answer:
        """Tell where a job's results can be fetched."""
        with self._lock:
            job = self._job(request)
            if job.status == "error":
                raise Refusal(424, "JobFailed", job.log[-1]["message"] if job.log else "The job failed.")
            if job.status != "finished":
                raise Refusal(400, "JobNotFinished", f"The job is {job.status}.")
        assets: JSON = {}
        if "no_assets" not in {fault.kind for fault in job.faults}:
            try:
                content = self._path(job).read_bytes()
            except FileNotFoundError as error:
                raise Refusal(404, "JobNotFound", f"The batch job {job.id!r} does not exist.") from error
            expires = f"{time.time() + self._options.link_s:.3f}"
            query = urlencode({"expires": expires, "signature": self._sign(f"{job.id} {expires}")})
            assets[FILE_NAME] = {
                "href": f"{request.base}/files/{quote(job.id)}/{FILE_NAME}?{query}",
                "type": MEDIA_TYPE,
                "roles": ["data"],
                "file:size": len(content),
                "file:checksum": MULTIHASH_SHA256 + hashlib.sha256(content).hexdigest(),
            }
        self._note("linked", id=job.id, title=job.title)
        told = {"type": "Feature", "stac_version": "1.0.0", "id": job.id, "geometry": None, "links": []}
        return Answer.of(told | {"properties": {"datetime": job.created, "title": job.title}, "assets": assets})

    def file(self, request: Request) -> Answer:
        """Send a result, or a range of it, to whoever has a link that holds."""
        _, _, job_id, name = request.path.split("/", 3)
        expires = request.query.get("expires", "")
        if not hmac.compare_digest(request.query.get("signature", ""), self._sign(f"{job_id} {expires}")):
            raise Refusal(403, "CredentialsInvalid", "The signature is not valid.")
        if time.time() > float(expires):
            raise Refusal(410, "ResultLinkExpired", "The link to the batch job result has expired. Request it again.")
        job = self._job(request)
        try:
            content = self._path(job).read_bytes()
        except FileNotFoundError:
            content = None
        if name != FILE_NAME or content is None:
            raise Refusal(404, "FilePathInvalid", f"There is no {name}.")
        answer = _part(request, content)
        if request.method == "GET":
            told = {"status": answer.status, "bytes": len(answer.body), "range": request.headers.get("Range")}
            self._note("downloaded", id=job.id, title=job.title, **told)
        return answer

    def synchronous(self, request: Request) -> Answer:
        """Compute a result and send it at once."""
        area = Area.of(request.json())
        told = {"bounds": area.bounds, "epsg": area.epsg, "year": area.year, "pixels": area.pixels}
        faults, path = list(self._here.faults), self._folder / f"{secrets.token_hex(8)}.tif"
        with self._lock:
            try:
                self._admit()
                if self._synchronous >= self._options.max_synchronous:
                    wait = {"Retry-After": "1"}
                    raise Refusal(429, "TooManyRequests", f"{self._synchronous} requests are active already.", **wait)
            except Refusal as refusal:
                self._note("synchronous", **told, code=refusal.body["code"])
                raise
            self._synchronous += 1
        try:
            time.sleep(self._options.synchronous_s)
            make_file(area, faults, path)
            content = path.read_bytes()
        except Refusal as refusal:
            self._note("synchronous", **told, code=refusal.body["code"])
            raise
        finally:
            path.unlink(missing_ok=True)
            with self._lock:
                self._synchronous -= 1
        costs = self._options.synchronous_costs
        with self._lock:
            self._spent += costs
            self._note("synchronous", **told, code=None, costs=costs)
        headers = {"OpenEO-Costs": f"{costs:g}", "OpenEO-Identifier": f"r-{secrets.token_hex(8)}"}
        return Answer(200, content, {"Content-Type": MEDIA_TYPE, **headers})

    def _job(self, request: Request) -> Job:
        job_id = request.path.split("/")[2]
        try:
            return self._jobs[job_id]
        except KeyError:
            raise Refusal(404, "JobNotFound", f"The batch job {job_id!r} does not exist.") from None

    def _path(self, job: Job) -> Path:
        return self._folder / "results" / job.id / FILE_NAME

    def _admit(self) -> None:
        """Count a start; what is refused for other reasons counts too, as at a gateway."""
        options, now = self._options, time.monotonic()
        if options.starts_per_minute is not None:
            while self._starts and self._starts[0] <= now - options.minute_s:
                self._starts.popleft()
            if len(self._starts) >= options.starts_per_minute:
                wait = {"Retry-After": str(math.ceil(self._starts[0] + options.minute_s - now))}
                raise Refusal(429, "TooManyRequests", f"{options.starts_per_minute} were started in a minute.", **wait)
            self._starts.append(now)
        if options.budget is not None and self._spent >= options.budget:
            raise Refusal(402, "PaymentRequired", "The account has no credits left.")

    def _run(self, job: Job, stop: threading.Event) -> None:
        options = self._options
        if stop.wait(options.job_s / 4):
            return
        with self._lock:
            if stop.is_set():
                return
            job.take("running")
            job.running_since = time.monotonic()
        if stop.wait(options.job_s * 3 / 4):
            return
        failure, aside = None, self._path(job).with_name(f"{secrets.token_hex(4)}.tmp")
        try:
            make_file(job.area, job.faults, aside)
        except Refusal as refusal:
            failure = refusal.body
        except Exception as error:  # a thread's end must show in the job
            failure = {"code": "Internal", "message": repr(error)}
        with self._lock:
            if not stop.is_set():
                if failure is None:
                    aside.replace(self._path(job))
                self._end(job, failure)
        aside.unlink(missing_ok=True)
        if stop.is_set():
            with contextlib.suppress(OSError):
                aside.parent.rmdir()

    def _end(self, job: Job, failure: JSON | None) -> None:
        if failure is None:
            job.costs = self._options.costs_of(job.area.pixels)
            self._spent += job.costs
            job.say("info", "finished")
            job.take("finished")
            self._note("finished", id=job.id, title=job.title, costs=job.costs)
            return
        if failure["message"]:
            code = failure["code"]
            is_named = code != "Internal"
            job.say("error", f"{code}: {failure['message']}" if is_named else failure["message"], code)
        job.take("error")
        self._note("failed", id=job.id, title=job.title, message=failure["message"])

    # Control, for tests

    def set_faults(self, request: Request) -> Answer:
        """Replace the faults."""
        try:
            faults = [Fault(**told) for told in request.json()]
        except (TypeError, ValueError) as error:
            raise Refusal(400, "FaultInvalid", str(error)) from error
        with self._lock:
            self._faults, self._seen, self._hits = faults, [0] * len(faults), [0] * len(faults)
        return self.tell_faults(request)

    def tell_faults(self, request: Request) -> Answer:
        """Tell the faults and how often each happened."""
        with self._lock:
            told = zip(self._faults, self._seen, self._hits, strict=True)
            return Answer.of([asdict(fault) | {"seen": seen, "hits": hits} for fault, seen, hits in told])

    def set_options(self, request: Request) -> Answer:
        """Change options."""
        try:
            with self._lock:
                self._options = dataclasses.replace(self._options, **request.json())
        except TypeError as error:
            raise Refusal(400, "OptionInvalid", str(error)) from error
        return Answer.of(asdict(self._options))

    def tell_jobs(self, request: Request) -> Answer:
        """Tell all jobs."""
        with self._lock:
            jobs = list(self._jobs.values())
            told = [{"bounds": job.area.bounds, "epsg": job.area.epsg, "year": job.area.year} for job in jobs]
            described = [job.described(self._options.job_s) for job in jobs]
        return Answer.of([each | where for each, where in zip(described, told, strict=True)])


def _answer_of(told: Mapping[str, Any]) -> Answer:
    status, headers = int(told["status"]), {key: str(value) for key, value in told.get("headers", {}).items()}
    if "code" not in told:
        return _page(status, told.get("message", f"{status} of the proxy"), headers)
    body = {"id": secrets.token_hex(4), "code": told["code"], "message": told.get("message", told["code"])}
    return Answer.of(body, status, **headers)


def _part(request: Request, content: bytes) -> Answer:
    """A file or the range of it that was asked for, https://www.rfc-editor.org/rfc/rfc9110#name-range-requests."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"Content-Type": MEDIA_TYPE, "Accept-Ranges": "bytes", "ETag": tag}
    if request.headers.get("If-Match") not in (None, "*", tag):
        return Answer(412, headers=headers)
    if request.headers.get("If-None-Match") in ("*", tag):
        return Answer(304, headers=headers)
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if not asked or asked[0] == "bytes=-" or request.headers.get("If-Range") not in (None, tag):
        return Answer(200, content, headers)
    size = len(content)
    first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
    last = min(int(asked[2]), size - 1) if asked[1] and asked[2] else size - 1
    if first > last:
        return Answer(416, headers=headers | {"Content-Range": f"bytes */{size}"})
    return Answer(206, content[first : last + 1], headers | {"Content-Range": f"bytes {first}-{last}/{size}"})


def _collection() -> JSON:
    since = "2015-07-01T00:00:00Z"
    return {
        "type": "Collection",
        "stac_version": "1.0.0",
        "id": COLLECTION,
        "title": COLLECTION,
        "description": "Painted pixels",
        "license": "other",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[since, None]]}},
        "cube:dimensions": {
            "x": {"type": "spatial", "axis": "x", "extent": [-180, 180], "reference_system": 4326},
            "y": {"type": "spatial", "axis": "y", "extent": [-90, 90], "reference_system": 4326},
            "t": {"type": "temporal", "extent": [since, None]},
            "bands": {"type": "bands", "values": list(BANDS)},
        },
        "summaries": {"eo:bands": [{"name": band} for band in BANDS]},
        "links": [],
    }


ROUTES = (
    Route("GET", "/", Backend.capabilities, is_open=True),
    Route("GET", "/.well-known/openeo", Backend.versions, is_open=True),
    Route("GET", "/conformance", Backend.conformance, is_open=True),
    Route("GET", "/file_formats", Backend.file_formats, is_open=True),
    Route("GET", "/processes", Backend.processes, is_open=True),
    Route("GET", "/collections", Backend.collections, is_open=True),
    Route("GET", "/collections/{collection_id}", Backend.collection, is_open=True),
    Route("GET", "/credentials/basic", Backend.login, is_open=True),
    Route("GET", "/me", Backend.me),
    Route("POST", "/result", Backend.synchronous),
    Route("GET", "/jobs", Backend.list_jobs),
    Route("POST", "/jobs", Backend.create),
    Route("GET", "/jobs/{job_id}", Backend.describe),
    Route("DELETE", "/jobs/{job_id}", Backend.delete),
    Route("POST", "/jobs/{job_id}/results", Backend.start),
    Route("GET", "/jobs/{job_id}/results", Backend.results),
    Route("DELETE", "/jobs/{job_id}/results", Backend.cancel),
    Route("GET", "/jobs/{job_id}/logs", Backend.logs),
    Route("GET", "/files/{job_id}/{name}", Backend.file, is_open=True),
    Route("POST", "/_faults", Backend.set_faults, is_open=True),
    Route("GET", "/_faults", Backend.tell_faults, is_open=True),
    Route("POST", "/_options", Backend.set_options, is_open=True),
    Route("GET", "/_jobs", Backend.tell_jobs, is_open=True),
)


def _pattern(path: str) -> str:
    return re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    backend: Backend

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        base = f"http://{self.headers.get('Host', '127.0.0.1')}"
        query = dict(parse_qsl(url.query))
        request = Request(self.command, unquote(url.path) or "/", query, self.headers, body, base)
        answer = self.backend.answer(request)
        # Clients that were killed or do not wait are part of the drills.
        with contextlib.suppress(ConnectionError):
            if answer is not None:
                self._send(answer)
        if answer is None or answer.cut is not None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_POST = do_DELETE = _serve  # noqa: N815  http.server calls them so

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: answer.cut])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Serve until killed; the address is the one line of output."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--state", type=Path, required=True, help="folder of audit.jsonl and of the results")
    parser.add_argument("--options", type=json.loads, default={}, help="JSON object, see Options")
    parser.add_argument("--until-eof", action="store_true", help="end when standard input does")
    arguments = parser.parse_args()
    backend = Backend(arguments.state, Options(**arguments.options))
    handler = type("Handler", (_Handler,), {"backend": backend})
    server = _Server(("127.0.0.1", arguments.port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    if arguments.until_eof:
        sys.stdin.read()  # whoever started it is gone then
    else:
        threading.Event().wait()


if __name__ == "__main__":
    main()
