"""Clock and control worker that strike themselves (``celery -A tests.stubs.killing_control beat`` and ``… worker``)."""

from tests.stubs.killing import install

install()

from beat import app  # noqa: E402  # after the places are in

__all__ = ["app"]
