"""What a worker finds out about its machine."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from eo_tasks.state.workers import Gpu
from workers.machine import disk_gb, family_memory_gb, gpus


def test_disk_of_a_folder_that_is_not_made_yet_is_that_of_its_parent(tmp_path: Path):
    free_gb, total_gb = disk_gb(tmp_path / "not" / "yet")
    assert 0 < free_gb < total_gb


def test_memory_of_this_process_is_more_than_python_alone_and_less_than_a_terabyte():
    assert 0.01 < family_memory_gb() < 1000


class TwoCards(SimpleNamespace):
    """As much of ``pynvml`` as is asked for."""

    def __init__(self, **wrong) -> None:
        super().__init__(
            is_open=False,
            nvmlInit=lambda: setattr(self, "is_open", True),
            nvmlShutdown=lambda: setattr(self, "is_open", False),
            nvmlDeviceGetCount=lambda: 2,
            nvmlDeviceGetHandleByIndex=lambda index: index,
            nvmlDeviceGetName=lambda card: [b"NVIDIA H100", "NVIDIA H200"][card],
            nvmlDeviceGetMemoryInfo=lambda card: SimpleNamespace(used=(card + 1) * 10**9, total=80 * 10**9),
            nvmlDeviceGetUtilizationRates=lambda card: SimpleNamespace(gpu=50 * card, memory=0),
        )
        self.__dict__.update(wrong)


def broken(*_) -> None:
    raise RuntimeError("the driver is of another version")


def test_every_card_is_told_with_load_and_memory(monkeypatch: pytest.MonkeyPatch):
    cards = TwoCards()
    monkeypatch.setitem(sys.modules, "pynvml", cards)
    assert gpus() == (Gpu("NVIDIA H100", 0.0, 1.0, 80.0), Gpu("NVIDIA H200", 0.5, 2.0, 80.0))
    assert not cards.is_open


def test_card_that_fails_is_no_failure_of_the_worker_and_leaves_the_library_closed(monkeypatch: pytest.MonkeyPatch):
    cards = TwoCards(nvmlDeviceGetMemoryInfo=broken)
    monkeypatch.setitem(sys.modules, "pynvml", cards)
    assert gpus() == ()
    assert not cards.is_open


@pytest.mark.parametrize("library", [None, TwoCards(nvmlInit=broken)], ids=["no library", "no driver"])
def test_machine_without_library_or_driver_has_no_cards(monkeypatch: pytest.MonkeyPatch, library):
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert gpus() == ()
