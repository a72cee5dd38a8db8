"""Clock and control worker with stub steps (``celery -A tests.stubs.control beat`` and ``… worker``)."""

from tests.stubs.steps import install

install()

from beat import app  # noqa: E402  # after the stubs are in place

__all__ = ["app"]
