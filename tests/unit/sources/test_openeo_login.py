"""What is asked of an openEO backend and what its answers mean; the backend is a function, not a server."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import requests
import urllib3
from affine import Affine
from rasterio.io import MemoryFile

from eo_tasks.errors import EmptyCompositeError, SettingsError, SourceError, SourceUnavailableError
from eo_tasks.grid import Cell
from eo_tasks.raster import Origin
from eo_tasks.settings import Settings
from eo_tasks.sources import open_source
from eo_tasks.sources.openeo.graph import composite_graph
from eo_tasks.sources.openeo.result import read_result
from eo_tasks.sources.openeo.source import OFFSET_APPLIED, OpenEOSource
from eo_tasks.sources.request import CompositeRequest

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rasterio
URL = "https://openeo.example"
CDSE = "https://openeo.dataspace.copernicus.eu"
BANDS = ("B02", "B03", "B04")
EPSG = 32633
CELL = Cell(5, EPSG, (500_003, 5_149_981, 500_028, 5_149_999))  # snaps to 3 × 2 pixels
REQUEST = CompositeRequest.of(CELL, 2023, BANDS, (4, 5, 6, 7, 8, 9), (3, 8, 9, 10, 11))
ENDPOINTS = {
    "/credentials/basic": "GET",
    "/credentials/oidc": "GET",
    "/result": "POST",
    "/jobs": "POST",
    "/jobs/{job_id}": "GET",
    "/jobs/{job_id}/results": "POST",
    "/jobs/{job_id}/logs": "GET",
}
Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]] | Exception


def geotiff(bands=((100, 200, 300), (40, 50, 60)), count=((1, 2, 3), (4, 5, 6)), **changes) -> bytes:
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


class Backend:
    """Answers requests of every ``requests.Session``; knows one login and one batch job."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[[], Answer]] = {
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
            "GET /jobs/j-77": (200, {"id": "j-77", "status": "finished"}),
            "GET /jobs/j-77/results": (200, {"assets": {"openEO.tif": asset()}}),
            "HEAD /files/openEO.tif": (200, b""),
            "GET /files/openEO.tif": (200, geotiff()),
            "GET /jobs/j-77/logs": (200, {"logs": []}),
            "DELETE /jobs/j-77": (204, b""),
            "DELETE /jobs/j-77/results": (204, b""),
            "GET /collections/SENTINEL2_L2A": (200, {"id": "SENTINEL2_L2A", "cube:dimensions": {}}),
        }
        self.asked: list[str] = []
        self.bodies: dict[str, Any] = {}

    def send(self, adapter: Any, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        path = re.sub(r"^https://[^/]+", "", str(request.url)).partition("?")[0] or "/"
        key = f"{request.method} {path}"
        self.asked.append(key)
        if request.body and request.headers["Content-Type"] == "application/json":
            self.bodies[key] = json.loads(request.body)
        answer = self.answers[key]
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
    return [{"path": path, "methods": [method]} for path, method in ENDPOINTS.items()]


def asset(name="openEO.tif") -> dict[str, Any]:
    return {"href": f"{URL}/files/{name}?signature=hush", "type": "image/tiff; application=geotiff"}


def refusal(status: int, code: str, message: str = "the server's words") -> Answer:
    return status, {"code": code, "message": message}


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    made = Backend()
    monkeypatch.setattr(
        requests.adapters.HTTPAdapter, "send", lambda self, request, **rest: made.send(self, request, **rest)
    )
    return made


def source(mode="synchronous", **changes) -> OpenEOSource:
    values = {
        "imagery_source": "openeo",
        "openeo_url": URL,
        "openeo_mode": mode,
        "openeo_auth_method": "basic",
        "openeo_username": "ana",
        "openeo_password": "sesame",
    }
    opened = open_source(Settings(_env_file=None, **{**values, **changes}))
    assert isinstance(opened, OpenEOSource)
    return replace(opened, sleep=lambda _: None)


# The process graph


def test_the_graph_asks_for_the_season_on_the_snapped_grid_of_the_cell():
    load = composite_graph(REQUEST, "SENTINEL2_L2A")["bands"]["arguments"]
    assert load["spatial_extent"] == {
        "west": 500_000, "south": 5_149_980, "east": 500_030, "north": 5_150_000, "crs": EPSG
    }  # fmt: skip
    assert load["temporal_extent"] == ["2023-04-01", "2023-10-01"]
    assert load["bands"] == ["B02", "B03", "B04"]
    assert "properties" not in load


def test_the_season_of_a_december_ends_with_the_year():
    december = replace(REQUEST, months=(11, 12))
    assert composite_graph(december, "S2")["classes"]["arguments"]["temporal_extent"] == ["2023-11-01", "2024-01-01"]


def test_the_graph_masks_the_classes_no_data_and_what_is_no_class():
    steps = composite_graph(REQUEST, "S2")["unclear"]["arguments"]["reducer"]["process_graph"]
    assert [step["arguments"]["y"] for step in steps.values() if step["process_id"] == "eq"] == [0, 3, 8, 9, 10, 11]
    assert steps["is_no_class"]["arguments"] == {"x": {"from_node": "scl"}, "y": 11}
    joined = [step for step in steps.values() if step["process_id"] == "or"]
    assert len(joined) == 6
    assert [name for name, step in steps.items() if step.get("result")] == ["or_is_no_class"]


def test_every_node_of_the_graph_is_used_and_one_is_the_result():
    graph = composite_graph(REQUEST, "S2")
    used = set(re.findall(r"'from_node': '(\w+)'", str(graph)))
    assert set(graph) - used == {"file"}
    assert graph["file"]["arguments"] == {"data": {"from_node": "grid"}, "format": "GTiff"}
    assert graph["grid"]["arguments"]["projection"] == EPSG


def test_a_limit_of_cloud_cover_is_asked_of_both_loads():
    graph = composite_graph(replace(REQUEST, max_cloud_cover=30), "S2")
    for load in ("classes", "bands"):
        limit = graph[load]["arguments"]["properties"]["eo:cloud_cover"]["process_graph"]["limit"]
        assert (limit["process_id"], limit["arguments"]["y"]) == ("lte", 30)


# The result


def read(tmp_path, content: bytes, url=URL):
    (tmp_path / "result.tiff").write_bytes(content)
    return read_result(tmp_path / "result.tiff", REQUEST, Origin("openeo", "S2", details={"url": url}))


def test_a_result_becomes_the_composite_that_was_asked_for(tmp_path):
    made = read(tmp_path, geotiff())
    assert made.dn.tolist() == [[[100, 200, 300], [40, 50, 60]]] * 3
    assert made.clear_count.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (made.pixels, made.bands, made.dn.dtype) == (REQUEST.pixels, BANDS, np.uint16)


@pytest.mark.parametrize(
    ("nodata", "dtype"), [(0, np.uint16), (65535, np.uint16), (-32768, np.int16), (np.nan, np.float32)]
)
def test_nodata_is_what_the_file_says(tmp_path, nodata, dtype):
    made = read(
        tmp_path, geotiff(((nodata, 200, 300), (40, 50, 60)), ((0, 2, 3), (4, 5, 6)), nodata=nodata, dtype=dtype)
    )
    assert made.dn[0].tolist() == [[0, 200, 300], [40, 50, 60]]
    assert made.clear_count[0].tolist() == [0, 2, 3]


def test_a_pixel_without_a_clear_observation_is_nodata(tmp_path):
    made = read(tmp_path, geotiff(((7, 200, 300), (40, 50, 60)), ((0, 2, 3), (4, 5, 6))))
    assert made.dn[:, 0, 0].tolist() == [0, 0, 0]


def test_dark_valid_pixels_are_not_stored_as_nodata(tmp_path):
    assert read(tmp_path, geotiff(((-30, 200, 300), (40, 50, 60)), dtype=np.int16)).dn[0, 0, 0] == 1


def test_bands_are_taken_by_their_names_where_the_file_has_names(tmp_path):
    made = read(tmp_path, geotiff(names=("B04", "clear_count", "B03", "B02")))
    assert made.clear_count.tolist() == [[100, 200, 300], [40, 50, 60]]
    assert made.dn[0].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({"count": 3}, "3 without names"),
        ({"names": ("B02", "B03", "B08", "clear_count")}, "B02, B03, B08, clear_count"),
    ],
)
def test_other_bands_than_asked_for_are_refused(tmp_path, changes, held):
    content = geotiff(**changes) if "names" in changes else without_count()
    with pytest.raises(
        SourceError, match=rf"has bands {held}, not B02, B03, B04, clear_count\. Check OPENEO_COLLECTION"
    ):
        read(tmp_path, content)


