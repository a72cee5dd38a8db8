"""Batch jobs for openeo-driver: each started job is one synchronous request to titiler-openeo.

Runs in the driver's own virtual environment, under gunicorn with one process.
"""

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests
from openeo.util import rfc3339
from openeo_driver.backend import CollectionCatalog
from openeo_driver.constants import JOB_STATUS
from openeo_driver.dummy.dummy_backend import DummyBackendImplementation, DummyBatchJobs
from openeo_driver.errors import JobNotFinishedException, OpenEOApiException
from openeo_driver.views import build_app

RESULTS = Path(os.environ["BACKEND_RESULTS"])
SYNCHRONOUS = os.environ["BACKEND_SYNCHRONOUS_URL"]
CREDENTIALS = os.environ["BACKEND_USER"], os.environ["BACKEND_PASSWORD"]
AUDIT = Path(os.environ["BACKEND_AUDIT"])
MOST_ACTIVE = int(os.environ.get("BACKEND_MOST_ACTIVE", "2"))
JOB_DELAY_S = float(os.environ.get("BACKEND_JOB_DELAY_S", "0"))
PAGE_SIZE = int(os.environ.get("BACKEND_PAGE_SIZE", "0")) or None
ACTIVE = (JOB_STATUS.QUEUED, JOB_STATUS.RUNNING)
FILE_NAME = "openEO.tif"


def compute(graph: dict) -> requests.Response:
    """Let the synchronous backend evaluate a process graph."""
    login = requests.get(f"{SYNCHRONOUS}/credentials/basic", auth=CREDENTIALS, timeout=30)
    login.raise_for_status()
    bearer = {"Authorization": f"Bearer basic//{login.json()['access_token']}"}
    return requests.post(f"{SYNCHRONOUS}/result", json={"process": graph}, headers=bearer, timeout=240)


def costs_of(graph: dict) -> float:
    """Credits of a job: 2, and 0.25 for each 250,000 pixels of 10 m."""
    extents = [node["arguments"]["spatial_extent"] for node in graph["process_graph"].values() if is_load(node)]
    pixels = max((each["east"] - each["west"]) * (each["north"] - each["south"]) / 100 for each in extents)
    return round(2 + 0.25 * pixels / 250_000, 4)


def is_load(node: dict) -> bool:
    """Whether a node says which area is asked for."""
    return node["process_id"] == "load_collection"


class ComputedJobs(DummyBatchJobs):
    """The driver's in-memory job registry, with jobs that run; what counts is written down line by line."""

    def __init__(self) -> None:
        super().__init__()
        self._pool = ThreadPoolExecutor(MOST_ACTIVE)
        self._journal: dict[str, list[dict]] = {}
        self._stops: dict[str, threading.Event] = {}
        self._lock = threading.RLock()  # several requests are served at a time
        self._audit = AUDIT.open("a", encoding="utf-8")

    def create_job(self, user, process, api_version, metadata, job_options=None):
        with self._lock:
            job = super().create_job(user, process, api_version, metadata, job_options)
            self._note("created", job.id, user.user_id)
        return job

    def get_user_jobs(self, user_id, limit=None, request_parameters=None):
        with self._lock:
            sizes = [size for size in (limit, PAGE_SIZE) if size]
            return super().get_user_jobs(user_id, min(sizes, default=None), request_parameters)

    def start_job(self, job_id, user) -> None:
        with self._lock:
            states = [job.status for (owner, _), job in self._job_registry.items() if owner == user.user_id]
            if sum(state in ACTIVE for state in states) >= MOST_ACTIVE:
                raise OpenEOApiException(f"{MOST_ACTIVE} jobs are active", code="ConcurrentJobLimit", status_code=400)
            self._update_status(job_id, user.user_id, JOB_STATUS.QUEUED)
            self._note("started", job_id, user.user_id)
            stop = self._stops[job_id] = threading.Event()
        self._pool.submit(self._work, job_id, user.user_id, stop)

    def cancel_job(self, job_id, user_id) -> None:
        with self._lock:
            if self._get_job_info(job_id, user_id).status in ACTIVE:
                self._stops[job_id].set()
                self._update_status(job_id, user_id, JOB_STATUS.CANCELED)
                self._note("canceled", job_id, user_id)

    def _work(self, job_id: str, owner: str, stop: threading.Event) -> None:
        if not self._move(job_id, owner, stop, JOB_STATUS.RUNNING) or stop.wait(JOB_DELAY_S):
            return
        try:
            graph = self._get_job_info(job_id, owner).process
            answer = compute(graph)
            if not answer.ok:
                raise RuntimeError(answer.text)
            folder = RESULTS / job_id
            folder.mkdir(parents=True, exist_ok=True)  # of a job that was canceled and started again
            (folder / FILE_NAME).write_bytes(answer.content)
            self._move(job_id, owner, stop, JOB_STATUS.FINISHED, costs=costs_of(graph))
        except Exception as error:
            line = {"id": "1", "level": "error", "time": rfc3339.now_utc(), "message": str(error)}
            self._journal[job_id] = [line]
            self._move(job_id, owner, stop, JOB_STATUS.ERROR)

    def _move(self, job_id: str, owner: str, stop: threading.Event, status: str, **changes: Any) -> bool:
        """Change the status of a job, unless it was canceled or deleted since this start of it."""
        with self._lock:
            if stop.is_set():
                return False
            self._job_registry[owner, job_id] = self._get_job_info(job_id, owner)._replace(status=status, **changes)
            if status != JOB_STATUS.RUNNING:
                self._note(status, job_id, owner, **changes)
            return True

    def _note(self, event: str, job_id: str, owner: str, **told: Any) -> None:
        title = self._job_registry[owner, job_id].title
        line = {"event": event, "time": time.time(), "id": job_id, "title": title, "owner": owner, **told}
        self._audit.write(json.dumps(line) + "\n")
        self._audit.flush()

    def get_result_assets(self, job_id, user_id):
        if self._get_job_info(job_id, user_id).status != JOB_STATUS.FINISHED:
            raise JobNotFinishedException
        folder = str(RESULTS / job_id)
        asset = {"output_dir": folder, "href": f"{folder}/{FILE_NAME}", "roles": ["data"]}
        return {FILE_NAME: asset | {"type": "image/tiff; application=geotiff"}}

    def get_log_entries(self, job_id, *, user_id, offset=None, limit=None, level="debug"):
        self._get_job_info(job_id, user_id)
        return iter(self._journal.get(job_id, []))

    def delete_job(self, job_id, user_id):
        with self._lock:
            self._get_job_info(job_id, user_id)
            if job_id in self._stops:
                self._stops[job_id].set()
            self._note("deleted", job_id, user_id)
            del self._job_registry[user_id, job_id]

    def _output_root(self) -> str:
        return str(RESULTS)


class Backend(DummyBackendImplementation):
    """The driver's dummy backend, with computed jobs and our collection."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_jobs = ComputedJobs()
        self.catalog = CollectionCatalog([json.loads(Path(os.environ["BACKEND_COLLECTION"]).read_text())])


app = build_app(backend_implementation=Backend())
