"""Both ways to compute a network: against each other, and against what the authors' code made of the golden images."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from eo_tasks.btc.checkpoint import load_checkpoint
from eo_tasks.btc.engine import answer
from eo_tasks.btc.network.convolution import Winograd
from eo_tasks.btc.network.fast import FastNetwork, PlainNetwork
from eo_tasks.btc.network.published import BtcNetwork
from eo_tasks.btc.resize import enlarged
from tests.networks import structured_windows

TOLERANCE = 1e-4  # logits, either way; measured 2.1e-5 plain, 2.3e-5 fast
WAYS = [PlainNetwork, FastNetwork]
THRESHOLD = 0.2
# Share of a mask's pixels that change sides for the lower precision. Measured on twelve networks: 0.03–0.13 % and
# 0.5–1.5 %; on the golden images alone, which are noise, up to 0.21 % and 2.2 %.
FLIPS = {torch.float16: 0.002, torch.bfloat16: 0.02}


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.inference_mode():
        yield


def quarter_logits(computed, before, after) -> Tensor:
    """Logits of windows of any size, shape (pair, 64, 64)."""
    earlier, later = (enlarged(torch.from_numpy(np.asarray(windows))) for windows in (before, after))
    return computed.decode(computed.encode(earlier), computed.encode(later))


def logits(computed, before, after) -> np.ndarray:
    """Logits in the authors' shape."""
    quarter = quarter_logits(computed, before, after)
    return functional.interpolate(quarter[:, None], size=(256, 256), mode="bilinear", align_corners=False).numpy()


# As the authors compute it


@pytest.mark.parametrize("way", WAYS)
def test_logits_are_the_authors(way, checkpoint, golden):
    computed = way(checkpoint.network)
    assert np.abs(logits(computed, golden["imageA"], golden["imageB"]) - golden["logits"]).max() < TOLERANCE
    quarter = quarter_logits(computed, golden["imageA"], golden["imageB"]).numpy()
    assert np.abs(quarter - golden["lowres_logits"][:, 0]).max() < TOLERANCE


@pytest.mark.parametrize("way", WAYS)
def test_the_order_of_the_years_matters(way, checkpoint, golden):
    swapped = logits(way(checkpoint.network), golden["imageB"], golden["imageA"])
    assert np.abs(swapped - golden["logits_swapped"]).max() < TOLERANCE
    assert np.abs(swapped - golden["logits"]).max() > 1


@pytest.mark.parametrize("way", WAYS)
def test_probabilities_are_the_authors_and_no_mask_pixel_differs(way, checkpoint, golden):
    found = answer(quarter_logits(way(checkpoint.network), golden["imageA"], golden["imageB"]), 256).numpy()
    assert np.abs(found - golden["prob"][:, 0]).max() < 1e-4
    assert ((found > THRESHOLD) == (golden["prob"][:, 0] > THRESHOLD)).all()


@pytest.mark.parametrize("layout", ["nested", "flat", "logger"])
@pytest.mark.parametrize("way", WAYS)
def test_logits_are_the_authors_whatever_the_layout_of_the_configuration(way, layout, tmp_path, golden_folder, golden):
    nested = json.loads((golden_folder / "config.json").read_text())
    assert list(nested) == ["config"]
    written = {"nested": nested, "flat": nested["config"], "logger": {"logger": None}}[layout]
    (tmp_path / "config.json").write_text(json.dumps(written))
    shutil.copyfile(golden_folder / "model.safetensors", tmp_path / "model.safetensors")
    computed = way(load_checkpoint(str(tmp_path)).network)
    assert np.abs(logits(computed, golden["imageA"], golden["imageB"]) - golden["logits"]).max() < TOLERANCE


@pytest.mark.parametrize("way", WAYS)
def test_all_golden_pairs_are_the_authors(way, full_set, full_golden):
    computed = way(load_checkpoint(str(full_set)).network)
    found = logits(computed, full_golden["imageA"], full_golden["imageB"])
    assert found.shape == (3, 1, 256, 256)
    assert np.abs(found - full_golden["logits"]).max() < TOLERANCE
    mask = full_golden["logits"] > 0
    assert ((found > 0) == mask).all()
    assert 0.1 < mask.mean() < 0.9
    quarter = quarter_logits(computed, full_golden["imageA"][:1], full_golden["imageB"][:1])
    assert np.abs(quarter.numpy() - full_golden["lowres_logits_pair0"][:, 0]).max() < TOLERANCE
    swapped = logits(computed, full_golden["imageB"][:1], full_golden["imageA"][:1])
    assert np.abs(swapped - full_golden["logits_swapped_pair0"]).max() < TOLERANCE