def without_count() -> bytes:
    with MemoryFile(geotiff()) as memory, memory.open() as whole, MemoryFile() as cut:
        with cut.open(**{**whole.profile, "count": 3}) as sink:
            sink.write(whole.read([1, 2, 3]))
        return bytes(cut.read())


def test_a_file_grown_by_whole_pixels_is_cut_to_the_cell(tmp_path):
    wide = np.arange(1, 21).reshape(4, 5)
    grown = Affine(10, 0, 499_990, 0, -10, 5_150_010)
    made = read(tmp_path, geotiff(wide, wide, transform=grown))
    assert made.dn[0].tolist() == wide[1:3, 1:4].tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {"transform": Affine(10, 0, 500_004, 0, -10, 5_150_000)},
        {"transform": Affine(10, 0, 500_010, 0, -10, 5_150_000)},
        {"transform": Affine(20, 0, 500_000, 0, -20, 5_150_000)},
        {"crs": "EPSG:32634"},
    ],
    ids=["moved by 4 m", "one column short", "20 m", "another zone"],
)
def test_another_pixel_grid_is_refused(tmp_path, changes):
    with pytest.raises(
        SourceError, match=r"lies on EPSG:\d+, 3×2 px of \d+ m .* does not hold the cell's EPSG:32633, 3×2"
    ):
        read(tmp_path, geotiff(**changes))


