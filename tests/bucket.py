"""A real S3 server on loopback, as a process, that lets nobody in without a login."""

import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import boto3
import httpx

from eo_tasks.local.redis_server import free_port

START_S = 60
REGION = "eu-central-1"
MAY_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
MAY_READ = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}],
}


@dataclass(frozen=True)
class ObjectStore:
    """One server, with two who may log in: one may do everything, the other only read."""

    url: str
    login: dict[str, str]
    reader: dict[str, str]
    ca: Path | None = None

    def settings(self, bucket: str, prefix: str = "") -> dict[str, str]:
        """The settings of someone who works in a bucket."""
        trust = {"AWS_CA_BUNDLE": str(self.ca)} if self.ca else {}
        return {"DATA_DIR": f"s3://{bucket}/{prefix}".rstrip("/"), "AWS_ENDPOINT_URL": self.url, **trust, **self.login}

    def client(self) -> Any:
        """boto3's, to look behind the scenes."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.login["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.login["AWS_SECRET_ACCESS_KEY"],
            verify=None if self.ca is None else str(self.ca),
        )

    def make_bucket(self, name: str) -> str:
        """An empty bucket; gives its name."""
        self.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        return name

    def keys(self, bucket: str) -> list[str]:
        """Everything in a bucket."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [one["Key"] for page in pages for one in page.get("Contents", ())]


@contextmanager
def object_store(folder: Path, certificates: Path | None = None) -> Iterator[ObjectStore]:
    """A server that is gone afterwards; with TLS, where it gets what ``scripts/make-certificates`` made."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url, ca, files = f"http://127.0.0.1:{port}", None, []
    if certificates is not None:
        url, ca = f"https://localhost:{port}", certificates / "ca.crt"
        files = ["-c", str(certificates / "redis.crt"), "-k", str(certificates / "redis.key")]
    with (folder / "s3.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port), *files],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline, pause = monotonic() + START_S, Event()
        while not _answers(url, ca):
            assert process.poll() is None, (folder / "s3.log").read_text()
            assert monotonic() < deadline, (folder / "s3.log").read_text()
            pause.wait(0.1)
        logins = [_login(url, ca, "worker", MAY_ALL), _login(url, ca, "reader", MAY_READ)]
        httpx.post(
            f"{url}/moto-api/reset-auth", content=b"0", verify=_trust(ca)
        ).raise_for_status()  # from here on it asks who is there
        yield ObjectStore(url, logins[0], logins[1], ca)
    finally:
        process.kill()
        process.wait()


def _trust(ca: Path | None) -> ssl.SSLContext | bool:
    return True if ca is None else ssl.create_default_context(cafile=str(ca))


def _answers(url: str, ca: Path | None) -> bool:
    try:
        return httpx.get(f"{url}/moto-api/", timeout=START_S, verify=_trust(ca)).status_code == 200
    except httpx.TransportError:
        return False


def _login(url: str, ca: Path | None, name: str, policy: dict[str, Any]) -> dict[str, str]:
    iam = boto3.client(
        "iam", endpoint_url=url, region_name=REGION, aws_access_key_id="first", aws_secret_access_key="first",
        verify=None if ca is None else str(ca),
    )  # fmt: skip
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="s3", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_REGION": REGION,
    }