def test_levels_are_normalised_as_in_training(golden):
    class Seen(torch.nn.Module):
        architecture = None

        def encode(self, images: Tensor) -> tuple[Tensor]:
            return (images,)

    (normalised,) = PlainNetwork(Seen()).encode(torch.from_numpy(golden["resizedA"]).float())
    assert np.abs(normalised.numpy() - golden["normA"]).max() < 1e-6


# As each other


@pytest.mark.parametrize("count", [1, 3, 5])
def test_both_ways_agree_on_any_network_and_batch(network, count):
    before, after = structured_windows(count, seed=1), structured_windows(count, seed=2)
    plain, fast = (quarter_logits(way(network), before, after) for way in WAYS)
    assert plain.std() > 0.1
    assert (plain - fast).abs().max() < TOLERANCE


@pytest.mark.parametrize("way", WAYS)
def test_a_pairs_logits_do_not_depend_on_its_batch(way, network):
    windows, computed = structured_windows(4), way(network)
    together = quarter_logits(computed, windows[[0, 2, 1]], windows[[3, 0, 2]])
    alone = quarter_logits(computed, windows[[2]], windows[[0]])
    assert (together[1] - alone[0]).abs().max() < TOLERANCE


@pytest.mark.parametrize("way", WAYS)
def test_two_years_without_a_difference_give_one_answer_whatever_they_show(way, network):
    windows, computed = structured_windows(2), way(network)
    first, second = quarter_logits(computed, windows, windows)
    assert (first - second).abs().max() < TOLERANCE  # all features subtract to zero


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_network_that_gave_its_weights_stays_as_it_was(network, dtype):
    windows = structured_windows(2)
    before = quarter_logits(PlainNetwork(network), windows[:1], windows[1:])
    kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    quarter_logits(FastNetwork(network, dtype), windows[:1], windows[1:])
    assert all(torch.equal(tensor, kept[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(quarter_logits(PlainNetwork(network), windows[:1], windows[1:]), before)


# In lower precision


def flipped(network: BtcNetwork, dtype: torch.dtype, pairs, threshold_logit: float | None) -> float:
    """Share of pixels of the windows' masks that change sides; the threshold is moved to a given logit, if any."""
    exact, lower = FastNetwork(network), FastNetwork(network, dtype)
    shares, masks = [], []
    for before, after in pairs:
        logits, rounded = (quarter_logits(computed, before, after) for computed in (exact, lower))
        shift = 0 if threshold_logit is None else logits.median() - threshold_logit
        mask, other = (answer(part - shift, before.shape[1]) > THRESHOLD for part in (logits, rounded))
        shares += (mask != other).float().mean((1, 2)).tolist()
        masks.append(mask.float().mean().item())
    assert 0.1 < np.mean(masks) < 0.9
    return float(np.mean(shares))


@pytest.mark.parametrize("dtype", list(FLIPS))
def test_few_pixels_change_sides_in_lower_precision(dtype, full_set, full_golden):
    network = load_checkpoint(str(full_set)).network
    pairs = [
        (full_golden["imageA"], full_golden["imageB"]),
        (structured_windows(4, seed=1), structured_windows(4, seed=2)),
    ]
    assert 0 < flipped(network, dtype, pairs, None) < FLIPS[dtype]


@pytest.mark.parametrize("dtype", list(FLIPS))
def test_few_pixels_of_any_network_change_sides_in_lower_precision(dtype, network):
    pairs = [(structured_windows(4, seed=1), structured_windows(4, seed=2))]
    median_on_threshold = float(np.log(THRESHOLD / (1 - THRESHOLD)))
    assert 0 < flipped(network, dtype, pairs, median_on_threshold) < FLIPS[dtype]


@pytest.mark.parametrize(("dtype", "has_winograd"), [(torch.float32, True), (torch.float16, False)])
def test_convolutions_are_taken_apart_further_in_float32_only(dtype, has_winograd, checkpoint):
    modules = FastNetwork(checkpoint.network, dtype).modules()
    assert any(isinstance(module, Winograd) for module in modules) == has_winograd


@pytest.mark.parametrize("dtype", list(FLIPS))
def test_in_lower_precision_logits_come_as_float32_and_features_do_not(dtype, network):
    levels = enlarged(torch.from_numpy(structured_windows(2)))
    computed = FastNetwork(network, dtype)
    features = computed.encode(levels)
    assert {feature.dtype for feature in features} == {dtype}
    assert computed.decode(features, features).dtype == torch.float32
