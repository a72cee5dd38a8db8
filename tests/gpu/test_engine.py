"""The network on a CUDA device: as on the CPU, in lower precision, from CUDA graphs, and when memory runs out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eo_tasks.btc.checkpoint import Checkpoint, load_checkpoint
from eo_tasks.btc.engine import Engine
from eo_tasks.btc.network.fast import FastNetwork, PlainNetwork
from eo_tasks.btc.resize import enlarged
from tests.networks import ARCHITECTURES, random_network, structured_windows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "golden"
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FORWARD_AND_BACK = np.array([[0, 1], [1, 0]])
THRESHOLD = 0.2
FLIPS = {torch.float16: 0.002, torch.bfloat16: 0.02}  # as on the CPU, tests/unit/btc/test_fast.py


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Let float32 be float32 on the device too."""
    kept = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept


@pytest.fixture
def checkpoint() -> Checkpoint:
    """The tiny network."""
    return load_checkpoint(str(GOLDEN))


@pytest.fixture
def golden() -> dict[str, NDArray]:
    """One pair of years, and the authors' results on it."""
    with np.load(GOLDEN / "golden.npz") as arrays:
        return dict(arrays)


def answers(engine: Engine, windows: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    return engine.fetch(engine.infer(windows, pairs))


@pytest.mark.parametrize("way", [PlainNetwork, FastNetwork])
def test_logits_and_probabilities_are_the_authors(way, checkpoint, golden):
    engine = Engine(way(checkpoint.network).eval(), CUDA, 8)
    windows = np.concatenate([golden["imageA"], golden["imageB"]])
    logits = engine.fetch(engine.logits(windows, FORWARD_AND_BACK))
    assert np.abs(logits[0] - golden["lowres_logits"][0, 0]).max() < 1e-3
    forward, back = engine.fetch(engine.infer(windows, FORWARD_AND_BACK, 256))
    assert np.abs(forward - golden["prob"][0, 0]).max() < 1e-3
    assert np.abs(back - 1 / (1 + np.exp(-golden["logits_swapped"][0, 0]))).max() < 1e-3


@pytest.mark.parametrize("side", [64, 96, 300])
def test_windows_are_enlarged_to_the_same_bits(side):
    windows = torch.from_numpy(structured_windows(2, side))
    assert torch.equal(enlarged(windows.to(CUDA)).cpu(), enlarged(windows))


@pytest.mark.parametrize("dtype", list(FLIPS))
def test_few_pixels_change_sides_in_lower_precision(dtype, checkpoint):
    windows, pairs = structured_windows(8), np.arange(8).reshape(4, 2)
    exact = answers(Engine(FastNetwork(checkpoint.network), CPU, 8), windows, pairs) > THRESHOLD
    lower = answers(Engine(FastNetwork(checkpoint.network, dtype).eval(), CUDA, 8), windows, pairs) > THRESHOLD
    assert 0.1 < exact.mean() < 0.9
    assert (exact != lower).mean() < FLIPS[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_recorded_batches_give_the_same_answers_as_launched_ones(dtype):
    network = FastNetwork(random_network(ARCHITECTURES["window 12"]), dtype).eval()
    launched, replayed = Engine(network, CUDA, 4), Engine(network, CUDA, 4, graphs=True)
    for seed in range(3):  # batches of 4, 4, 1 windows, recorded once and replayed with other contents
        windows, pairs = structured_windows(9, seed=seed), np.array([[0, 1], [8, 2], [3, 3], [5, 4], [6, 7]])
        expected = answers(launched, windows, pairs)
        kept = replayed.infer(windows, pairs)
        replayed.infer(structured_windows(9, seed=99), pairs)  # must not overwrite what was answered before
        assert np.abs(replayed.fetch(kept) - expected).max() < 1e-5


def test_a_batch_that_does_not_fit_is_split_and_the_answers_are_the_same():
    network = FastNetwork(random_network(ARCHITECTURES["window 12"])).eval()
    windows, pairs = structured_windows(48), np.arange(48).reshape(24, 2)
    expected = answers(Engine(network, CUDA, 4), windows, pairs)
    torch.cuda.empty_cache()
    total_bytes = torch.cuda.mem_get_info()[1]
    engine = Engine(network, CUDA, 48)
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 150_000_000) / total_bytes)
    try:
        found = answers(engine, windows, pairs)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert engine.batch_size < 48
    assert np.abs(found - expected).max() < 1e-4
