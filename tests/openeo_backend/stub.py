"""An openEO backend that is a function, not a server: it answers the requests of every ``requests.Session``."""

import io
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import requests
import urllib3
from affine import Affine
from rasterio.io import MemoryFile

from eo_tasks.grid import Cell
from eo_tasks.settings import Settings
from eo_tasks.sources.request import CompositeRequest

URL = "https://openeo.example"
BANDS = ("B02", "B03", "B04")
EPSG = 32633
CELL = Cell(5, EPSG, (500_003, 5_149_981, 500_028, 5_149_999))  # snaps to 3 × 2 pixels
REQUEST = CompositeRequest.of(CELL, 2023, BANDS, (4, 5, 6, 7, 8, 9), (3, 8, 9, 10, 11))
ENDPOINTS = {
    "/credentials/basic": ["GET"],
    "/credentials/oidc": ["GET"],
    "/result": ["POST"],
    "/jobs": ["GET", "POST"],
    "/jobs/{job_id}": ["GET", "DELETE"],
    "/jobs/{job_id}/results": ["GET", "POST", "DELETE"],
    "/jobs/{job_id}/logs": ["GET"],
}
Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]] | Exception


class StubBackend:
    """Knows one login and one batch job; ``answers`` holds what is said to each method and path."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[[], Answer] | list[Answer]] = {
            "GET /": (200, {"api_version": "1.2.0", "endpoints": endpoints(), "backend_version": "1"}),
            "GET /.well-known/openeo": (404, {"code": "NotFound", "message": "no"}),
            "GET /credentials/basic": (200, {"access_token": "token"}),
            "GET /credentials/oidc": (200, {"providers": [{"id": "main", "issuer": f"{URL}/oidc", "title": "Main"}]}),
            "GET /oidc/.well-known/openid-configuration": (
                200,
                {"issuer": f"{URL}/oidc", "token_endpoint": f"{URL}/oidc/token"},
            ),
            "POST /oidc/token": (200, {"access_token": "token", "token_type": "Bearer"}),
            "POST /result": (200, geotiff()),
            "POST /jobs": (201, b"", {"OpenEO-Identifier": "j-77"}),
            "POST /jobs/j-77/results": (202, b""),
            "GET /jobs": (200, {"jobs": [], "links": []}),
            "GET /jobs/j-77": (200, {"id": "j-77", "status": "finished"}),
            "GET /jobs/j-77/results": (200, {"assets": {"openEO.tif": asset()}}),
            "GET /files/openEO.tif": (200, geotiff()),
            "GET /jobs/j-77/logs": (200, {"logs": []}),
            "DELETE /jobs/j-77": (204, b""),
            "DELETE /jobs/j-77/results": (204, b""),
            "GET /collections/SENTINEL2_L2A": (200, {"id": "SENTINEL2_L2A", "cube:dimensions": {}}),
        }
        self.asked: list[str] = []
        self.requests: list[requests.PreparedRequest] = []
        self.bodies: dict[str, Any] = {}
        self.timeouts: dict[str, Any] = {}

    def send(self, request: requests.PreparedRequest, **how: Any) -> requests.Response:
        """Answer a request; of a list of answers, one after the other, the last for ever."""
        path = re.sub(r"^https?://[^/]+", "", str(request.url)).partition("?")[0] or "/"
        key = f"{request.method} {path}"
        self.asked.append(key)
        self.requests.append(request)
        self.timeouts[key] = how.get("timeout")
        if request.body and request.headers["Content-Type"] == "application/json":
            self.bodies[key] = json.loads(request.body)
        answer = self.answers[key]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        answer = answer() if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        status, body, *headers = answer
        response = requests.Response()
        response.status_code, response.url, response.request = status, str(request.url), request
        response.reason = "said so"
        response.headers.update(*headers)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response.raw = urllib3.HTTPResponse(io.BytesIO(content), status=status, preload_content=False)
        return response


def endpoints() -> list[dict[str, Any]]:
    """What the backend says it can do."""
    return [{"path": path, "methods": methods} for path, methods in ENDPOINTS.items()]


def asset(name: str = "openEO.tif", **told: Any) -> dict[str, Any]:
    """The record of a result file, with a signed link."""
    return {"href": f"{URL}/files/{name}?signature=hush", "type": "image/tiff; application=geotiff", **told}


def refusal(status: int, code: str, message: str = "the server's words", **headers: str) -> Answer:
    """An error as the openEO API has them."""
    return status, {"code": code, "message": message}, headers


def settings(**changes: Any) -> Settings:
    """Settings of the stub's one login."""
    values = {
        "imagery_source": "openeo",
        "openeo_url": URL,
        "openeo_mode": "synchronous",
        "openeo_auth_method": "basic",
        "openeo_username": "ana",
        "openeo_password": "sesame",
    }
    return Settings(_env_file=None, **{**values, **changes})


def geotiff(bands: Any = ((100, 200, 300), (40, 50, 60)), count: Any = ((1, 2, 3), (4, 5, 6)), **changes: Any) -> bytes:
    """A backend's file on the cell's grid: three bands of the same values, then the counts."""
    image = np.array([bands] * 3 + [count], changes.pop("dtype", np.uint16))
    names = changes.pop("names", None)
    shape = {"height": image.shape[1], "width": image.shape[2], "count": len(image), "dtype": image.dtype}
    profile = {"crs": f"EPSG:{EPSG}", "transform": Affine(10, 0, 500_000, 0, -10, 5_150_000), **shape, **changes}
    with MemoryFile() as memory:
        with memory.open(driver="GTiff", **profile) as sink:
            sink.write(image[: profile["count"]])
            if names:
                sink.descriptions = names
        return bytes(memory.read())
