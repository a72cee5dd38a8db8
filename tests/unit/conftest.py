"""What every unit test has: no network, none of the machine's settings, and a few synthetic values."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from eo_tasks.raster import Composite, Origin, PixelGrid
from eo_tasks.settings import Settings, current_settings


class SocketClosedError(AssertionError):
    """A unit test tried to reach something outside its process."""


@pytest.fixture(autouse=True)
def closed_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test connect anywhere, nor look a name up."""

    def refuse(*args: object, **_: object) -> None:
        raise SocketClosedError(f"unit tests reach nothing outside their process: {args[-1]!r}")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("create_connection", "getaddrinfo", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the settings of whoever runs the tests, also those of a ``.env`` where they are started."""
    fields = {name.upper() for name in Settings.model_fields}
    for variable in list(os.environ):
        if variable.upper().removesuffix("_FILE") in fields or variable.upper() in fields:
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    current_settings.cache_clear()


@pytest.fixture
def composite() -> Callable[..., Composite]:
    """Make a composite of B02, B03, B04 from their DN, each a number or an array."""

    def make(dn: object, pixels: PixelGrid | None = None, shape: tuple[int, int] = (4, 6)) -> Composite:
        height, width = shape
        pixels = pixels or PixelGrid(32633, (500_000, 5_000_000, 500_000 + 10 * width, 5_000_000 + 10 * height))
        image = np.broadcast_to(np.asarray(dn, np.uint16), (3, *pixels.shape)).copy()
        counts = np.full(pixels.shape, 5, np.uint16)
        return Composite(pixels, ("B02", "B03", "B04"), image, counts, Origin("stac", "synthetic"))

    return make


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Run torch on one thread: on a busy machine threads wait for each other far longer than a tiny network takes."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
