"""Bring a file from a server: whole, checked, in little memory, and going on where an earlier try ended."""

import fcntl
import hashlib
import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError

from eo_tasks.errors import ResultGoneError, SourceError, SourceUnavailableError
from eo_tasks.files import PART_SUFFIX, write_json
from eo_tasks.sources.openeo.faults import busy_or, meaning

if TYPE_CHECKING:
    from hashlib import _Hash

CHUNK = 1 << 20
TRIES = 4  # in one call
PAUSES_S = (0.0, 0.5, 2.0)  # between them
STALLED_S = 60.0  # without a byte
GONE = (401, 403, 404, 410)  # what servers answer to a link that is no longer good
# https://github.com/multiformats/multicodec/blob/master/table.csv: code and length, as the STAC file extension has them
MULTIHASHES = {"1220": "sha256", "1340": "sha512", "1114": "sha1", "d50110": "md5"}


class LinkGoneError(ResultGoneError):
    """The server no longer honours the link; another one may do."""


def download(
    asker: Any,
    url: str,
    target: Path,
    *,
    expected_size: int | None = None,
    checksum: str | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Bring a file to ``target``, which is there whole or not at all.

    What came of a broken transfer stays beside it as a hidden ``.part``, and this call's next try or a later call goes
    on from there if the server says that the file is still the same.

    Args:
        asker: A ``requests.Session``, or an openEO connection, which sends its token to its own backend only.
        url: May be signed; it is in no message.
        target: Where to; a file there is replaced.
        expected_size: ``file:size`` of the asset, bytes.
        checksum: ``file:checksum`` of the asset, a multihash in hexadecimal; of an unknown kind, it is not checked.
        sleep: Waits between tries.

    Returns:
        The file's size, bytes.

    Raises:
        LinkGoneError: The link is no longer good.
        SourceBusyError: The server asks to come back later.
        SourceUnavailableError: The transfer broke, several times, or what came is not what was announced.
        SourceError: The server refuses for good.
    """
    digest = digest_of(checksum)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _part_of(target) as part:
        for number in range(TRIES):
            try:
                size = _try(asker, url, part, expected_size, digest)
                part.path.replace(target)
                return size
            except _Broken as error:
                said = str(error)
                if number + 1 < TRIES:
                    sleep(PAUSES_S[min(number, len(PAUSES_S) - 1)])
        kept = part.file.seek(0, os.SEEK_END)
        raise SourceUnavailableError(
            f"the file from {_host(url)} did not come whole in {TRIES} tries ({said}; {kept} bytes are here). "
            "It is fetched again."
        )


def receive(response: requests.Response, target: Path) -> int:
    """Write the body of an answer to ``target``, which is there whole or not at all; gives its size, bytes.

    Raises:
        SourceUnavailableError: The answer broke on its way, or is empty.
    """
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
    try:
        with aside.open("wb", buffering=0) as file:
            size = _write(response, file, None)
        announced = _announced(response)
        if not size or (announced is not None and size != announced):
            raise _Broken(f"{size} of {announced or 'unknown'} bytes")
        aside.replace(target)
        return size
    except _Broken as error:
        raise SourceUnavailableError(
            f"the answer of {_host(response.url)} broke on its way ({error}). It is asked again."
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def digest_of(checksum: str | None) -> tuple[str, str] | None:
    """Name of the hash function and hexadecimal digest of a multihash; ``None`` where it cannot be checked."""
    text = (checksum or "").strip().lower()
    for code, name in MULTIHASHES.items():
        if text.startswith(code) and len(text) == len(code) + 2 * hashlib.new(name, usedforsecurity=False).digest_size:
            return name, text.removeprefix(code)
    return None


class _Broken(Exception):  # noqa: N818  never leaves this module
    """A try that ended without the file."""


@dataclass(frozen=True)
class _Part:
    """What is here of a file, locked by this process, and beside it what the server calls that file."""

    path: Path
    file: BinaryIO

    @property
    def _tag_path(self) -> Path:
        return self.path.with_name(f"{self.path.name.removesuffix(PART_SUFFIX)}.tag{PART_SUFFIX}")

    def tag(self) -> str | None:
        """A strong ETag or the Last-Modified of the file of which this is the beginning."""
        with suppress(OSError, ValueError, AttributeError):
            return str(json.loads(self._tag_path.read_text(encoding="utf-8")).get("tag") or "") or None
        return None

    def begin(self, tag: str | None) -> None:
        """Throw away what is here, before another file's bytes come."""
        self.file.seek(0)
        self.file.truncate()
        self.forget()
        if tag:
            write_json(self._tag_path, {"tag": tag})

    def forget(self) -> None:
        """Remove the tag."""
        self._tag_path.unlink(missing_ok=True)


@contextmanager
def _part_of(target: Path) -> Iterator[_Part]:
    """The part of a target, or one of our own where another process is at that: it may be frozen."""
    shared = target.with_name(f".{target.name}{PART_SUFFIX}")
    own = target.with_name(f".{target.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
    path = shared
    while True:
        file = path.open("a+b", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            path = own
            continue
        with suppress(FileNotFoundError):
            if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                break
        file.close()  # it was published or removed between opening and locking
    part = _Part(path, file)
    try:
        yield part
    finally:
        if not path.exists() or path == own:
            part.forget()
        if path == own:
            path.unlink(missing_ok=True)
        file.close()


def _try(asker: Any, url: str, part: _Part, expected_size: int | None, digest: tuple[str, str] | None) -> int:
    here = part.file.seek(0, os.SEEK_END)
    tag = part.tag()
    if here and tag is None:
        part.begin(None)
        here = 0
    if here and here == expected_size and digest is not None:
        _check(part, here, expected_size, digest, _hash_of(part, digest))  # all of it came, but was not published
        return here
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={here}-", "If-Range": str(tag)} if here else {})
    with _answer(asker, url, headers) as response:
        total = _announced(response)
        if response.status_code == 416:  # more is here than there
            part.begin(None)
            raise _Broken("the file has changed")
        if response.status_code == 206:
            first, total = _range(response)
            if first != here:
                part.begin(None)
                raise _Broken("another range than asked for")
            hashed = _hash_of(part, digest)
        else:
            part.begin(_tag(response))
            hashed = _hash_of(part, digest)
        _write(response, part.file, hashed)
    size = part.file.seek(0, os.SEEK_END)
    if total is not None and size < total:
        raise _Broken(f"{size} of {total} bytes")
    _check(part, size, total if expected_size is None else expected_size, digest, hashed)
    return size


def _check(
    part: _Part, size: int, expected_size: int | None, digest: tuple[str, str] | None, hashed: "_Hash | None"
) -> None:
    is_same = digest is None or hashed is None or hashed.hexdigest() == digest[1]
    if size and is_same and expected_size in (None, size):
        part.forget()
        return
    part.begin(None)  # going on from wrong bytes would never end
    raise _Broken(f"{size} of {expected_size or 'unknown'} bytes" if is_same else "another checksum than announced")


@contextmanager
def _answer(asker: Any, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
    # An openEO connection would turn the answers of any file server into its own exceptions, without their headers.
    extra = {} if isinstance(asker, requests.Session) else {"check_error": False}
    try:
        response = asker.get(url, headers=headers, stream=True, timeout=(10.0, STALLED_S), **extra)
    except requests.RequestException as error:
        raise _Broken(type(error).__name__) from error
    with response:
        status = response.status_code
        if status in (200, 206, 416):
            yield response
            return
        if status in GONE:
            raise LinkGoneError(f"the link to the file on {_host(url)} is no longer good ({status}). It is asked anew.")
        retry_after = response.headers.get("Retry-After")
        kind = meaning(status, retry_after=retry_after)
        if kind is SourceUnavailableError:
            raise _Broken(str(status))
        if issubclass(kind, SourceUnavailableError):
            message = f"{_host(url)} answered {status} to the request of a file. It is asked again later."
            raise busy_or(kind, message, retry_after)
        raise SourceError(f"{_host(url)} answered {status} to the request of a file. Tell its operator.")


def _write(response: requests.Response, file: BinaryIO, hashed: "_Hash | None") -> int:
    size = 0
    while True:
        try:
            chunk = response.raw.read1(CHUNK, decode_content=True)  # read() would lose what came before a break
        except (HTTPError, requests.RequestException, OSError) as error:
            raise _Broken(type(error).__name__) from error
        if not chunk:
            return size
        if hashed is not None:
            hashed.update(chunk)
        view = memoryview(chunk)
        while view:
            view = view[file.write(view) :]
        size += len(chunk)


def _hash_of(part: _Part, digest: tuple[str, str] | None) -> "_Hash | None":
    """The hash of what is here, to go on with."""
    if digest is None:
        return None
    hashed = hashlib.new(digest[0], usedforsecurity=False)
    part.file.seek(0)
    while chunk := part.file.read(CHUNK):
        hashed.update(chunk)
    return hashed


def _announced(response: requests.Response) -> int | None:
    """Bytes that a whole answer says it has; unknown where it is compressed or sent in pieces."""
    length = response.headers.get("Content-Length", "")
    is_plain = response.headers.get("Content-Encoding", "identity") == "identity"
    return int(length) if is_plain and length.isdigit() else None


def _range(response: requests.Response) -> tuple[int | None, int | None]:
    """Where a part begins, and how long the whole is."""
    found = re.match(r"bytes (\d+)-\d+/(\d+|\*)$", response.headers.get("Content-Range", ""))
    if found is None:
        return None, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _tag(response: requests.Response) -> str | None:
    """What an ``If-Range`` may hold, RFC 9110, 13.1.5: never a weak ETag."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    etag = str(response.headers.get("ETag", ""))
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _host(url: str) -> str:
    return urlsplit(url).hostname or "the server"
