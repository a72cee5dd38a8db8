"""Batch jobs for openeo-driver: each started job is one synchronous request to titiler-openeo.

Runs in the driver's own virtual environment, under gunicorn with one process.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
MOST_ACTIVE = 2
FILE_NAME = "openEO.tif"


def compute(graph: dict) -> requests.Response:
    """Let the synchronous backend evaluate a process graph."""
    login = requests.get(f"{SYNCHRONOUS}/credentials/basic", auth=CREDENTIALS, timeout=30)
    login.raise_for_status()
    bearer = {"Authorization": f"Bearer basic//{login.json()['access_token']}"}
    return requests.post(f"{SYNCHRONOUS}/result", json={"process": graph}, headers=bearer, timeout=240)


class ComputedJobs(DummyBatchJobs):
    """The driver's in-memory job registry, with jobs that run."""

    def __init__(self) -> None:
        super().__init__()
        self._pool = ThreadPoolExecutor(MOST_ACTIVE)
        self._journal: dict[str, list[dict]] = {}

    def start_job(self, job_id, user) -> None:
        states = [job.status for (owner, _), job in self._job_registry.items() if owner == user.user_id]
        if sum(state in (JOB_STATUS.QUEUED, JOB_STATUS.RUNNING) for state in states) >= MOST_ACTIVE:
            raise OpenEOApiException(f"{MOST_ACTIVE} jobs are active", code="ConcurrentJobLimit", status_code=400)
        self._update_status(job_id, user.user_id, JOB_STATUS.QUEUED)
        self._pool.submit(self._work, job_id, user.user_id)

    def _work(self, job_id: str, owner: str) -> None:
        self._update_status(job_id, owner, JOB_STATUS.RUNNING)
        try:
            answer = compute(self._get_job_info(job_id, owner).process)
            if not answer.ok:
                raise RuntimeError(answer.text)
            folder = RESULTS / job_id
            folder.mkdir(parents=True)
            (folder / FILE_NAME).write_bytes(answer.content)
        except Exception as error:
            line = {"id": "1", "level": "error", "time": rfc3339.now_utc(), "message": str(error)}
            self._journal[job_id] = [line]
            self._update_status(job_id, owner, JOB_STATUS.ERROR)
        else:
            self._update_status(job_id, owner, JOB_STATUS.FINISHED)

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
        self._get_job_info(job_id, user_id)
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
