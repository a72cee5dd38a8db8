"""A hub of networks on the loopback, with one small file: what is asked of it is what is asked of the real one."""

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator

COMMIT = "0" * 40
NETWORK = b"in the place of a network"


@contextlib.contextmanager
def hub() -> Iterator[str]:
    """Give its address, as long as the block runs."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Hub(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        if self._answer():
            self.wfile.write(NETWORK)

    def _answer(self) -> bool:
        found = self.path.endswith("/model.safetensors") and "/resolve/" in self.path
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(NETWORK)) if found else "0")
        if found:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(NETWORK).hexdigest()}"')
        self.end_headers()
        return found

    def log_message(self, *_: object) -> None:
        """Say nothing."""
