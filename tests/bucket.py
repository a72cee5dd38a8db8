"""A real S3 server on loopback, as a process, that lets nobody in without a login."""

import json
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

    def settings(self, bucket: str, prefix: str = "") -> dict[str, str]:
        """The settings of someone who works in a bucket."""
        return {"DATA_DIR": f"s3://{bucket}/{prefix}".rstrip("/"), "AWS_ENDPOINT_URL": self.url, **self.login}

    def client(self) -> Any:
        """boto3's, to look behind the scenes."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.login["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.login["AWS_SECRET_ACCESS_KEY"],
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
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """A server that is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (folder / "s3.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline, pause = monotonic() + START_S, Event()
        while not _answers(url):
            assert process.poll() is None, (folder / "s3.log").read_text()
            assert monotonic() < deadline, (folder / "s3.log").read_text()
            pause.wait(0.1)
        logins = [_login(url, "worker", MAY_ALL), _login(url, "reader", MAY_READ)]
        httpx.post(f"{url}/moto-api/reset-auth", content=b"0").raise_for_status()  # from here on it asks who is there
        yield ObjectStore(url, *logins)
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/moto-api/", timeout=START_S).status_code == 200
    except httpx.TransportError:
        return False


def _login(url: str, name: str, policy: dict[str, Any]) -> dict[str, str]:
    iam = boto3.client(
        "iam", endpoint_url=url, region_name=REGION, aws_access_key_id="first", aws_secret_access_key="first"
    )
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="s3", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_REGION": REGION,
    }
