"""URLs of servers that want a login or TLS: put them in, and never show a password."""

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

MASK = "********"

_USER_INFO = re.compile(r"^((?:[\w+.-]*:?//)?[^:@]*:).*(?=@)")  # also where a typing error hides the scheme
_QUERY = re.compile(r"([?&][^=&#]*(?:password|passwd|token|secret|key|sig)[^=&#]*=)[^&#]*", re.IGNORECASE)


def redacted(url: str) -> str:
    """Hide the password of a URL, in its authority and in its query; any other text stays as it is."""
    return _QUERY.sub(rf"\1{MASK}", _USER_INFO.sub(rf"\1{MASK}", url))


def with_login(url: str, user: str | None, password: str | None) -> str:
    """Put user and password into a URL, each where it has none."""
    parts = urlsplit(url)
    name, secret = parts.username or quote(user or "", safe=""), parts.password or quote(password or "", safe="")
    if not name and not secret:
        return url
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{name}:{secret}@{host}" if secret else f"{name}@{host}"))


def with_tls(url: str, files: Mapping[str, Path | None]) -> str:
    """Have a Redis URL encrypt, and check the server's certificate and name; what its query says already stays.

    Args:
        url: ``redis://`` or ``rediss://``.
        files: Parameters of redis-py, such as ``ssl_ca_certs``, and their files.
    """
    parts = urlsplit(url)
    wanted = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
    wanted |= {name: str(path.absolute()) for name, path in files.items() if path is not None}
    query = urlencode(wanted | dict(parse_qsl(parts.query)), quote_via=quote)
    return urlunsplit(parts._replace(scheme="rediss", query=query))
