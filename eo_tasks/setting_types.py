"""What settings are made of: their choices, and how their text is read."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator
from pydantic_settings import NoDecode

from eo_tasks.ranges import read_ranges

SENTINEL2_BANDS = frozenset({*(f"B{number:02}" for number in range(1, 13)), "B8A"})


@dataclass(frozen=True)
class S3Url:
    """Objects below a prefix, ``""`` for all, of a bucket."""

    bucket: str
    prefix: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


class PipelineMode(StrEnum):
    """Where images and masks are kept."""

    LOCAL_ONLY = "local_only"
    DATABASE_ONLY = "database_only"
    HYBRID = "hybrid"


class ImagerySource(StrEnum):
    """Where composites come from."""

    OPENEO = "openeo"
    OPENEO2 = "openeo2"
    STAC = "stac"


class OpenEOAuth(StrEnum):
    """How to log in to the openEO backend without a person; ``auto`` takes what is set."""

    AUTO = "auto"
    CLIENT_CREDENTIALS = "client_credentials"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105  a method's name
    BASIC = "basic"
    NONE = "none"


class OpenEOMode(StrEnum):
    """Which openEO processing is used."""

    SYNCHRONOUS = "synchronous"
    BATCH = "batch"


class Device(StrEnum):
    """Where BTC runs; ``auto`` takes CUDA where it is there."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Precision(StrEnum):
    """What BTC is computed in; ``auto`` takes float16 on CUDA and float32 on a CPU."""

    AUTO = "auto"
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


class SslMode(StrEnum):
    """How the connection to the database is secured; libpq's words."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class SmtpSecurity(StrEnum):
    """How the connection to the e-mail server is encrypted."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class LogLevel(StrEnum):
    """The lowest level that is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


def _split(value: Any) -> Any:
    """Accept ``B02,B03 B04`` where a list is meant."""
    return [part for part in value.replace(",", " ").split() if part] if isinstance(value, str) else value


def _months(value: Any) -> Any:
    """Accept ``4-9`` and ``4,5,9`` for months."""
    if not isinstance(value, str):
        return value
    try:
        return read_ranges(value)
    except ValueError:
        raise ValueError("months such as 4-9 or 4,5,6") from None


def _stretch(value: Any) -> Any:
    """Accept ``B04:0:0.347,B03:0:0.296`` for per-band reflectance ranges."""
    if not isinstance(value, str):
        return value
    parts = [part.split(":") for part in value.replace(",", " ").split()]
    try:
        ranges = {band: (float(low), float(high)) for band, low, high in parts}
    except ValueError:
        ranges = {}
    if not ranges or len(ranges) != len(parts):
        raise ValueError("ranges such as B04:0:0.347,B03:0:0.296,B02:0:0.213")
    return ranges


def _stretch_text(ranges: Mapping[str, tuple[float, float]]) -> str:
    return ",".join(f"{band}:{low:g}:{high:g}" for band, (low, high) in ranges.items())


def _consecutive(months: tuple[int, ...]) -> tuple[int, ...]:
    """Require one unbroken season: openEO takes a single date range."""
    if list(months) != list(range(months[0], months[-1] + 1)):
        raise ValueError("months that follow each other, such as 4-9")
    return months


def _increasing(ranges: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    for band, (low, high) in ranges.items():
        if not low < high:
            raise ValueError(f"ranges whose low end lies below the high end, not {band}:{low:g}:{high:g}")
    return ranges


def _different(sources: tuple[ImagerySource, ...]) -> tuple[ImagerySource, ...]:
    if not sources or len(set(sources)) != len(sources):
        raise ValueError("one or several different of openeo, openeo2, stac, in order of preference")
    return sources


def _sentinel2_bands(bands: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(bands)) != len(bands) or not set(bands) <= SENTINEL2_BANDS:
        raise ValueError("different bands of Sentinel-2, such as B02,B03,B04,B08")
    return bands


def _redis_url(url: str) -> str:
    parts = _split_url(url)
    if parts is None or parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ValueError("a URL such as redis://127.0.0.1:6379/0 or rediss://host:6380/0")
    if not parts.path.strip("/").isdecimal() and parts.path.strip("/"):
        raise ValueError("a URL that ends with the number of a database, such as redis://127.0.0.1:6379/0")
    return url


def _url(url: str) -> str:
    if _split_url(url) is None:
        raise ValueError("a URL such as https://host/path")
    return url


def _split_url(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return None
    return parts


def _expanded(path: Path) -> Path:
    return path.expanduser()


def _readable(path: Path) -> Path:
    if not path.is_file() or not os.access(path, os.R_OK):
        raise ValueError("a file that exists and that this user may read")
    return path


def _place(value: Any) -> Path | S3Url:
    """Take a folder, or a bucket with a prefix."""
    if isinstance(value, S3Url):
        return value
    text = str(value)
    if isinstance(value, Path) or "://" not in text:
        return Path(text).expanduser()
    found = re.fullmatch(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?", text)
    prefix = ((found[2] if found else "") or "").strip("/")
    if found is None or any(part in ("", ".", "..") for part in prefix.split("/") if prefix):
        raise ValueError("a folder, or a bucket such as s3://bucket/prefix")
    return S3Url(found[1], prefix)


def _joined(items: tuple[Any, ...]) -> str:
    return ",".join(str(item) for item in items)


_JOIN = PlainSerializer(_joined, return_type=str, when_used="json")
Month = Annotated[int, Field(ge=1, le=12)]
Months = Annotated[
    tuple[Month, ...],
    NoDecode,
    BeforeValidator(_months),
    Field(min_length=1),
    AfterValidator(_consecutive),
    _JOIN,
]
SclClass = Annotated[int, Field(ge=0, le=11)]
SclClasses = Annotated[tuple[SclClass, ...], NoDecode, BeforeValidator(_split), _JOIN]
BandNames = Annotated[
    tuple[str, ...],
    NoDecode,
    BeforeValidator(_split),
    AfterValidator(_sentinel2_bands),
    _JOIN,
]
ImagerySources = Annotated[
    tuple[ImagerySource, ...], NoDecode, BeforeValidator(_split), AfterValidator(_different), _JOIN
]
Stretch = Annotated[
    dict[str, tuple[float, float]],
    NoDecode,
    BeforeValidator(_stretch),
    AfterValidator(_increasing),
    PlainSerializer(_stretch_text, return_type=str, when_used="json"),
]
Url = Annotated[str, AfterValidator(_url)]
RedisUrl = Annotated[str, AfterValidator(_redis_url)]
Folder = Annotated[Path, AfterValidator(_expanded)]  # or file
DataPlace = Annotated[Path | S3Url, PlainValidator(_place), PlainSerializer(str, return_type=str)]
File = Annotated[Path, AfterValidator(_expanded), AfterValidator(_readable)]
Port = Annotated[int, Field(ge=1, le=65535)]
