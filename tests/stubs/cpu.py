"""The CPU worker with stub steps (``celery -A tests.stubs.cpu worker``)."""

from tests.stubs.steps import install

install()

from workers.cpu import app  # noqa: E402  # after the stubs are in place

__all__ = ["app"]
