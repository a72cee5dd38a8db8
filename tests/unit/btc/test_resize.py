"""Windows enlarged and brought back, against OpenCV and by hand."""

import cv2
import numpy as np
import pytest
import torch

from eo_tasks.btc.resize import cover, enlarged, reduced

SIDES = [32, 33, 48, 63, 64, 85, 96, 100, 127, 128, 129, 171, 192, 200, 224, 255, 256, 257, 300, 383, 384, 500, 512]


def test_golden_windows_are_enlarged_as_the_authors_did(golden):
    for year in "AB":
        found = enlarged(torch.from_numpy(golden[f"image{year}"]))
        assert found.dtype == torch.float32
        assert (found.numpy() == golden[f"resized{year}"]).all()


def test_all_golden_windows_are_enlarged_as_the_authors_did(full_golden):
    for year in "AB":
        found = enlarged(torch.from_numpy(full_golden[f"image{year}"])).numpy()
        assert (found == full_golden[f"resized{year}"]).all()


@pytest.mark.parametrize("side", SIDES)
def test_windows_are_enlarged_to_opencvs_last_bit(side):
    rng = np.random.default_rng(side)
    smooth = np.linspace(0, 255, side)[:, None, None] * np.linspace(0, 1, side)[:, None] * np.array([1, 0.7, 0.3])
    extremes = rng.choice(np.array([0, 255], np.uint8), (side, side, 3))
    windows = np.stack([rng.integers(0, 256, (side, side, 3), np.uint8), smooth.astype(np.uint8), extremes])
    expected = [cv2.resize(window, (256, 256), interpolation=cv2.INTER_LINEAR) for window in windows]
    assert (enlarged(torch.from_numpy(windows)).numpy() == np.stack(expected)).all()


def test_a_window_of_the_networks_size_is_shown_as_it_is():
    window = np.random.default_rng(1).integers(0, 256, (1, 256, 256, 3), np.uint8)
    assert (enlarged(torch.from_numpy(window)).numpy() == window).all()


@pytest.mark.parametrize("side", [side for side in SIDES if side <= 256])
def test_answers_come_back_as_opencv_averages_them_by_area(side):
    answers = np.random.default_rng(side).random((2, 256, 256), np.float32)
    expected = [cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA) for one in answers]
    assert np.abs(reduced(torch.from_numpy(answers), side).numpy() - np.stack(expected)).max() < 2e-6


@pytest.mark.parametrize("side", [300, 512])
def test_answers_are_interpolated_to_larger_windows(side):
    answers = torch.rand(2, 256, 256, generator=torch.Generator().manual_seed(1))
    expected = torch.nn.functional.interpolate(answers[None], (side, side), mode="bilinear", align_corners=False)[0]
    assert (reduced(answers, side) - expected).abs().max() < 1e-6


def test_down_and_across_are_not_mixed_up():
    answers = torch.zeros(1, 256, 256)
    answers[:, :128] = 1
    assert reduced(answers, 2).tolist() == [[[1, 1], [0, 0]]]
    window = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    window[:, :, 32:] = 200
    found = enlarged(window)
    assert (found[:, :, :120] == 0).all()
    assert (found[:, :, -120:] == 200).all()


@pytest.mark.parametrize("target", [1, 3, 6, 96, 100, 255, 256])
def test_each_pixel_is_made_up_of_shares_that_sum_to_one_and_each_source_pixel_is_used_up(target):
    shares = cover(256, target)
    assert shares.shape == (target, 256)
    assert shares.min() >= 0
    assert shares.sum(axis=1) == pytest.approx(1)
    assert shares.sum(axis=0) == pytest.approx(target / 256)


def test_shares_by_hand():
    # Four pixels to three: each covers a pixel and a third.
    expected = [[0.75, 0.25, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0.25, 0.75]]
    assert cover(4, 3) == pytest.approx(np.array(expected))
