"""``DATA_DIR=s3://…`` on a real S3 server: what lies there, who may, what is told, and the whole system on it."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from uuid import uuid4

import numpy as np
import pystac
import pytest
import rasterio
from redis import Redis

from eo_tasks.errors import StorageError, StoreUnavailableError
from eo_tasks.files import sha256
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.local.redis_server import free_port
from eo_tasks.products.mask import MaskFiles
from eo_tasks.setting_types import S3Url
from eo_tasks.settings import load_settings
from eo_tasks.state.entry import Limits, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.steps.masks import infer
from eo_tasks.steps.pipeline import Pipeline
from eo_tasks.storage import FileStore, LocalStore, StagedImage, open_place
from eo_tasks.storage import bucket as bucket_module
from eo_tasks.storage.bucket import Bucket
from eo_tasks.storage.layout import image_file, mask_file
from eo_tasks.storage.place import record_of, whole
from eo_tasks.units import Stage
from tests.bucket import ObjectStore, object_store
from tests.chaos.harness import until
from tests.guarded_redis import find_openssl, make_certificates
from tests.painted import paint
from tests.system import BEAT, CONTROL, CPU, GPU, celery, system, wait_for

pytestmark = pytest.mark.integration

CELL_YEAR = GridYear(0, 2022)
DEADLINE_S = 240


@pytest.fixture
def where(object_store_server: ObjectStore, tmp_path: Path) -> dict[str, str]:
    """The settings of an empty bucket, used from a prefix on."""
    bucket = object_store_server.make_bucket(f"test-{uuid4().hex}")
    return object_store_server.settings(bucket, "a/country") | {"WORK_DIR": str(tmp_path / "work")}


@pytest.fixture
def place(where: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The same, opened."""
    return opened(where, monkeypatch)


def opened(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = open_place(load_settings())
    assert isinstance(found, Bucket)
    return found


def a_file(folder: Path, size: int = 1000) -> Path:
    path = folder / f"{uuid4().hex}.bin"
    path.write_bytes(np.random.default_rng(size).bytes(size))
    return path


def eo_tasks(environment: dict[str, str], cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "eo_tasks.cli", *arguments],
        env=environment, cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


# Objects


def test_a_bucket_is_used_from_its_prefix_on(object_store_server, place, tmp_path):
    place.check()
    file = a_file(tmp_path)
    place.put(file, Path("images/2022/a.tiff"))
    place.put_record(Path("images/2022/a.tiff"), {"size_bytes": 1000})
    keys = object_store_server.keys(place.url.bucket)
    assert keys == ["a/country/images/2022/a.json", "a/country/images/2022/a.tiff"]
    assert sorted(place.names(Path("images"))) == ["2022"]
    assert sorted(place.names(Path("images/2022"))) == ["a.json", "a.tiff"]
    assert place.href(Path("images/2022/a.tiff"), "..") == f"s3://{place.url.bucket}/a/country/images/2022/a.tiff"


def test_a_bucket_without_a_prefix_is_used_from_its_top_on(object_store_server, place, tmp_path):
    top = Bucket(S3Url(place.url.bucket), place.access)
    top.put(a_file(tmp_path), Path("images/2022/a.tiff"))
    assert object_store_server.keys(place.url.bucket) == ["images/2022/a.tiff"]
    assert list(top.names(Path("images/2022"))) == ["a.tiff"]


def test_more_objects_than_one_answer_holds_are_all_listed(object_store_server, place):
    client = object_store_server.client()
    for number in range(1005):
        client.put_object(Bucket=place.url.bucket, Key=f"a/country/images/2022/{number}.json", Body=b"{}")
    assert len(list(place.names(Path("images/2022")))) == 1005


def test_a_long_file_is_put_in_parts(object_store_server, place, tmp_path, monkeypatch):
    monkeypatch.setattr(bucket_module, "PART_BYTES", 5 * 2**20)
    file = a_file(tmp_path, 12 * 2**20)
    place.put(file, Path("images/long.tiff"))
    head = object_store_server.client().head_object(Bucket=place.url.bucket, Key="a/country/images/long.tiff")
    assert head["ETag"].strip('"').endswith("-3")
    copy = place.local(Path("images/long.tiff"), tmp_path)
    assert copy is not None
    assert sha256(copy) == sha256(file)


def test_what_is_not_there_is_none_and_removing_it_is_nothing(place, tmp_path):
    assert place.local(Path("images/a.tiff"), tmp_path) is None
    assert not place.records([Path("images/a.tiff"), Path("images/b.tiff")])
    assert not place.sizes([Path("images/a.tiff"), Path("images/b.tiff")])
    place.remove([Path("images/a.tiff")])


def test_a_record_that_is_no_json_does_not_count(object_store_server, place):
    client = object_store_server.client()
    for name, body in (("a", b"{"), ("b", b"\xff"), ("c", b"[1]")):
        client.put_object(Bucket=place.url.bucket, Key=f"a/country/images/{name}.json", Body=body)
    assert not place.records([Path(f"images/{name}.tiff") for name in "abc"])


def test_a_process_that_was_forked_opens_its_own_connections(place, tmp_path):
    place.check()
    path = Path("images/2022/a.tiff")
    place.put(a_file(tmp_path), path)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if place.sizes([path, Path("images/2022/b.tiff")]) == {path: 1000} else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert place.sizes([path]) == {path: 1000}


# What is told


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "hush"}, "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID."),
        ({"AWS_ACCESS_KEY_ID": "AKIANOBODY"}, "It does not know AWS_ACCESS_KEY_ID."),
        ({"DATA_DIR": "s3://nobody-made-it"}, "There is no such bucket: make it, or check DATA_DIR."),
    ],
)
def test_who_is_not_let_in_is_told_in_one_line(where, wrong, remedy, monkeypatch):
    refused = opened(where | wrong, monkeypatch)
    with pytest.raises(StorageError) as caught:
        refused.check()
    message = str(caught.value)
    assert message.startswith(f"{(where | wrong)['DATA_DIR']} at {where['AWS_ENDPOINT_URL']}: cannot ")
    assert message.endswith(remedy)
    assert "\n" not in message
    assert "hush" not in message


