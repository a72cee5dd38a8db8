"""The CPU worker that strikes itself (``celery -A tests.stubs.killing_cpu worker``)."""

from tests.stubs.killing import install

install()

from workers.cpu import app  # noqa: E402  # after the places are in

__all__ = ["app"]