@pytest.mark.parametrize("kept", [0, 300])
def test_a_broken_transfer_is_fetched_again(tmp_path, kept):
    with pytest.raises(SourceUnavailableError, match=rf"broke on its way \({kept} bytes\)"):
        read(tmp_path, geotiff()[:kept])


def test_a_result_without_a_clear_pixel_is_an_empty_composite(tmp_path):
    with pytest.raises(EmptyCompositeError, match="COMPOSITE_MONTHS"):
        read(tmp_path, geotiff(count=((0, 0, 0), (0, 0, 0))))


# Requests and jobs


def test_a_synchronous_request_gives_a_composite_and_leaves_no_file(backend, tmp_path):
    made = source().composite(REQUEST, tmp_path / "scratch")
    assert made.clear_count.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (made.origin.source, made.origin.collection) == ("openeo", "SENTINEL2_L2A")
    assert made.origin.details == {"url": URL, "mode": "synchronous"}
    assert not list((tmp_path / "scratch").iterdir())
    assert backend.bodies["POST /result"]["process"]["process_graph"] == composite_graph(REQUEST, "SENTINEL2_L2A")


def test_a_batch_job_carries_the_unit_id_as_its_title(backend, tmp_path):
    states = iter(["queued", "running", "finished"])
    backend.answers["GET /jobs/j-77"] = lambda: (200, {"status": next(states)})
    made = source("batch").composite(REQUEST, tmp_path)
    assert backend.bodies["POST /jobs"]["title"] == "download_5_2023"
    assert made.origin.details == {"url": URL, "mode": "batch", "job_id": "j-77"}
    assert backend.asked.count("GET /jobs/j-77") == 3
    assert "POST /result" not in backend.asked


def test_what_a_batch_job_did_cost_is_recorded(backend, tmp_path):
    backend.answers["GET /jobs/j-77"] = (200, {"status": "finished", "costs": 2.5})
    assert source("batch").composite(REQUEST, tmp_path).origin.details["credits"] == "2.5"


def test_the_offset_is_recorded_as_applied_where_the_backend_documents_it(backend, tmp_path):
    assert source(openeo_url=CDSE).composite(REQUEST, tmp_path).origin.offset == OFFSET_APPLIED
    assert source().composite(REQUEST, tmp_path).origin.offset == "left to the backend: openEO does not tell"


SERVER_SAYS = [
    (refusal(401, "AuthenticationRequired"), SourceError, r"login was refused .*Check OPENEO_AUTH_METHOD"),
    (refusal(403, "CollectionNotAllowed"), SourceError, r"login was refused .*Check OPENEO_AUTH_METHOD"),
    (refusal(402, "PaymentRequired"), SourceError, r"credits exhausted .*Top up the account"),
    (refusal(404, "CollectionNotFound"), SourceError, r"Check OPENEO_URL and OPENEO_COLLECTION"),
    (refusal(400, "ProcessUnsupported"), SourceError, r"\[400\] ProcessUnsupported: the server's words"),
    (refusal(429, "TooManyRequests"), SourceUnavailableError, r"busy .*tried again"),
    (refusal(502, "BadGateway"), SourceUnavailableError, r"busy .*tried again"),
    ((503, b"<html>down for maintenance</html>"), SourceUnavailableError, r"busy .*tried again"),
    (refusal(504, "GatewayTimeout"), SourceUnavailableError, r"busy .*tried again"),
    (refusal(400, "NoDataAvailable"), EmptyCompositeError, r"no observation .*COMPOSITE_MONTHS.* months 4–9\."),
    (requests.ConnectionError("refused sesame"), SourceUnavailableError, r"no answer \(ConnectionError\)"),
    (requests.ReadTimeout("slow"), SourceUnavailableError, r"no answer \(ReadTimeout\)"),
    (requests.exceptions.RetryError("often"), SourceUnavailableError, r"no answer \(RetryError\)"),
]


