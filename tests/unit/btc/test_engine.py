"""Batches that fit, and answers that stand in their place."""

import ctypes
import logging

import numpy as np
import pytest
import torch
from torch.nn import functional

from eo_tasks.btc.engine import PROCESS_BYTES, Engine, answer, fitting_batch, is_out_of_memory, keep_memory
from eo_tasks.btc.network.fast import PlainNetwork
from eo_tasks.btc.network.published import Architecture
from eo_tasks.errors import DeviceError
from tests.networks import RedNetwork, structured_windows

CPU = torch.device("cpu")
LEVELS = [0, 50, 150, 200, 250, 100, 25]  # of seven windows
PAIRS = [[0, 1], [1, 0], [2, 6], [5, 5], [6, 4]]
PROBABILITIES = [1 / (1 + np.exp((LEVELS[before] - LEVELS[after]) / 50)) for before, after in PAIRS]


def infer(engine: Engine, levels=LEVELS, pairs=PAIRS) -> np.ndarray:
    """Answers to windows of one level each."""
    windows = np.broadcast_to(np.array(levels, np.uint8)[:, None, None, None], (len(levels), 40, 40, 3)).copy()
    found = engine.fetch(engine.infer(windows, np.array(pairs, np.int64)))
    assert found.shape == (len(pairs), 40, 40)
    assert found.dtype == np.float32
    assert np.ptp(found, axis=(1, 2)) == pytest.approx(0, abs=1e-6)
    return found[:, 0, 0]


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_each_pair_has_its_own_answer_in_order_whatever_the_batch(batch_size):
    assert infer(Engine(RedNetwork(), CPU, batch_size)) == pytest.approx(PROBABILITIES)


def test_each_window_is_encoded_once_in_batches_and_so_is_each_pair_decoded():
    network = RedNetwork()
    infer(Engine(network, CPU, 3))
    assert (network.encoded, network.decoded) == ([3, 3, 1], [3, 2])


def test_windows_are_shown_at_the_networks_size_and_answered_at_their_own_or_another():
    seen = []

    class Seen(RedNetwork):
        def encode(self, levels):
            seen.append((tuple(levels.shape), levels.dtype))
            return super().encode(levels)

    engine, pairs = Engine(Seen(), CPU, 8), np.array([[0, 1]])
    windows = structured_windows(2, 96)
    assert engine.infer(windows, pairs).shape == (1, 96, 96)
    assert engine.infer(windows, pairs, 256).shape == (1, 256, 256)
    assert engine.logits(windows, pairs).shape == (1, 64, 64)
    assert set(seen) == {((2, 256, 256, 3), torch.float32)}


def test_one_window_is_what_the_authors_make_of_it(checkpoint, golden):
    engine = Engine(PlainNetwork(checkpoint.network), CPU, 8)
    windows, pairs = np.concatenate([golden["imageA"], golden["imageB"]]), np.array([[0, 1], [1, 0]])
    found = engine.fetch(engine.infer(windows, pairs, 256))
    assert np.abs(found[0] - golden["prob"][0, 0]).max() < 1e-4
    assert np.abs(found[1] - 1 / (1 + np.exp(-golden["logits_swapped"][0, 0]))).max() < 1e-4
    quarter = engine.fetch(engine.logits(windows, pairs[:1]))
    assert np.abs(quarter - golden["lowres_logits"][:, 0]).max() < 1e-4


# Memory


OUT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:128] DefaultCPUAllocator: can't allocate memory: you tried …"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
    MemoryError("Unable to allocate 1 GiB for an array"),
    MemoryError(),
]


@pytest.mark.parametrize("error", OUT, ids=lambda error: f"{type(error).__name__}: {str(error)[:20]}")
def test_a_batch_that_does_not_fit_is_halved_and_the_answers_are_the_same(error, caplog):
    network = RedNetwork(2, error)
    engine = Engine(network, CPU, 7)
    with caplog.at_level(logging.WARNING):
        assert infer(engine) == pytest.approx(PROBABILITIES)
    assert network.encoded == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    assert [record.windows for record in caplog.records] == [7, 3]
    assert [record.message for record in caplog.records] == ["batch does not fit the memory"] * 2


def test_a_batch_that_did_not_fit_is_not_tried_again():
    network = RedNetwork(4)
    engine = Engine(network, CPU, 8)
    for _ in range(2):
        infer(engine, LEVELS + LEVELS)
    assert engine.batch_size == 4
    assert network.encoded == [8, 4, 4, 4, 2, 4, 4, 4, 2]
    assert network.decoded == [4, 1, 4, 1]


