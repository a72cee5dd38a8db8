"""Composites by synchronous requests."""

import pytest

from eo_tasks.errors import AccountError, EmptyCompositeError, SourceBusyError, SourceUnavailableError
from eo_tasks.sources import open_source
from eo_tasks.sources.openeo.backend import OFFSET_APPLIED
from eo_tasks.sources.openeo.graph import composite_graph
from tests.openeo_backend.stub import REQUEST, URL, geotiff, refusal, settings

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # rasterio
CDSE = "https://openeo.dataspace.copernicus.eu"


def test_a_synchronous_request_gives_a_composite_and_leaves_no_file(backend, tmp_path):
    made = open_source(settings()).composite(REQUEST, tmp_path / "scratch")
    assert made.clear_count.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert (made.origin.source, made.origin.collection) == ("openeo", "SENTINEL2_L2A")
    assert made.origin.details == {"url": URL, "mode": "synchronous"}
    assert not list((tmp_path / "scratch").iterdir())
    assert backend.bodies["POST /result"]["process"]["process_graph"] == composite_graph(REQUEST, "SENTINEL2_L2A")
    assert backend.timeouts["POST /result"] == (10, 1800)


def test_what_a_request_did_cost_is_recorded(backend, tmp_path):
    backend.answers["POST /result"] = (200, geotiff(), {"OpenEO-Identifier": "r-1", "OpenEO-Costs-experimental": "6.5"})
    details = open_source(settings()).composite(REQUEST, tmp_path).origin.details
    assert (details["request_id"], details["credits"]) == ("r-1", "6.5")


def test_the_offset_is_recorded_as_applied_where_the_backend_documents_it(backend, tmp_path):
    assert open_source(settings(openeo_url=CDSE)).composite(REQUEST, tmp_path).origin.offset == OFFSET_APPLIED
    told = open_source(settings()).composite(REQUEST, tmp_path).origin.offset
    assert told == "left to the backend: openEO does not tell"


def test_a_failure_is_told_with_cell_and_year(backend, tmp_path):
    backend.answers["POST /result"] = refusal(400, "NoDataAvailable")
    with pytest.raises(EmptyCompositeError, match=r"^Cell 5, 2023: .*no observation .* months 4–9\.$"):
        open_source(settings()).composite(REQUEST, tmp_path)


def test_a_busy_backend_keeps_its_time_when_the_cell_is_named(backend, tmp_path):
    backend.answers["POST /result"] = (429, b"", {"Retry-After": "30"})
    with pytest.raises(SourceBusyError, match=r"^Cell 5, 2023: ") as caught:
        open_source(settings()).composite(REQUEST, tmp_path)
    assert caught.value.retry_after_s == 30


def test_a_refused_password_is_told_without_it(backend, tmp_path):
    backend.answers["GET /credentials/basic"] = refusal(401, "CredentialsInvalid", "sesame is wrong for ana")
    with pytest.raises(AccountError, match=r"openEO login at https://openeo.example: the login was refused") as caught:
        open_source(settings()).composite(REQUEST, tmp_path)
    assert "sesame" not in str(caught.value)


def test_no_data_of_an_unknown_collection_names_the_setting(backend, tmp_path):
    backend.answers["POST /result"] = refusal(400, "NoDataAvailable")
    backend.answers["GET /collections/SENTINEL2_L2A"] = refusal(404, "CollectionNotFound")
    with pytest.raises(AccountError, match=r"openEO collection 'SENTINEL2_L2A' at .*Check OPENEO_URL and OPENEO_COLL"):
        open_source(settings()).composite(REQUEST, tmp_path)


@pytest.mark.parametrize(
    ("content", "length"), [(b"", "0"), (b"", ""), (geotiff()[:300], str(len(geotiff())))], ids=["0", "none", "cut"]
)
def test_an_answer_that_breaks_on_its_way_is_asked_for_again(backend, tmp_path, content, length):
    backend.answers["POST /result"] = (200, content, {"Content-Length": length})
    with pytest.raises(SourceUnavailableError, match=r"broke on its way"):
        open_source(settings()).composite(REQUEST, tmp_path)
    assert not list(tmp_path.iterdir())
