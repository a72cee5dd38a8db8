"""Redis with TLS and nothing else: the whole system over it, and what is not trusted."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guarded_redis import NEEDED, GuardedRedis, find_openssl, find_redis7, guarded_redis, make_certificates
from tests.integration.test_redis_users import eo_tasks, run_everything
from tests.system import BEAT, CPU, celery

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not find_redis7(), reason=NEEDED),
    pytest.mark.skipif(not find_openssl(), reason="no openssl on this machine, which makes the certificates"),
]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of this file's servers."""
    return make_certificates(tmp_path_factory.mktemp("tls") / "certificates", "broker.example.org")


@pytest.fixture(scope="module")
def server(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedRedis]:
    """One for all tests that change nothing in it."""
    with guarded_redis(tmp_path_factory.mktemp("guarded") / "redis", certificates) as running:
        yield running


def test_the_whole_system_works_over_tls_with_broker_and_results_on_two_servers(
    sample_environment: dict[str, str], certificates: Path, tmp_path: Path
) -> None:
    with (
        guarded_redis(tmp_path / "broker", certificates) as broker,
        guarded_redis(tmp_path / "results", certificates) as results,
    ):
        run_everything(sample_environment, broker, results, tmp_path)
        assert broker.refusals() == ["flower: key control"]  # the task that it was told to send
        assert results.refusals() == []
        with broker.client(database=0) as queues, results.client() as ledger:
            assert not queues.keys("eo-tasks:*")
            assert ledger.keys("eo-tasks:units:*")
            assert not ledger.keys("_kombu*")


def test_nothing_is_said_without_tls(sample_environment: dict[str, str], server: GuardedRedis, tmp_path: Path) -> None:
    ended = eo_tasks(sample_environment | server.variables("worker") | {"REDIS_TLS": "no"}, tmp_path, "runs")
    assert ended.returncode == 1
    assert "are REDIS_URL and REDIS_TLS right?" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_url_that_asks_for_tls_is_enough(
    sample_environment: dict[str, str], server: GuardedRedis, tmp_path: Path
) -> None:
    given = sample_environment | server.variables("worker") | {"REDIS_TLS": "no"}
    urls = {name: given[name].replace("redis://", "rediss://") for name in ("REDIS_URL", "REDIS_RESULT_URL")}
    assert eo_tasks(given | urls, tmp_path, "runs").returncode == 0
    assert eo_tasks(given | urls | {"REDIS_TLS_CA": ""}, tmp_path, "runs").returncode == 1


@pytest.mark.parametrize("program", ["command", "worker", "clock"])
@pytest.mark.parametrize("wrong", ["another authority", "no authority", "another name"])
def test_a_certificate_that_is_not_trusted_ends_everything_with_one_line(
    sample_environment: dict[str, str], server: GuardedRedis, tmp_path: Path, program: str, wrong: str
) -> None:
    host = "127.0.0.2" if wrong == "another name" else "localhost"
    environment = sample_environment | server.variables("worker", host)
    if wrong == "another authority":
        environment["REDIS_TLS_CA"] = str(make_certificates(tmp_path / "other") / "ca.crt")
    if wrong == "no authority":
        environment["REDIS_TLS_CA"] = ""
    if program == "command":
        ended = eo_tasks(environment, tmp_path, "runs")
    else:
        ended = celery(environment, tmp_path, *(CPU if program == "worker" else BEAT))
    assert ended.returncode == 1
    assert "has a certificate that is not trusted" in ended.stderr.strip().splitlines()[-1]
    assert "Traceback" not in ended.stderr


def test_an_expired_certificate_is_not_trusted(sample_environment: dict[str, str], tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates", days=-1)
    with guarded_redis(tmp_path / "redis", certificates, is_trusted=False) as server:
        ended = eo_tasks(sample_environment | server.variables("worker"), tmp_path, "runs")
    assert ended.returncode == 1
    assert "has a certificate that is not trusted (certificate has expired)" in ended.stderr


def test_a_redis_that_asks_for_a_certificate_gets_one(sample_environment: dict[str, str], tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "certificates")
    key, certificate = certificates / "client.key", certificates / "client.crt"
    sign = ["-CA", "ca.crt", "-CAkey", "ca.key", "-days", "2", "-subj", "/CN=worker", "-nodes", "-newkey", "rsa:2048"]
    request = ["openssl", "req", "-x509", *sign, "-keyout", key, "-out", certificate]
    subprocess.run(request, cwd=certificates, check=True, capture_output=True)
    with guarded_redis(tmp_path / "redis", certificates, "--tls-auth-clients", "yes") as server:
        without = sample_environment | server.variables("worker")
        assert eo_tasks(without, tmp_path, "runs").returncode == 1
        shown = {"REDIS_TLS_CERT": str(certificate), "REDIS_TLS_KEY": str(key)}
        told = eo_tasks(without | shown, tmp_path, "runs")
        assert told.returncode == 0, told.stderr
        half = eo_tasks(without | {"REDIS_TLS_CERT": str(certificate)}, tmp_path, "runs")
    assert half.stderr.strip() == "eo-tasks: REDIS_TLS_CERT and REDIS_TLS_KEY belong together: set both or neither."


def test_a_file_that_is_not_there_is_named(sample_environment: dict[str, str], tmp_path: Path) -> None:
    ended = eo_tasks(sample_environment | {"REDIS_TLS_CA": str(tmp_path / "none.crt")}, tmp_path, "runs")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"eo-tasks: REDIS_TLS_CA={tmp_path}/none.crt: takes a file that exists")


def test_only_their_owner_reaches_the_keys(certificates: Path) -> None:
    assert certificates.stat().st_mode & 0o077 == 0
    assert (certificates / "ca.key").stat().st_mode & 0o077 == 0


def test_a_new_certificate_is_of_the_same_authority(tmp_path: Path) -> None:
    folder = make_certificates(tmp_path / "certificates")
    before = [(folder / name).read_bytes() for name in ("ca.crt", "redis.crt", "redis.key")]
    make_certificates(folder, "other.example.org", "10.0.0.7")
    after = [(folder / name).read_bytes() for name in ("ca.crt", "redis.crt", "redis.key")]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, False]
    names = subprocess.run(
        ["openssl", "x509", "-in", folder / "redis.crt", "-noout", "-ext", "subjectAltName"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in ("DNS:redis", "DNS:localhost", "DNS:other.example.org", "IP Address:10.0.0.7"):
        assert name in names