def test_who_may_only_read_is_told_so_and_still_reads(object_store_server, place, where, monkeypatch, tmp_path):
    place.put(a_file(tmp_path), Path("images/a.tiff"))
    reader = opened(where | object_store_server.reader, monkeypatch)
    assert reader.sizes([Path("images/a.tiff")]) == {Path("images/a.tiff"): 1000}
    with pytest.raises(StorageError, match=r"\(AccessDenied\)\. This login may not do that"):
        reader.check()
    with pytest.raises(StorageError, match=r"cannot put images/b.tiff \(AccessDenied\)"):
        reader.put(a_file(tmp_path), Path("images/b.tiff"))


def test_a_server_that_is_not_there_may_come_back(where, monkeypatch, tmp_path):
    away = opened(where | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}, monkeypatch)
    for ask in (away.check, lambda: away.put(a_file(tmp_path), Path("a")), lambda: away.sizes([Path("a"), Path("b")])):
        with pytest.raises(StoreUnavailableError, match=r"does not answer .* Start it, or check AWS_ENDPOINT_URL"):
            ask()


def test_a_composite_that_is_broken_is_told_from_one_that_cannot_be_read_now(
    place, where, object_store_server, tmp_path, monkeypatch
):
    store, cog = FileStore(place), a_file(tmp_path)
    store.put_image(CELL_YEAR, StagedImage(cog, {"size_bytes": 1000, "sha256": "of another"}))
    with pytest.raises(StorageError, match=r"^Cell 0, 2022: the stored composite is broken: "):
        store.get_image(CELL_YEAR)
    store.put_image(CELL_YEAR, StagedImage(cog, {"size_bytes": 1000, "sha256": sha256(cog)}))
    with pytest.raises(StoreUnavailableError, match=r"^Cell 0, 2022: the stored composite could not be read now: "):
        store.get_image(CELL_YEAR)


