"""An OpenID Connect provider that is a function of a request, and the same one behind a real socket.

It speaks client credentials, refresh tokens and the device flow (RFC 8628), takes each refresh token once where it
``rotates`` them, and knows which access tokens are still good.
"""

import base64
import contextlib
import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
PERSON, ROBOT, SECRET = "ana", "robot", "sesame"
Answer = tuple[int, dict[str, Any]]


@dataclass
class Provider:
    """A provider.

    Attributes:
        polls: What the token endpoint says while the person is at it, one after the other.
        good: Access tokens that are good, and whose they are.
        fresh: Refresh tokens that are good.
        asked: Every form that came.
    """

    issuer: str
    rotates: bool = True
    gives_refresh_tokens: bool = True
    polls: list[str] = field(default_factory=list)
    good: dict[str, str] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    asked: list[dict[str, str]] = field(default_factory=list)
    challenge: str = ""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def answer(self, path: str, form: dict[str, str], bearer: str = "") -> Answer:
        """Answer a request for a path below the issuer."""
        if path == "/.well-known/openid-configuration":
            names = {"token_endpoint": "token", "userinfo_endpoint": "userinfo"}
            names["device_authorization_endpoint"] = "device"
            return 200, {"issuer": self.issuer} | {key: f"{self.issuer}/{name}" for key, name in names.items()}
        if path == "/userinfo":
            return (200, {"sub": self.good[bearer]}) if bearer in self.good else (401, {"error": "invalid_token"})
        self.asked.append(form)
        return self._device(form) if path == "/device" else self._token(form)

    def expire(self) -> None:
        """Let every access token end."""
        self.good.clear()

    def _device(self, form: dict[str, str]) -> Answer:
        assert "offline_access" in form["scope"]
        self.challenge = form.get("code_challenge", "")
        page = f"{self.issuer}/page"
        told = {"device_code": "dev-1", "user_code": "ABCD-EFGH", "verification_uri": page, "interval": 1}
        return 200, told | {"verification_uri_complete": f"{page}?code=ABCD-EFGH", "expires_in": 600}

    def _token(self, form: dict[str, str]) -> Answer:
        kind = form["grant_type"]
        if kind == "client_credentials":
            right = (form["client_id"], form["client_secret"]) == (ROBOT, SECRET)
            return self._tokens(ROBOT, False) if right else (401, {"error": "invalid_client"})
        if kind == DEVICE:
            if self.polls:
                return 400, {"error": self.polls.pop(0)}
            proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
            if form["device_code"] != "dev-1" or proof.decode().rstrip("=") != self.challenge:
                return 400, {"error": "invalid_grant"}
            return self._tokens(PERSON, self.gives_refresh_tokens)
        if form["refresh_token"] not in self.fresh:
            return 400, {"error": "invalid_grant", "error_description": f"unknown {form['refresh_token']}"}
        if self.rotates:
            self.fresh.discard(form["refresh_token"])
        return self._tokens(PERSON, self.rotates)

    def _tokens(self, user: str, is_renewable: bool) -> Answer:
        number = next(self.numbers)
        self.good[f"access-{number}"] = user
        told = {"access_token": f"access-{number}", "token_type": "Bearer", "expires_in": 300}
        if is_renewable:
            self.fresh.add(f"hush-{number}")
            told |= {"refresh_token": f"hush-{number}", "refresh_expires_in": 86_400}
        return 200, told


@contextlib.contextmanager
def serving(**options: Any) -> Iterator[Provider]:
    """Serve a provider on a free port until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(dict(parse_qsl(body.decode())))

        def _answer(self, form: dict[str, str]) -> None:
            bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
            status, told = provider.answer(self.path.partition("?")[0], form, bearer)
            content = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://127.0.0.1:{server.server_port}", **options)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
