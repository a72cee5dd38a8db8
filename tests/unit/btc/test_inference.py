"""From two composites to a change map."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from eo_tasks.btc import inference
from eo_tasks.btc.inference import Inference, choose_device, detect_change, predict
from eo_tasks.errors import RasterError
from eo_tasks.raster import PixelGrid
from eo_tasks.settings import Device

HOW = Inference(dict.fromkeys(("B04", "B03", "B02"), (0.0, 0.3)), window_px=64, stride_px=48)
PIXELS = PixelGrid(32633, (500_000, 5_000_000, 500_800, 5_000_600))  # 80 × 60: two windows


@pytest.fixture
def years(composite):
    """Two years that differ everywhere."""
    rng = np.random.default_rng(7)
    return [composite(rng.integers(1, 3000, (3, *PIXELS.shape)), PIXELS) for _ in range(2)]


def test_a_pixel_is_nan_where_either_year_has_no_data(checkpoint, years):
    before, after = years
    before.dn[1, 5, 6] = 0
    after.dn[0, 50, 70] = 0
    found = detect_change(checkpoint, before, after, HOW)
    expected = np.ones(PIXELS.shape, bool)
    expected[5, 6] = expected[50, 70] = False
    assert (found.seen == expected).all()
    assert (found.pixels, found.threshold) == (PIXELS, HOW.threshold)
    assert ((found.probability[expected] >= 0) & (found.probability[expected] <= 1)).all()


def test_what_one_year_shows_where_the_other_has_no_data_changes_nothing(checkpoint, years):
    before, after = years
    before.dn[:, :20] = 0
    first = detect_change(checkpoint, before, after, HOW)
    after.dn[:, :20] = 2999
    second = detect_change(checkpoint, before, after, HOW)
    assert np.array_equal(first.probability, second.probability, equal_nan=True)


def test_a_pair_without_common_data_has_a_map_of_nan(checkpoint, years):
    before, after = years
    before.dn[:, :30], after.dn[:, 30:] = 0, 0
    assert not detect_change(checkpoint, before, after, HOW).seen.any()


@pytest.mark.parametrize(
    "other",
    [
        PixelGrid(32634, PIXELS.bounds),
        PixelGrid(32633, (500_010, 5_000_000, 500_810, 5_000_600)),
        PixelGrid(32633, (500_000, 5_000_000, 500_810, 5_000_600)),
    ],
    ids=["another CRS", "shifted", "wider"],
)
def test_years_on_different_pixel_grids_are_refused(checkpoint, composite, years, other):
    with pytest.raises(RasterError, match=r"^the two years lie on different pixel grids: EPSG:32633, 80×60 px"):
        detect_change(checkpoint, years[0], composite(1, other), HOW)


def test_swapped_years_differ(checkpoint, years):
    forward = detect_change(checkpoint, years[0], years[1], HOW)
    backward = detect_change(checkpoint, years[1], years[0], HOW)
    assert np.abs(forward.probability - backward.probability).max() > 0.05


def test_the_result_does_not_depend_on_the_batch_size(checkpoint, years):
    narrow = replace(HOW, stride_px=7)  # windows at columns 0, 7, 14 and 16
    one, three, eight = (
        detect_change(checkpoint, *years, replace(narrow, batch_size=size)).probability for size in (1, 3, 8)
    )
    assert np.abs(one - three).max() < 1e-5
    assert np.abs(one - eight).max() < 1e-5


def test_repeating_gives_the_same_bytes(checkpoint, years):
    first, second = (detect_change(checkpoint, *years, HOW).probability for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_an_image_smaller_than_a_window_is_inferred(checkpoint, composite):
    small = detect_change(checkpoint, composite(500), composite(2000), HOW)
    assert small.probability.shape == (4, 6)
    assert small.seen.all()


def test_one_window_is_what_the_authors_make_of_it(checkpoint, golden):
    found = predict(checkpoint, golden["imageA"][0], golden["imageB"][0], replace(HOW, window_px=96))
    assert found.shape == (96, 96)
    # Back to 96 pixels by area: each of them covers (8/3)² of the network's 256.
    network = golden["prob"][0, 0].astype(np.float64)
    cover = (
        np.clip(
            np.minimum(np.arange(256)[None] + 1, (np.arange(96)[:, None] + 1) * 8 / 3)
            - np.maximum(np.arange(256)[None], np.arange(96)[:, None] * 8 / 3),
            0,
            None,
        )
        * 3
        / 8
    )
    assert np.abs(found - cover @ network @ cover.T).max() < 1e-4


def test_each_window_comes_back_to_its_own_place(monkeypatch, checkpoint):
    """With a network that answers with the mean of the earlier window, each part of the image tells its own value."""

    def means(_, before, after):
        return np.stack([np.full((256, 256), window.mean() / 255, np.float32) for window in before])

    monkeypatch.setattr(inference, "predict_windows", means)
    image = np.zeros((64, 128, 3), np.uint8)
    image[:, 64:] = 255
    found = predict(checkpoint, image, image, Inference({}, window_px=64, stride_px=64, batch_size=1))
    assert (found[:, :64] == 0).all()
    assert (found[:, 64:] == 1).all()


def test_a_pixel_on_the_threshold_is_unchanged(monkeypatch, checkpoint, composite):
    monkeypatch.setattr(inference, "predict", lambda *_: np.full((4, 6), 0.25, np.float32))
    on = detect_change(checkpoint, composite(1), composite(1), replace(HOW, threshold=0.25))
    below = detect_change(checkpoint, composite(1), composite(1), replace(HOW, threshold=0.2499))
    assert not on.change.any()
    assert below.change.all()


def test_the_network_sees_the_stretched_bands_in_the_order_red_green_blue(monkeypatch, checkpoint, composite):
    seen = []
    monkeypatch.setattr(
        inference, "predict", lambda _, *images: seen.extend(images[:2]) or np.zeros((4, 6), np.float32)
    )
    how = Inference({"B04": (0.0, 0.3), "B03": (0.0, 0.2), "B02": (0.0, 0.1)})
    detect_change(checkpoint, composite([[[100]], [[400]], [[900]]]), composite(1000), how)
    # B04 0.09 / 0.3 = 30 %, 76.5; B03 0.04 / 0.2 = 20 %, 51; B02 0.01 / 0.1 = 10 %, 25.5
    assert np.abs(seen[0][0, 0] - np.array([76.5, 51, 25.5])).max() <= 0.5
    assert seen[1][0, 0].tolist() == [85, pytest.approx(127.5, abs=0.5), 255]


def test_the_device_is_chosen(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device(Device.AUTO) == choose_device(Device.CUDA) == torch.device("cuda")
    assert choose_device(Device.CPU) == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(Device.AUTO) == torch.device("cpu")
