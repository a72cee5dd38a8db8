"""Whether a checkpoint computes as published."""

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from safetensors import safe_open

from eo_tasks.btc import verify as verifying
from eo_tasks.btc.network.fast import FastNetwork
from eo_tasks.btc.verify import verify, year_windows
from eo_tasks.settings import Precision

CPU = torch.device("cpu")


@cache
def _agreement(checkpoint):
    return verify(checkpoint, CPU, windows=5)


@pytest.fixture
def agreement(checkpoint, one_thread):
    """What is found of the golden network, worked out once."""
    return _agreement(checkpoint)


def test_the_fast_network_is_the_plain_one(agreement):
    assert agreement.is_close
    assert 0 < agreement.largest_difference < 1e-4
    assert agreement.windows == 5


def test_every_tensor_of_the_file_is_accounted_for(agreement, golden_folder):
    with safe_open(golden_folder / "model.safetensors", "pt") as file:
        names = list(file.keys())
    assert agreement.derived == sum(name.endswith("relative_position_index") for name in names) == 8
    assert agreement.used + agreement.derived == len(names)


def test_masks_flip_the_more_the_fewer_digits_a_precision_has(agreement):
    shares = [agreement.flips[one].share for one in (Precision.FLOAT32, Precision.FLOAT16, Precision.BFLOAT16)]
    assert shares[0] < 1e-4
    assert shares == sorted(shares)
    assert shares[2] < 0.1
    assert all(flips.note == "" for flips in agreement.flips.values())


def test_a_wrong_network_is_found_out(monkeypatch, checkpoint):
    decode = FastNetwork.decode
    monkeypatch.setattr(FastNetwork, "decode", lambda self, *years: decode(self, *years) + 0.01)
    found = verify(checkpoint, CPU, windows=1, lower=())
    assert found.largest_difference == pytest.approx(0.01, rel=0.05)
    assert not found.is_close


def test_a_network_that_gives_no_numbers_is_found_out(monkeypatch, checkpoint):
    decode = FastNetwork.decode
    monkeypatch.setattr(FastNetwork, "decode", lambda self, *years: decode(self, *years) * math.nan)
    found = verify(checkpoint, CPU, windows=1, lower=())
    assert not found.is_close
    assert found.flips[Precision.FLOAT32].share == 1


@pytest.mark.parametrize(("largest", "limit"), [(3, 1e-4), (10, 1e-4), (40, 4e-4)])
def test_the_limit_grows_with_logits_beyond_ten(agreement, largest, limit):
    assert replace(agreement, largest_logit=largest).limit == pytest.approx(limit)
    assert replace(agreement, largest_logit=largest, largest_difference=0.99 * limit).is_close
    assert not replace(agreement, largest_logit=largest, largest_difference=1.01 * limit).is_close


def test_a_precision_that_the_device_lacks_is_left_out_with_a_note(monkeypatch, checkpoint):
    make_model = verifying.make_model

    def without_half(checkpoint, device, precision, **how):
        if precision is Precision.FLOAT16:
            raise RuntimeError("\"conv\" not implemented for 'Half'\nmore")
        return make_model(checkpoint, device, precision, **how)

    monkeypatch.setattr(verifying, "make_model", without_half)
    flips = verify(checkpoint, CPU, windows=1).flips
    assert (flips[Precision.FLOAT16].windows, math.isnan(flips[Precision.FLOAT16].share)) == (0, True)
    assert flips[Precision.FLOAT16].note == "this device cannot (\"conv\" not implemented for 'Half')"
    assert flips[Precision.BFLOAT16].windows == 1


def test_memory_that_runs_out_is_no_lack_of_a_precision(monkeypatch, checkpoint):
    make_model = verifying.make_model

    def full(checkpoint, device, precision, **how):
        if precision is Precision.BFLOAT16:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return make_model(checkpoint, device, precision, **how)

    monkeypatch.setattr(verifying, "make_model", full)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        verify(checkpoint, CPU, windows=1)


def test_a_precision_that_is_slow_is_cut_short(monkeypatch, checkpoint):
    monkeypatch.setattr(verifying, "LONGEST_S", -1.0)
    flips = verify(checkpoint, CPU, windows=3, lower=[Precision.BFLOAT16]).flips
    assert (flips[Precision.BFLOAT16].windows, flips[Precision.BFLOAT16].note) == (1, "slow here: 1 of 3 windows")
    assert flips[Precision.FLOAT32].windows == 3


def test_the_checkpoint_is_left_as_it_was(checkpoint):
    before = {name: tensor.clone() for name, tensor in checkpoint.network.state_dict().items()}
    verify(checkpoint, CPU, windows=1)
    after = checkpoint.network.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_windows_are_the_same_every_time_and_not_only_noise():
    made = year_windows(8)
    assert (made.shape, made.dtype) == ((8, 2, 96, 96, 3), np.uint8)
    assert (made == year_windows(8)).all()
    assert (made[:4] == year_windows(4)).all()
    steps = np.abs(np.diff(made[:, 0].astype(int), axis=1)).mean(axis=(1, 2, 3))
    assert (steps[[2, 6]] > 70).all()  # two random levels are 85 apart
    assert (steps[[0, 1, 3, 4, 5, 7]] < 30).all()  # smooth
    changed = (np.abs(made[0, 1].astype(int) - made[0, 0]) > 26).any(axis=2).mean()
    assert 0.05 < changed <= 32**2 / 96**2  # a patch
