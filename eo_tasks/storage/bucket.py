"""Files in a bucket of an object store that speaks S3.

An object is there whole or not at all, and whoever asks after it was put finds it: S3 promises both. boto3 and GDAL
keep connections that do not survive a fork, so each process opens its own.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import boto3
import rasterio
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from rasterio.session import AWSSession

from eo_tasks.errors import EOTasksError
from eo_tasks.setting_types import S3Url
from eo_tasks.storage.bucket_faults import is_missing, told
from eo_tasks.storage.place import record_of
from eo_tasks.storage.store import Record

T = TypeVar("T")

AT_ONCE = 16  # requests of one question
ANSWER_S = 60  # longest wait for an answer
TRIES = 5
PART_BYTES = 64 * 2**20  # a longer file is put in parts, and is there with the last of them
GDAL_READING = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_TIMEOUT": str(ANSWER_S),
    "GDAL_HTTP_MAX_RETRY": str(TRIES),
    "GDAL_HTTP_RETRY_DELAY": "1",
}


@dataclass(frozen=True)
class Access:
    """How to reach an object store; what is ``None`` boto3 looks for itself: profile, role of the machine.

    Attributes:
        endpoint_url: Of a store other than AWS's own.
        region: Where the bucket lies.
        key_id: Access key.
        secret: Its secret.
        token: Of a session that ends.
        ca: File of the certificates of those who may vouch for the store.
    """

    endpoint_url: str | None = None
    region: str | None = None
    key_id: str | None = None
    secret: str | None = None
    token: str | None = None
    ca: str | None = None


@dataclass(frozen=True)
class _Opened:
    """What one process holds."""

    pid: int
    session: Any  # boto3.Session
    client: Any


class Bucket:
    """Objects below a prefix of a bucket."""

    def __init__(self, url: S3Url, access: Access) -> None:
        self.url, self.access = url, access
        self._opened: _Opened | None = None

    def __str__(self) -> str:
        return str(self.url)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def check(self) -> None:
        """Put an object, read it and remove it."""
        probe = Path(f".check-{uuid4().hex}")
        with self._told("look at it"):
            self._client.put_object(Bucket=self.url.bucket, Key=self._key(probe), Body=b"eo-tasks")
            try:
                self._client.get_object(Bucket=self.url.bucket, Key=self._key(probe))["Body"].read()
                next(iter(self.names(Path("images"))), None)
            finally:
                self.remove([probe])

    def names(self, folder: Path) -> Iterator[str]:
        """Names of the objects in a folder, and of the folders."""
        prefix = f"{self._key(folder)}/"
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.url.bucket, Prefix=prefix, Delimiter="/"
        )
        with self._told(f"list {folder}"):
            for page in pages:
                found = [one["Key"] for one in page.get("Contents", ())]
                found += [one["Prefix"] for one in page.get("CommonPrefixes", ())]
                yield from (name.removeprefix(prefix).rstrip("/") for name in found if name != prefix)

    def records(self, files: Collection[Path]) -> Mapping[Path, Record]:
        """Records beside these files."""
        return self._each(files, self._record)

    def sizes(self, files: Collection[Path]) -> Mapping[Path, int]:
        """Sizes of those of these files that are there."""
        return self._each(files, self._size)

    def put(self, source: Path, file: Path) -> None:
        """Keep a copy of a local file; there with its last byte."""
        config = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)
        with self._told(f"put {file}"):
            self._client.upload_file(str(source), self.url.bucket, self._key(file), Config=config)

    def put_record(self, file: Path, record: Record) -> None:
        """Write the record beside a file."""
        text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
        key = self._key(record_of(file))
        with self._told(f"put {record_of(file)}"):
            self._client.put_object(Bucket=self.url.bucket, Key=key, Body=text.encode(), ContentType="application/json")

    def remove(self, files: Iterable[Path]) -> None:
        """Remove objects."""
        for file in files:
            with self._told(f"remove {file}"):
                self._client.delete_object(Bucket=self.url.bucket, Key=self._key(file))

    def local(self, file: Path, scratch: Path) -> Path | None:
        """A copy in ``scratch``."""
        copy = scratch / file.name
        with self._told(f"read {file}"):
            try:
                self._client.download_file(self.url.bucket, self._key(file), str(copy))
            except ClientError as error:
                if is_missing(error):
                    return None
                raise
        return copy

    def raster(self, file: Path) -> Path:
        """GDAL's name of an object."""
        return Path(f"/vsis3/{self.url.bucket}") / self._key(file)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Have GDAL ask with the same login, and never answer from what it read before: objects are replaced."""
        with self._told("read"):
            endpoint = urlsplit(self.access.endpoint_url or "")
            session = AWSSession(session=self._open().session, endpoint_url=endpoint.netloc or None)
            options = {
                **GDAL_READING,
                "CPL_VSIL_CURL_NON_CACHED": f"/vsis3/{self.url.bucket}",
                **({"AWS_VIRTUAL_HOSTING": "FALSE"} if endpoint.netloc else {}),
                **({"AWS_HTTPS": "NO"} if endpoint.scheme == "http" else {}),
                **({"GDAL_CURL_CA_BUNDLE": self.access.ca} if self.access.ca else {}),
            }
            env = rasterio.Env(session=session, **options)
        with env:
            yield

    def href(self, file: Path, up: str) -> str:
        """Its URL."""
        return f"s3://{self.url.bucket}/{self._key(file)}"

    def gdal_href(self, file: Path, up: str) -> str:
        """Its name for GDAL."""
        return str(self.raster(file))

    def _record(self, file: Path) -> Record | None:
        try:
            answer = self._client.get_object(Bucket=self.url.bucket, Key=self._key(record_of(file)))
            record = json.loads(answer["Body"].read())
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        except (json.JSONDecodeError, UnicodeDecodeError):
            return None
        return record if isinstance(record, dict) else None

    def _size(self, file: Path) -> int | None:
        try:
            return int(self._client.head_object(Bucket=self.url.bucket, Key=self._key(file))["ContentLength"])
        except ClientError as error:
            if is_missing(error):
                return None
            raise

    def _each(self, files: Collection[Path], ask: Callable[[Path], T | None]) -> dict[Path, T]:
        """Ask the same of many, some at once."""
        with self._told("read"):
            _ = self._client  # made once, before threads do
            if len(files) <= 1:
                answers = [ask(file) for file in files]
            else:
                with ThreadPoolExecutor(min(AT_ONCE, len(files))) as pool:
                    answers = list(pool.map(ask, files))
        return {file: answer for file, answer in zip(files, answers, strict=True) if answer is not None}

    def _key(self, file: Path) -> str:
        return f"{self.url.prefix}/{file.as_posix()}".lstrip("/")

    @property
    def _client(self) -> Any:
        return self._open().client

    def _open(self) -> _Opened:
        if self._opened is None or self._opened.pid != os.getpid():
            access = self.access
            session = boto3.Session(access.key_id, access.secret, access.token, access.region)
            config = Config(
                connect_timeout=10,
                read_timeout=ANSWER_S,
                retries={"mode": "standard", "total_max_attempts": TRIES},
                max_pool_connections=2 * AT_ONCE,
                s3={"addressing_style": "path" if access.endpoint_url else "auto"},
            )
            client = session.client("s3", endpoint_url=access.endpoint_url, config=config, verify=access.ca)
            self._opened = _Opened(os.getpid(), session, client)
        return self._opened

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        try:
            yield
        except S3UploadFailedError as error:  # boto3's, around what happened
            raise self._explained(doing, error.__context__ or error) from error
        except (BotoCoreError, ClientError) as error:
            raise self._explained(doing, error) from error

    def _explained(self, doing: str, error: BaseException) -> EOTasksError:
        at = f" at {self.access.endpoint_url}" if self.access.endpoint_url else ""
        return told(f"{self.url}{at}", doing, error)
