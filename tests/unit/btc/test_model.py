"""A checkpoint made ready: on which device, in what precision, in how large batches; and comparing images with it."""

import numpy as np
import pytest
import torch

from eo_tasks.btc.detect import Tiling
from eo_tasks.btc.engine import PROCESS_BYTES
from eo_tasks.btc.model import (
    Model,
    choose_device,
    choose_precision,
    compare,
    compare_all,
    make_model,
    open_model,
    weight_bytes,
)
from eo_tasks.btc.network.fast import FastNetwork, PlainNetwork
from eo_tasks.btc.resize import cover
from eo_tasks.errors import CheckpointError, RasterError, SettingsError
from eo_tasks.files import sha256
from eo_tasks.settings import Device, Precision
from tests.networks import structured_windows

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def model(golden_folder) -> Model:
    """The tiny network, ready on the CPU."""
    return open_model(str(golden_folder), device=Device.CPU)


@pytest.fixture
def has_cuda(monkeypatch):
    """Say whether torch sees a CUDA device."""
    return lambda answer: monkeypatch.setattr(torch.cuda, "is_available", lambda: answer)


# Made ready


def test_the_device_is_chosen(has_cuda):
    has_cuda(True)
    assert choose_device(Device.AUTO) == choose_device(Device.CUDA) == CUDA
    assert choose_device(Device.CPU) == CPU
    has_cuda(False)
    assert choose_device(Device.AUTO) == choose_device(Device.CPU) == CPU


def test_cuda_that_is_asked_for_and_not_there_is_told(has_cuda):
    has_cuda(False)
    with pytest.raises(SettingsError, match=r"^BTC_DEVICE=cuda: torch sees no CUDA device here\."):
        choose_device(Device.CUDA)


@pytest.mark.parametrize(
    ("asked", "device", "chosen"),
    [
        (Precision.AUTO, CPU, Precision.FLOAT32),
        (Precision.AUTO, CUDA, Precision.FLOAT16),
        (Precision.FLOAT32, CUDA, Precision.FLOAT32),
        (Precision.BFLOAT16, CPU, Precision.BFLOAT16),
    ],
)
def test_the_precision_is_chosen_where_it_is_left_open(asked, device, chosen):
    assert choose_precision(asked, device) is chosen


def test_a_model_says_what_its_answers_come_from(golden_folder, model):
    weights = sha256(golden_folder / "model.safetensors")
    assert (model.name, model.revision, model.weights_sha256) == (str(golden_folder), "local", weights)
    assert model.precision is Precision.FLOAT32
    assert model.engine.device == CPU
    assert model.facts == {
        "checkpoint": str(golden_folder), "revision": "local", "weights_sha256": weights, "precision": "float32",
    }  # fmt: skip


def test_a_model_is_fast_in_the_precision_asked_for(golden_folder):
    made = open_model(str(golden_folder), device=Device.CPU, precision=Precision.BFLOAT16)
    assert isinstance(made.engine.network, FastNetwork)
    assert made.engine.network.decoder.fusion.bias.dtype == torch.bfloat16
    assert made.precision is Precision.BFLOAT16
    assert not any(parameter.requires_grad for parameter in made.engine.network.parameters())


def test_a_plain_model_is_computed_as_published_in_float32(golden_folder):
    made = open_model(str(golden_folder), device=Device.CPU, precision=Precision.FLOAT16, is_plain=True)
    assert isinstance(made.engine.network, PlainNetwork)
    assert made.precision is Precision.FLOAT32


def test_a_checkpoint_that_is_not_there_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        open_model(str(tmp_path / "none"), device=Device.CPU)


@pytest.mark.parametrize(("device", "batch_size", "expected"), [(CPU, None, 8), (CPU, 20, 20), (CPU, 1, 1)])
def test_a_batch_is_as_large_as_asked_for_or_as_the_device_gains_from(checkpoint, device, batch_size, expected):
    assert make_model(checkpoint, device, Precision.FLOAT32, batch_size).engine.batch_size == expected


def test_weights_are_counted_in_bytes(checkpoint):
    module = torch.nn.BatchNorm2d(10)  # four of ten float32, one int64
    assert weight_bytes(module) == 4 * 10 * 4 + 8
    fast, half = (FastNetwork(checkpoint.network, dtype) for dtype in (torch.float32, torch.float16))
    assert weight_bytes(half) < 0.6 * weight_bytes(fast)


