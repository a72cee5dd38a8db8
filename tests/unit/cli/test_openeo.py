"""What ``login`` and ``openeo check`` print, and how they end; the backend is a function, not a server."""

import itertools
import json
import webbrowser
from typing import Any

import geopandas
import numpy as np
import pytest
import requests
from affine import Affine
from rasterio.io import MemoryFile
from shapely.geometry import box

from eo_tasks.sources.openeo import device
from tests.command_line import MISUSED, call, complaint
from tests.unit.sources.pretended_backend import URL, Pretended

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rasterio
COLLECTION = "/collections/SENTINEL2_L2A"
DESCRIBED = {
    "id": "SENTINEL2_L2A",
    "extent": {"spatial": {"bbox": [[-180, -56, 180, 83]]}, "temporal": {"interval": [["2015-07-04T00:00:00Z", None]]}},
    "cube:dimensions": {"bands": {"type": "bands", "values": ["B02", "B03", "B04", "SCL"]}},
}


class WithRequests(Pretended):
    """Also has a collection, jobs and synchronous requests, which give what was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.about["endpoints"] = [*self.about["endpoints"], {"path": "/result", "methods": ["POST"]}]
        self.about["billing"] = {"currency": "platform credits", "default_plan": "free"}
        jobs = [
            {"id": f"j-{number}", "status": status} for number, status in enumerate(["finished", "error", "finished"])
        ]
        self.answers |= {
            f"GET {COLLECTION}": (200, DESCRIBED),
            "GET /me": (200, {"user_id": "u-1", "name": "Ana", "budget": 9876.5}),
            "GET /jobs": (200, {"jobs": jobs, "links": []}),
        }
        self.graph: dict[str, Any] = {}
        self.clear = 3

    def send(self, adapter: Any, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if str(request.url).endswith("/result") and "POST /result" not in self.answers:
            self.graph = json.loads(request.body or "")["process"]["process_graph"]
            self.answers["POST /result"] = (200, self._file())
        return super().send(adapter, request, **options)

    def _file(self) -> bytes:
        extent = self.graph["bands"]["arguments"]["spatial_extent"]
        width, height = (round((extent[b] - extent[a]) / 10) for a, b in (("west", "east"), ("south", "north")))
        values = np.random.default_rng(1).integers(100, 3000, (4, height, width)).astype(np.uint16)
        values[3] = self.clear
        transform = Affine(10, 0, extent["west"], 0, -10, extent["north"])
        profile = {"dtype": "uint16", "count": 4, "height": height, "width": width, "transform": transform}
        with MemoryFile() as memory:
            with memory.open(driver="GTiff", crs=f"EPSG:{extent['crs']}", **profile) as sink:
                sink.write(values)
            return bytes(memory.read())


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch, tmp_path) -> WithRequests:
    made = WithRequests()
    monkeypatch.setattr(
        requests.adapters.HTTPAdapter, "send", lambda self, request, *_, **options: made.send(self, request, **options)
    )
    for name, value in {"URL": URL, "USERNAME": "ana", "PASSWORD": "open sesame"}.items():
        monkeypatch.setenv(f"OPENEO_{name}", value)
    monkeypatch.setenv("OPENEO_TOKEN_FILE", str(tmp_path / "kept" / "tokens.json"))
    monkeypatch.setattr(webbrowser, "get", lambda: (_ for _ in ()).throw(webbrowser.Error()))
    return made


def findings(*arguments: object) -> dict[str, str]:
    result = call("openeo", "check", *arguments)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert all(line.startswith("✓ ") for line in lines)
    return {line[2:13].strip(): line[13:] for line in lines}


# openeo check


def test_a_backend_in_order_is_a_list_of_ticks(backend):
    told = findings()
    assert list(told) == ["backend", "account", "limits", "credits", "collection", "jobs", "request"]
    assert told["backend"] == f"Pretended at {URL}, openEO API 1.2.0"
    assert told["account"] == "Ana (u-1), logged in with user name and password"
    assert told["limits"] == "2 jobs and 2 requests at once, 12 starts a minute, any number of credits"
    assert told["credits"] == "9876.5 platform credits left; plan free"
    assert told["collection"] == "SENTINEL2_L2A has B02, B03, B04, SCL; 2015-07-04 to today"
    assert told["jobs"] == "3: 1 error, 2 finished"
    assert "months 4–9: 10×10 px in " in told["request"]
    assert told["request"].endswith("; 3 to 3 clear observations")


def test_the_request_lies_in_the_middle_of_the_first_cell(backend, tmp_path, monkeypatch):
    squares = [box(500_000, 5_000_000, 501_000, 5_001_000), box(501_000, 5_000_000, 502_000, 5_001_000)]
    geopandas.GeoDataFrame({"grid_id": ["SI_0", "SI_1"]}, geometry=squares, crs=32633).to_file(tmp_path / "grid.gpkg")
    monkeypatch.setenv("GRID_FILE", str(tmp_path / "grid.gpkg"))
    assert findings()["request"].startswith("Cell SI_0, 20")
    extent = backend.graph["bands"]["arguments"]["spatial_extent"]
    assert extent == {"west": 500_450, "south": 5_000_450, "east": 500_550, "north": 5_000_550, "crs": 32633}


def test_no_request_is_made_where_none_is_wanted(backend):
    assert "request" not in findings("--no-request")
    assert "POST /result" not in backend.asked


def test_a_backend_that_tells_little_is_checked_as_far_as_it_goes(backend):
    backend.about["endpoints"] = [{"path": "/credentials/basic", "methods": ["GET"]}]
    del backend.about["billing"]
    backend.answers[f"GET {COLLECTION}"] = (200, {"id": "SENTINEL2_L2A"})
    told = findings()
    assert told["account"] == "a user who is not named, logged in with user name and password"
    assert told["credits"] == "the backend does not tell what is left"
    assert told["collection"] == "SENTINEL2_L2A does not tell its bands; the beginning to today"
    assert told["request"] == "not made: it has batch jobs only"


def test_the_request_is_for_the_last_season_that_the_collection_has(backend):
    extent = DESCRIBED["extent"] | {"temporal": {"interval": [["2016-01-01T00:00:00Z", "2019-03-31T00:00:00Z"]]}}
    backend.answers[f"GET {COLLECTION}"] = (200, DESCRIBED | {"extent": extent})
    assert ", 2018, months" in findings()["request"]
    assert backend.graph["bands"]["arguments"]["temporal_extent"] == ["2018-04-01", "2018-10-01"]


REFUSED = (401, {"code": "CredentialsInvalid", "message": "open sesame is wrong"})


@pytest.mark.parametrize(
    ("step", "answer", "done", "message"),
    [
        (
            "GET /",
            requests.ConnectionError(),
            0,
            rf"backend at {URL}: no answer \(ConnectionError\)\. Try again",
        ),
        ("GET /credentials/basic", REFUSED, 1, r"openEO login at \S+ .*refused .*Check OPENEO_AUTH_METHOD"),
        (
            "GET /me",
            (403, {"code": "TokenInvalid", "message": "no"}),
            1,
            r"openEO account at .*Check OPENEO_AUTH_METHOD",
        ),
        (f"GET {COLLECTION}", (404, {"code": "CollectionNotFound", "message": "no"}), 4, "OPENEO_COLLECTION"),
        ("GET /jobs", (500, {"code": "Internal", "message": "no"}), 5, "openEO .*jobs.* at "),
        ("POST /result", (402, {"code": "PaymentRequired", "message": "no"}), 6, "A place of the .*Top up the account"),
        ("POST /result", (200, b"no file"), 6, "A place of the collection, 20"),
    ],
)
def test_the_first_thing_that_is_not_in_order_is_told_and_ends_the_list(backend, step, answer, done, message):
    import re

    backend.answers[step] = answer
    assert re.search(message, complaint("openeo", "check"))
    result = call("openeo", "check")
    assert result.stdout.count("✓") == done
    assert "sesame" not in result.output


def test_bands_that_the_collection_lacks_are_told(backend, monkeypatch):
    monkeypatch.setenv("COMPOSITE_BANDS", "B02,B03,B04,B8A")
    assert complaint("openeo", "check") == (
        f"openEO collection 'SENTINEL2_L2A' at {URL} has no B8A; it has B02, B03, B04, SCL. Check OPENEO_COLLECTION "
        "and COMPOSITE_BANDS."
    )


def test_a_place_without_observations_is_told(backend):
    backend.clear = 0
    assert "COMPOSITE_MONTHS" in complaint("openeo", "check")


def test_the_second_backend_is_checked_by_its_own_settings(backend, monkeypatch):
    assert complaint("openeo", "check", "--source", "openeo2").startswith("IMAGERY_SOURCE=openeo2 needs OPENEO2_URL.")
    for name, value in {"URL": URL, "AUTH_CLIENT_ID": "robot", "AUTH_CLIENT_SECRET": "sesame"}.items():
        monkeypatch.setenv(f"OPENEO2_{name}", value)
    assert findings("--source", "openeo2")["account"] == "Ana (u-1), logged in with client credentials"


def test_a_source_that_is_no_openeo_backend_is_told():
    assert complaint("openeo", "check", "--source", "stac", code=MISUSED).startswith(
        "Invalid value for '--source': 'stac'"
    )


# login


@pytest.fixture
def no_waiting(monkeypatch):
    ticks = itertools.count()
    waited = device.log_in
    monkeypatch.setattr(
        device, "log_in", lambda login, show, wait_s: waited(login, show, wait_s, lambda: next(ticks), lambda _: None)
    )


def forget_password(monkeypatch):
    monkeypatch.delenv("OPENEO_USERNAME")
    monkeypatch.delenv("OPENEO_PASSWORD")


@pytest.mark.usefixtures("no_waiting")
def test_a_person_is_told_where_to_log_in_and_what_comes_next(backend, tmp_path, monkeypatch):
    forget_password(monkeypatch)
    result = call("login")
    assert result.exit_code == 0, result.output
    said = result.output
    assert f"  Open   {URL}/oidc/page\n  Enter  ABCD-EFGH\n" in said
    assert f"or open {URL}/oidc/page?code=ABCD-EFGH" in said
    assert f"Logged in at {URL} as Ana (u-1), by {URL}/oidc, client people." in said
    assert f"The refresh token is in {tmp_path / 'kept' / 'tokens.json'} (mode 600). It is good until 20" in said
    assert said.splitlines()[-1] == "Next: eo-tasks openeo check"
    assert "hush" not in said
    assert "A browser opens" not in said
    assert findings()["account"] == "Ana (u-1), logged in with the refresh token of eo-tasks login"


@pytest.mark.usefixtures("no_waiting")
def test_a_browser_with_windows_is_opened_unless_that_is_not_wanted(backend, monkeypatch):
    opened: list[str] = []

    class Windowed:
        def open(self, address: str) -> bool:
            opened.append(address)
            return True

    forget_password(monkeypatch)
    monkeypatch.setattr(webbrowser, "get", Windowed)
    call("login", "--no-browser")
    assert not opened
    assert "A browser opens with it." in call("login").output
    assert opened == [f"{URL}/oidc/page?code=ABCD-EFGH"]


@pytest.mark.usefixtures("no_waiting")
def test_a_login_that_workers_would_not_use_is_told(backend):
    assert "Workers do not use it: they log in with user name and password." in call("login").output


@pytest.mark.usefixtures("no_waiting")
def test_a_person_who_does_not_come_is_one_line(backend, tmp_path, monkeypatch):
    forget_password(monkeypatch)
    backend.provider.polls = ["authorization_pending"] * 1000
    assert complaint("login", "--wait", "20").endswith("nobody logged in within 20 s. Run again: eo-tasks login")
    assert not (tmp_path / "kept").exists()


def test_an_interrupted_login_keeps_nothing(backend, tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(device, "log_in", interrupted)
    result = call("login")
    assert (result.exit_code, result.stderr) == (130, "Interrupted: no token was kept.\n")
    assert not (tmp_path / "kept").exists()