def test_a_command_without_the_package_says_how_to_get_it(environment, where, tmp_path):
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "boto3.py").write_text("raise ModuleNotFoundError('no', name='boto3')")
    ended = eo_tasks(environment | where | {"PYTHONPATH": str(tmp_path / "hidden")}, tmp_path, "sync", "--dry-run")
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith("boto3 is not installed. Install it with: pip install 'eo-tasks[s3]'")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("worker", [CPU, GPU], ids=["cpu", "gpu"])
def test_a_worker_that_is_not_let_in_ends_with_one_line(environment, where, tmp_path, worker):
    grid = paint(environment, tmp_path / "grid.gpkg", 1, ())
    wrong = grid | where | {"AWS_SECRET_ACCESS_KEY": "hush", "IMAGERY_SOURCE": "stac", "STAC_URL": "nowhere.json"}
    ended = celery(wrong, tmp_path, *worker)
    assert ended.returncode != 0
    assert "AWS_SECRET_ACCESS_KEY does not belong to AWS_ACCESS_KEY_ID." in ended.stderr + ended.stdout
    assert "hush" not in ended.stderr + ended.stdout


@pytest.mark.skipif(not find_openssl(), reason="no openssl on this machine, which makes the certificates")
def test_a_store_with_a_certificate_of_an_own_authority_is_trusted_where_that_is_named(monkeypatch, tmp_path):
    certificates = make_certificates(tmp_path / "certificates")
    with object_store(tmp_path / "s3", certificates) as server:
        where = server.settings(server.make_bucket("country")) | {"WORK_DIR": str(tmp_path / "work")}
        settings = paint(where, tmp_path / "grid.gpkg", 1, (2022,))
        place = opened(settings, monkeypatch)
        assert FileStore(place).get_image(CELL_YEAR).dn.any()  # by GDAL
        monkeypatch.delenv("AWS_CA_BUNDLE")
        with pytest.raises(StorageError, match=r"has a certificate that is not trusted .* Set AWS_CA_BUNDLE\.$"):
            open_place(load_settings()).check()


# The whole system


def test_workers_on_machines_of_their_own_share_a_bucket(
    sample_environment: dict[str, str],
    where: dict[str, str],
    place: Bucket,
    object_store_server: ObjectStore,
    redis: Redis,
    tmp_path: Path,
) -> None:
    everyone, ledger = sample_environment | where | {"LEASE_S": "3", "SWEEP_S": "2"}, Ledger(redis, Limits())
    cells, years = (463, 464), (2021, 2022, 2023)
    pairs = [YearPair(cell, *pair) for cell in cells for pair in pairwise(years)]

    def ended(stage: Stage) -> int:
        counts = (ledger.counts(*one) for one in ledger.periods() if one[0] is stage)
        return sum(count.get(kind, 0) for count in counts for kind in (State.COMPLETED, State.SKIPPED))

    def worker(name: str) -> tuple[str, ...]:
        return ("-A", "workers.cpu", "worker", "-n", f"{name}@%h")

    def machine(name: str) -> str:
        return str(tmp_path / name)

    with system(everyone, tmp_path / "logs") as running:
        running.start("control", CONTROL, WORK_DIR=machine("clock"))
        running.start("beat", BEAT, WORK_DIR=machine("clock"))
        running.start("one", worker("one"), WORK_DIR=machine("one"))
        running.start("two", worker("two"), WORK_DIR=machine("two"))
        running.start("gpu", GPU, WORK_DIR=machine("gpu"))
        request = json.dumps({"years": years, "grid_ids": cells})
        asked = celery(everyone, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)
        assert asked.returncode == 0, asked.stderr
        wait_for(redis, lambda: ended(Stage.STORE) >= 1, DEADLINE_S, running.logs)
        running.kill("one")
        wait_for(redis, lambda: ended(Stage.BTC) >= 1, DEADLINE_S, running.logs)
        running.kill("gpu")
        running.start("gpu", GPU, WORK_DIR=machine("gpu"))
        running.start("one", worker("one"), WORK_DIR=machine("one"))
        wait_for(redis, lambda: ended(Stage.BTC) == len(pairs), DEADLINE_S, running.logs)
        keys = [f"a/country/checkpoints/{stage}_2022.json" for stage in Stage]
        until(lambda: set(keys) <= set(object_store_server.keys(place.url.bucket)), 60, running.logs)

    images = [image_file(GridYear(cell, year)) for cell in cells for year in years]
    masks = [file for pair in pairs for file in (*MaskFiles.beside(mask_file(pair)).all, record_of(mask_file(pair)))]
    expected = {f"a/country/{file}" for file in (*images, *map(record_of, images), *masks)}
    found = object_store_server.keys(place.url.bucket)
    assert {key for key in found if "/checkpoints/" not in key} == expected
    assert len(whole(place, [*images, *map(mask_file, pairs)])) == len(images) + len(pairs)
    for name in ("one", "two", "gpu", "clock"):  # nothing that counts is kept on a machine
        assert {path.name for path in (tmp_path / name).iterdir() if not path.name.startswith(".")} <= {
            "logs",
            "orders",
        }

    redis.flushall()  # another Redis: what is done is known from the bucket
    with system(everyone, tmp_path / "logs") as running:
        running.start("control", CONTROL, WORK_DIR=machine("clock"))
        asked = celery(everyone, tmp_path, "-A", "eo_tasks", "call", "enqueue_years", "--kwargs", request)
        assert asked.returncode == 0, asked.stderr
        wait_for(redis, lambda: ended(Stage.BTC) == len(pairs), DEADLINE_S, running.logs)