def test_what_was_done_before_memory_ran_out_is_not_done_again():
    class Shrinking(RedNetwork):
        def encode(self, levels):
            self.fits = 3 if not self.encoded else 2
            return super().encode(levels)

    network = Shrinking()
    assert infer(Engine(network, CPU, 3)) == pytest.approx(PROBABILITIES)
    assert network.encoded == [3, 3, 1, 1, 1, 1]


def test_decoding_that_does_not_fit_is_halved_alone():
    class Wide(RedNetwork):
        def decode(self, before, after):
            self.fits = 2
            return super().decode(before, after)

    network = Wide()
    assert infer(Engine(network, CPU, 8)) == pytest.approx(PROBABILITIES)
    assert (network.encoded, network.decoded) == ([7], [5, 2, 2, 1])


@pytest.mark.parametrize("error", OUT[:4:3], ids=type)
def test_a_single_window_that_does_not_fit_is_told(error):
    network = RedNetwork(0, error)
    with pytest.raises(type(error)) as caught:
        infer(Engine(network, CPU, 4))
    assert caught.value is error
    assert network.encoded == [4, 2, 1]


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("out of memory"), KeyError("x")])
def test_another_error_is_told_at_once(error):
    network = RedNetwork(0, error)
    with pytest.raises(type(error)) as caught:
        infer(Engine(network, CPU, 4))
    assert caught.value is error
    assert network.encoded == [4]


@pytest.mark.parametrize(
    ("error", "is_out"),
    [(error, True) for error in OUT] + [(RuntimeError("invalid argument"), False), (OSError("no space"), False)],
    ids=str,
)
def test_running_out_of_memory_is_recognised(error, is_out):
    assert is_out_of_memory(error) == is_out


def test_a_batch_is_as_large_as_what_the_memory_leaves():
    # A window needs 4 bytes × 64² × (14 × 512 + 16 × 128) = 151 MB at BTC-B's sizes.
    architecture = Architecture(128, (2, 2, 18, 2), (4, 8, 16, 32), 12, 512)
    window, weights = 4 * 4096 * (14 * 512 + 16 * 128), 500_000_000
    room = PROCESS_BYTES + weights
    assert fitting_batch(architecture, 8, weights, room + 3 * window) == 3
    assert fitting_batch(architecture, 8, weights, room + 3 * window - 1) == 2
    assert fitting_batch(architecture, 2, weights, room + 3 * window) == 2
    assert fitting_batch(architecture, 8, weights, room - window) == 1


# Devices


class FailedTensor:
    """What a CUDA device that fails leaves: it is told when the answer is fetched."""

    def cpu(self):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_cuda_device_that_fails_is_told_apart_from_a_network_that_fails(monkeypatch):
    network = RedNetwork(0, RuntimeError("CUDA error: unspecified launch failure"))
    engine = Engine(network, torch.device("cuda"), 4)
    monkeypatch.setattr(engine, "_to_device", torch.from_numpy)
    with pytest.raises(DeviceError, match=r"^cuda: CUDA error: unspecified launch failure$"):
        infer(engine)
    assert network.encoded == [4]
    with pytest.raises(DeviceError, match=r"^cuda: CUDA error: an illegal memory access"):
        engine.fetch(FailedTensor())


def test_a_cuda_device_without_memory_has_not_failed(monkeypatch):
    engine = Engine(RedNetwork(0), torch.device("cuda"), 1)
    monkeypatch.setattr(engine, "_to_device", torch.from_numpy)
    with pytest.raises(torch.OutOfMemoryError):
        infer(engine)


def test_on_a_cpu_freed_memory_is_kept(monkeypatch):
    told = []

    class Libc:
        def mallopt(self, option: int, value: int) -> int:
            told.append((option, value))
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Libc())
    Engine(RedNetwork(), torch.device("cuda"), 1)
    assert told == []
    Engine(RedNetwork(), CPU, 1)
    assert told == [(-4, 0), (-1, 2**31 - 1)]  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h


@pytest.mark.parametrize("error", [OSError, AttributeError])
def test_without_glibc_memory_is_left_alone(monkeypatch, error):
    def refuse(_: object) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    keep_memory()


# From logits to a window's pixels


def test_an_answer_is_enlarged_as_logits_and_reduced_as_probabilities():
    logits = torch.randn(2, 64, 64, generator=torch.Generator().manual_seed(1)) * 3
    full = torch.sigmoid(functional.interpolate(logits[:, None], (256, 256), mode="bilinear", align_corners=False))
    assert (answer(logits, 256) - full[:, 0]).abs().max() < 1e-6
    assert (answer(logits, 64) - functional.avg_pool2d(full, 4)[:, 0]).abs().max() < 1e-6
    assert answer(logits.half(), 96).dtype == torch.float32
