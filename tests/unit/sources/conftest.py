"""The openEO backend of the unit tests, and no connection that outlives a test."""

from collections.abc import Iterator

import pytest
import requests

from eo_tasks.sources.openeo.backend import disconnect
from tests.openeo_backend.stub import StubBackend


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubBackend]:
    """A backend that answers whatever is asked in this process."""
    made = StubBackend()
    monkeypatch.setattr(
        requests.adapters.HTTPAdapter, "send", lambda self, request, *_, **how: made.send(request, **how)
    )
    yield made
    disconnect()
