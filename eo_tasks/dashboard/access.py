"""Who may look, and who may act: logins with a rate limit, sessions that can be ended, tokens for programs.

A session is a random name in a cookie; Redis has only its hash. Whoever acts by a cookie also sends the session's
second secret in a header, which no other site can read.
"""

import hashlib
import hmac
import ipaddress
import json
import secrets
from dataclasses import dataclass

from redis import Redis

from eo_tasks.settings import Settings

COOKIE = "eo_tasks_session"
SESSION_S = 12 * 3600
TRIES, TRIES_OF_ALL, TRIES_S = 5, 50, 60  # wrong logins of one address, and of all, in so many seconds
NOBODY = "visitor"


@dataclass(frozen=True)
class Visitor:
    """Whoever makes a request.

    Attributes:
        user: Who logged in; ``None`` if nobody did.
        csrf: Of the session; ``None`` for programs with a token.
    """

    user: str | None = None
    csrf: str | None = None

    @property
    def is_program(self) -> bool:
        """Whether it came with a token."""
        return self.user is not None and self.csrf is None


class Access:
    """Checks logins, sessions and tokens."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._user = settings.dashboard_user
        self._password = _secret(settings.dashboard_password)
        self._token = _secret(settings.dashboard_token)
        self.is_open_to_look = is_loopback(settings.monitoring_host)

    @property
    def has_login(self) -> bool:
        """Whether anyone can log in."""
        return self._password is not None

    def visitor(self, cookie: str | None, bearer: str | None) -> Visitor:
        """Who that is."""
        if bearer is not None:
            is_right = self._token is not None and _same(bearer, self._token)
            return Visitor("program") if is_right else Visitor()
        if not cookie:
            return Visitor()
        key = _session_key(cookie)
        record = self._redis.getex(key, ex=SESSION_S)
        return Visitor() if record is None else Visitor(**json.loads(str(record)))

    def is_tried_too_often(self, address: str) -> bool:
        """Whether an address, or everybody together, gave too many wrong passwords lately."""
        own, everyone = self._redis.mget(_tries_key(address), _tries_key("*"))
        return int(own or 0) >= TRIES or int(everyone or 0) >= TRIES_OF_ALL

    def log_in(self, user: str, password: str, address: str) -> tuple[str, Visitor] | None:
        """Begin a session.

        Returns:
            What goes into the cookie, and who that is now; ``None`` if user or password is wrong.
        """
        is_right = self._password is not None and _same(password, self._password)
        if not (_same(user, self._user) and is_right):
            pipe = self._redis.pipeline(transaction=True)
            for key in (_tries_key(address), _tries_key("*")):
                pipe.incr(key)
                pipe.expire(key, TRIES_S)
            pipe.execute()
            return None
        cookie, visitor = secrets.token_urlsafe(32), Visitor(user, secrets.token_urlsafe(24))
        record = json.dumps({"user": visitor.user, "csrf": visitor.csrf})
        self._redis.set(_session_key(cookie), record, ex=SESSION_S)
        return cookie, visitor

    def log_out(self, cookie: str) -> None:
        """End a session."""
        self._redis.delete(_session_key(cookie))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def matches(given: str | None, expected: str | None) -> bool:
    """Whether a header holds a session's second secret."""
    return given is not None and expected is not None and _same(given, expected)


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _secret(value: object) -> str | None:
    return None if value is None else str(value.get_secret_value())  # type: ignore[attr-defined]


def _session_key(cookie: str) -> str:
    return f"eo-tasks:session:{hashlib.sha256(cookie.encode()).hexdigest()}"


def _tries_key(address: str) -> str:
    return f"eo-tasks:login-tries:{address}"