def test_a_batch_is_smaller_where_memory_is_short(checkpoint):
    # A window of the tiny network: 4 bytes × 64² × (14 × 16 + 16 × 8) = 5.8 MB.
    window_bytes, weights = 4 * 4096 * (14 * 16 + 16 * 8), weight_bytes(FastNetwork(checkpoint.network))

    def batch_size(limit_bytes: float, batch_size: int | None = None) -> int:
        made = make_model(checkpoint, CPU, Precision.FLOAT32, batch_size, memory_limit_gb=limit_bytes / 1e9)
        return made.engine.batch_size

    room = PROCESS_BYTES + weights
    assert batch_size(room + 3.5 * window_bytes) == 3
    assert batch_size(room + 3.5 * window_bytes, batch_size=20) == 3
    assert batch_size(room + 3.5 * window_bytes, batch_size=2) == 2
    assert batch_size(room + 100 * window_bytes) == 8
    assert batch_size(weights + 1e6) == 1


def test_a_network_that_the_memory_does_not_hold_is_refused(checkpoint):
    with pytest.raises(SettingsError, match=r"^MEMORY_LIMIT_GB=0\.001: .*golden alone takes 0\.0 GB\.$"):
        make_model(checkpoint, CPU, Precision.FLOAT32, memory_limit_gb=0.001)


# Comparing images


def test_one_window_is_what_the_authors_make_of_it(model, golden):
    found = compare(model, golden["imageA"][0], golden["imageB"][0])
    assert found.shape == (96, 96)
    assert found.dtype == np.float32
    # Back to 96 pixels by area: each of them covers (8/3)² of the network's 256.
    shares = cover(256, 96)
    assert np.abs(found - shares @ golden["prob"][0, 0].astype(np.float64) @ shares.T).max() < 1e-4


@pytest.mark.parametrize(("precision", "bound"), [(Precision.FLOAT16, 0.003), (Precision.BFLOAT16, 0.02)])
def test_lower_precision_comes_near_to_it(golden_folder, model, golden, precision, bound):
    lower = open_model(str(golden_folder), device=Device.CPU, precision=precision)
    exact, near = (compare(one, golden["imageA"][0], golden["imageB"][0]) for one in (model, lower))
    assert near.dtype == np.float32
    assert 0 < np.abs(exact - near).mean() < bound  # measured 0.0008 and 0.0105


def test_fast_and_plain_give_the_same_picture(golden_folder, model):
    before, after = structured_windows(2, 150)
    plain = open_model(str(golden_folder), device=Device.CPU, is_plain=True)
    fast, published = (compare(one, before, after, Tiling(96, 40)) for one in (model, plain))
    assert fast.shape == (150, 150)
    assert np.abs(fast - published).max() < 1e-5


def test_swapped_years_differ(model, golden):
    before, after = golden["imageA"][0], golden["imageB"][0]
    assert np.abs(compare(model, before, after) - compare(model, after, before)).max() > 0.05


def test_an_image_smaller_than_a_window_is_compared(model):
    before, after = structured_windows(2, 40)
    found = compare(model, before[:4, :6], after[:4, :6])
    assert found.shape == (4, 6)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_result_does_not_depend_on_the_batch_size(checkpoint, model, batch_size):
    before, after = structured_windows(2, 80)
    tiling = Tiling(64, 7)  # windows at 0, 7, 14 and 16
    other = make_model(checkpoint, CPU, Precision.FLOAT32, batch_size)
    assert np.abs(compare(model, before, after, tiling) - compare(other, before, after, tiling)).max() < 1e-5


def test_many_pairs_of_any_size_are_compared_in_order_and_share_batches(checkpoint):
    model = make_model(checkpoint, CPU, Precision.FLOAT32, 8)
    windows = structured_windows(6, 100)
    pairs = [(windows[0], windows[1]), (windows[2][:50, :70], windows[3][:50, :70]), (windows[4], windows[5])]
    tiling = Tiling(64, 48)
    alone = [compare(model, *pair, tiling) for pair in pairs]
    assert [one.shape for one in alone] == [(100, 100), (50, 70), (100, 100)]
    sizes = []
    encode = model.engine._encode
    model.engine._encode = lambda levels: sizes.append(len(levels)) or encode(levels)
    together = list(compare_all(model, pairs, tiling))
    assert sizes == [8, 8, 4]  # 4 + 2 + 4 windows of two years each
    for one, other in zip(alone, together, strict=True):
        assert np.abs(one - other).max() < 1e-5


def test_pairs_are_taken_when_there_is_room_for_them(model):
    taken = []

    def pairs():
        for number in range(200):
            taken.append(number)
            yield np.zeros((96, 96, 3), np.uint8), np.zeros((96, 96, 3), np.uint8)

    found = compare_all(model, pairs())
    assert next(found).shape == (96, 96)
    assert len(taken) <= 6 * 4  # five packs of four pairs, and one more being looked at
    found.close()


def test_images_of_two_sizes_are_refused(model):
    before, after = np.zeros((40, 50, 3), np.uint8), np.zeros((50, 40, 3), np.uint8)
    with pytest.raises(RasterError, match=r"^the two images differ in size: \(40, 50\) and \(50, 40\) pixels\.$"):
        compare(model, before, after)


def test_no_pairs_give_nothing(model):
    assert list(compare_all(model, [])) == []