# Products


@pytest.fixture
def painted(where: dict[str, str], environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """A bucket with two composites and a mask, and the settings of someone who looks at it."""
    settings = paint(environment | where, tmp_path / "grid.gpkg", 1, (2021, 2022))
    pipeline = Pipeline(load_settings(**{name.lower(): value for name, value in settings.items()}))
    infer(pipeline, YearPair(0, 2021, 2022))
    return settings


def test_products_of_a_bucket_refer_to_it(painted, place, tmp_path):
    made = eo_tasks(painted | {"WORK_DIR": str(tmp_path / "here")}, tmp_path, "products")
    assert made.returncode == 0, made.stderr
    catalog = pystac.Catalog.from_file(str(tmp_path / "here" / "stac" / "catalog.json"))
    hrefs = {asset.href for item in catalog.get_items(recursive=True) for asset in item.assets.values()}
    remote = {href for href in hrefs if href.startswith("s3://")}
    images, mask = [image_file(GridYear(0, year)) for year in (2021, 2022)], mask_file(YearPair(0, 2021, 2022))
    files = (*images, *map(record_of, images), *MaskFiles.beside(mask).all, record_of(mask))
    assert remote == {f"{place.url}/{file}" for file in files}
    assert (tmp_path / "here" / "polygons").is_dir()
    assert list((tmp_path / "here" / "quicklooks").rglob("*.png"))
    with place.reading(), rasterio.open(tmp_path / "here" / "qgis" / "composites_2022.vrt") as mosaic:
        assert (mosaic.read(1) == FileStore(place).get_image(GridYear(0, 2022)).dn[0]).all()


def test_doctor_looks_at_the_bucket(painted, tmp_path):
    painted |= {"IMAGERY_SOURCE": "stac", "STAC_URL": "nowhere.json", "COLUMNS": "200"}
    told = eo_tasks(painted, tmp_path, "doctor")
    assert "can be written and read" in told.stdout
    told = eo_tasks(painted | {"AWS_SECRET_ACCESS_KEY": "hush"}, tmp_path, "doctor")
    assert "SignatureDoesNotMatch" in told.stdout
    assert "hush" not in told.stdout


def test_a_copy_of_the_bucket_is_a_data_dir(painted, place, object_store_server, tmp_path):
    client = object_store_server.client()
    for key in object_store_server.keys(place.url.bucket):
        path = tmp_path / "copy" / key.removeprefix("a/country/")
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(place.url.bucket, key, str(path))
    copy, there = LocalStore(tmp_path / "copy"), FileStore(place)
    assert copy.mask_records(2021) == there.mask_records(2021) != {}
    assert (copy.get_image(GridYear(0, 2021)).dn == there.get_image(GridYear(0, 2021)).dn).all()
