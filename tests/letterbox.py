"""A real SMTP server and a real HTTP server that keep what they are sent."""

import json
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from eo_tasks.local.redis_server import free_port

USER, PASSWORD = "watch", "a pass, word"


@dataclass
class Letterbox:
    """A mail server.

    Attributes:
        letters: What it took.
        is_full: Whether it takes none.
    """

    port: int = 0
    letters: list[Message] = field(default_factory=list)
    is_full: bool = False

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802  # aiosmtpd's name
        """Take a letter."""
        if self.is_full:
            return "452 the box is full"
        self.letters.append(message_from_bytes(envelope.content, policy=default))
        return "250 taken"


@contextmanager
def letterbox(
    certificate: Path | None = None, *, is_tls: bool = False, has_login: bool = False, is_full: bool = False
) -> Iterator[Letterbox]:
    """A mail server on the loopback; with a certificate it speaks STARTTLS, or TLS from the first byte."""
    box, context = Letterbox(free_port(), is_full=is_full), None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    login: dict[str, Any] = {}
    if has_login:  # a server that is encrypted from the first byte does not know that it is
        login = {"authenticator": _authenticate, "auth_required": not is_tls, "auth_require_tls": not is_tls}
    encryption = (
        {"ssl_context": context} if is_tls else {"tls_context": context, "require_starttls": context is not None}
    )
    server = Controller(box, hostname="127.0.0.1", port=box.port, **encryption, **login)
    server.start()
    try:
        yield box
    finally:
        server.stop()


def _authenticate(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    is_right = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=is_right, handled=False)


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that vouches for itself, with its key beside it."""
    certificate = folder / "server.crt"
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    written = ["-keyout", str(certificate.with_suffix(".key")), "-out", str(certificate)]
    subprocess.run(["openssl", "req", *kind, *subject, *written], check=True, capture_output=True)
    return certificate


@dataclass
class Hook:
    """A server that takes posts.

    Attributes:
        url: Where; its path is a secret.
        posts: The JSON that it took.
        tries: Requests that came.
        answers: Status codes of the next answers; 200 when there are no more.
    """

    url: str = ""
    posts: list[dict[str, Any]] = field(default_factory=list)
    tries: int = 0
    answers: list[int] = field(default_factory=list)


@contextmanager
def hook() -> Iterator[Hook]:
    """A webhook on the loopback."""
    kept = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.tries += 1
            body = self.rfile.read(int(self.headers["Content-Length"]))
            code = kept.answers.pop(0) if kept.answers else 200
            if code == 200:
                assert self.headers["Content-Type"] == "application/json"
                kept.posts.append(json.loads(body))
            self.send_response(code)
            if code == 302:
                self.send_header("Location", kept.url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept.url = f"http://127.0.0.1:{server.server_port}/services/T0/s3cr3t"
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()