@pytest.mark.parametrize("step", ["POST /result", "POST /jobs", "GET /jobs/j-77/results", "GET /files/openEO.tif"])
@pytest.mark.parametrize(("answer", "kind", "message"), SERVER_SAYS, ids=lambda value: str(value)[:40])
def test_every_refusal_is_told_with_cell_year_and_what_to_do(backend, tmp_path, step, answer, kind, message):
    backend.answers[step] = answer
    opened = source("synchronous" if step == "POST /result" else "batch")
    with pytest.raises(kind, match=rf"^Cell 5, 2023: .*{message}") as caught:
        opened.composite(REQUEST, tmp_path)
    assert type(caught.value) is kind
    for secret in ("sesame", "hush", "token"):
        assert secret not in str(caught.value)


def test_a_refused_password_is_told_without_it(backend, tmp_path):
    backend.answers["GET /credentials/basic"] = refusal(401, "CredentialsInvalid", "sesame is wrong for ana")
    with pytest.raises(SourceError, match=r"openEO login at https://openeo.example: the login was refused") as caught:
        source().composite(REQUEST, tmp_path)
    assert "sesame" not in str(caught.value)


def test_no_data_of_an_unknown_collection_names_the_setting(backend, tmp_path):
    backend.answers["POST /result"] = refusal(400, "NoDataAvailable")
    backend.answers["GET /collections/SENTINEL2_L2A"] = refusal(404, "CollectionNotFound")
    with pytest.raises(SourceError, match=r"openEO collection 'SENTINEL2_L2A' at .*Check OPENEO_URL and OPENEO_COLL"):
        source().composite(REQUEST, tmp_path)


def test_a_full_queue_means_later_and_the_job_is_deleted(backend, tmp_path):
    backend.answers["POST /jobs/j-77/results"] = refusal(400, "ConcurrentJobLimit")
    with pytest.raises(SourceUnavailableError, match=r"start of job j-77 .*ConcurrentJobLimit"):
        source("batch").composite(REQUEST, tmp_path)
    assert "DELETE /jobs/j-77" in backend.asked


def test_a_failed_job_is_told_with_its_id_and_last_log_line(backend, tmp_path):
    backend.answers["GET /jobs/j-77"] = (200, {"status": "error"})
    lines = [{"id": str(n), "level": "error", "message": text} for n, text in enumerate(["first", "out of memory"])]
    backend.answers["GET /jobs/j-77/logs"] = (200, {"logs": lines})
    with pytest.raises(
        SourceError, match=r"^Cell 5, 2023: openEO job j-77 at \S+ failed: out of memory\. Read its log"
    ):
        source("batch").composite(REQUEST, tmp_path)


def test_a_failed_job_without_a_log_is_told(backend, tmp_path):
    backend.answers["GET /jobs/j-77"] = (200, {"status": "error"})
    with pytest.raises(SourceError, match=r"job j-77 at \S+ failed: its log is empty"):
        source("batch").composite(REQUEST, tmp_path)


def test_a_failed_job_that_found_no_data_is_an_empty_composite(backend, tmp_path):
    backend.answers["GET /jobs/j-77"] = (200, {"status": "error"})
    line = {"id": "1", "level": "error", "message": "NoDataAvailable: There is no data available"}
    backend.answers["GET /jobs/j-77/logs"] = (200, {"logs": [line]})
    with pytest.raises(EmptyCompositeError, match=r"openEO job j-77"):
        source("batch").composite(REQUEST, tmp_path)


def test_a_canceled_job_is_told(backend, tmp_path):
    backend.answers["GET /jobs/j-77"] = (200, {"status": "canceled"})
    with pytest.raises(SourceError, match=r"openEO job j-77 at \S+ was canceled there"):
        source("batch").composite(REQUEST, tmp_path)


def test_a_job_that_takes_too_long_is_stopped(backend, tmp_path):
    backend.answers["GET /jobs/j-77"] = (200, {"status": "running"})
    clock = iter(range(0, 10_000, 20))
    slow = replace(source("batch", openeo_timeout_s=60), clock=lambda: next(clock))
    with pytest.raises(SourceUnavailableError, match=r"job j-77 at \S+ is running after 60 s and was stopped"):
        slow.composite(REQUEST, tmp_path)
    assert "DELETE /jobs/j-77/results" in backend.asked


