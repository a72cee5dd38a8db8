"""URLs that may carry a password: put one in, and never show one."""

import re
from urllib.parse import quote, urlsplit, urlunsplit

MASK = "********"

_USER_INFO = re.compile(r"^((?:[\w+.-]*:?//)?[^:@]*:).*(?=@)")  # also where a typing error hides the scheme
_QUERY = re.compile(r"([?&][^=&#]*(?:password|passwd|token|secret|key|sig)[^=&#]*=)[^&#]*", re.IGNORECASE)


def redacted(url: str) -> str:
    """Hide the password of a URL, in its authority and in its query; any other text stays as it is."""
    return _QUERY.sub(rf"\1{MASK}", _USER_INFO.sub(rf"\1{MASK}", url))


def with_password(url: str, password: str | None) -> str:
    """Put a password into a URL that has none."""
    parts = urlsplit(url)
    if password is None or parts.password is not None:
        return url
    user, host = parts.username or "", parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))