def test_a_lost_poll_does_not_lose_the_job(backend, tmp_path):
    answers: list[Answer] = [requests.ConnectionError(), refusal(502, "BadGateway"), (200, {"status": "finished"})]
    backend.answers["GET /jobs/j-77"] = lambda: answers.pop(0)
    assert source("batch").composite(REQUEST, tmp_path).clear_count.any()


def test_a_job_out_of_reach_means_later(backend, tmp_path):
    backend.answers["GET /jobs/j-77"] = requests.ConnectionError()
    with pytest.raises(SourceUnavailableError, match=r"job j-77 at \S+: no answer"):
        source("batch").composite(REQUEST, tmp_path)
    assert backend.asked.count("GET /jobs/j-77") == 5


def test_a_finished_job_without_files_is_computed_again(backend, tmp_path):
    backend.answers["GET /jobs/j-77/results"] = (200, {"assets": {}})
    with pytest.raises(SourceUnavailableError, match=r"job j-77 at \S+ finished without a file \(0 assets\)"):
        source("batch").composite(REQUEST, tmp_path)


def test_several_files_of_a_job_are_refused(backend, tmp_path):
    backend.answers["GET /jobs/j-77/results"] = (200, {"assets": {"a.tif": asset("a.tif"), "b.tif": asset("b.tif")}})
    with pytest.raises(SourceError, match=r"made several files \(a.tif, b.tif\)"):
        source("batch").composite(REQUEST, tmp_path)


# Logins


CLIENT = {
    "openeo_auth_method": "client_credentials",
    "openeo_auth_client_id": "robot",
    "openeo_auth_client_secret": "sesame",
}
REFRESH = {
    "openeo_auth_method": "refresh_token",
    "openeo_auth_client_id": "robot",
    "openeo_auth_refresh_token": "sesame",
}


@pytest.mark.parametrize("login", [CLIENT, REFRESH, {"openeo_auth_method": "none"}], ids=["client", "refresh", "none"])
def test_every_login_method_gives_a_composite(backend, tmp_path, login):
    made = source(**login).composite(REQUEST, tmp_path)
    assert made.clear_count.any()
    assert ("POST /oidc/token" in backend.asked) == (login["openeo_auth_method"] != "none")


@pytest.mark.parametrize("login", [CLIENT, REFRESH], ids=["client", "refresh"])
def test_a_refused_client_is_told_without_its_secret(backend, tmp_path, login):
    backend.answers["POST /oidc/token"] = (401, {"error": "invalid_client", "echo": "sesame"})
    with pytest.raises(
        SourceError, match=r"openEO login at https://openeo.example: refused .*OPENEO_AUTH_CLIENT_ID"
    ) as caught:
        source(**login).composite(REQUEST, tmp_path)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("POST /oidc/token", (503, b"later")),
        ("POST /oidc/token", requests.ConnectionError()),
        ("GET /oidc/.well-known/openid-configuration", (502, b"")),
        ("GET /oidc/.well-known/openid-configuration", requests.ConnectionError()),
        ("GET /credentials/oidc", requests.ConnectionError()),
        ("GET /", requests.ConnectionError()),
    ],
)
def test_a_login_that_does_not_answer_means_later(backend, tmp_path, step, answer):
    backend.answers[step] = answer
    with pytest.raises(SourceUnavailableError, match=r"openEO login at https://openeo.example: no answer"):
        source(**CLIENT).composite(REQUEST, tmp_path)


@pytest.mark.parametrize(
    ("method", "missing"),
    [
        ("client_credentials", "OPENEO_AUTH_CLIENT_ID and OPENEO_AUTH_CLIENT_SECRET"),
        ("refresh_token", "OPENEO_AUTH_REFRESH_TOKEN"),
        ("basic", "OPENEO_USERNAME and OPENEO_PASSWORD"),
    ],
)
def test_missing_login_settings_are_named(method, missing):
    settings = Settings(_env_file=None, imagery_source="openeo", openeo_auth_method=method)
    with pytest.raises(SettingsError, match=rf"^OPENEO_AUTH_METHOD={method} needs {missing}\. Set (it|them) "):
        open_source(settings)


def test_a_source_never_shows_its_secrets():
    for login in (CLIENT, REFRESH, {}):
        assert "sesame" not in repr(source(**login))
