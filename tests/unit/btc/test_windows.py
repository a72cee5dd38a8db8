"""Windows cover an image and blend back without seams."""

import numpy as np
import pytest

from eo_tasks.btc.windows import Blend, batches, blend_weight, padded, window_origins


@pytest.mark.parametrize(
    ("length", "starts"),
    [
        (96, [0]),
        (50, [0]),
        (97, [0, 1]),
        (160, [0, 64]),
        (161, [0, 64, 65]),
        (501, [0, 64, 128, 192, 256, 320, 384, 405]),
    ],
)
def test_windows_stand_a_stride_apart_and_the_last_ends_at_the_edge(length, starts):
    assert window_origins((length, 96), 96, 64) == [(start, 0) for start in starts]
    assert window_origins((96, length), 96, 64) == [(0, start) for start in starts]


@pytest.mark.parametrize("shape", [(96, 96), (97, 200), (501, 501), (300, 40), (10, 10)])
@pytest.mark.parametrize(("window_px", "stride_px"), [(96, 64), (96, 96), (64, 50), (32, 7)])
def test_every_pixel_lies_in_a_window_and_no_window_leaves_the_image(shape, window_px, stride_px):
    seen = np.zeros(shape, int)
    for row, column in window_origins(shape, window_px, stride_px):
        assert row + window_px <= max(shape[0], window_px)
        assert column + window_px <= max(shape[1], window_px)
        seen[row : row + window_px, column : column + window_px] += 1
    assert seen.min() >= 1


def test_a_small_image_is_filled_up_with_zeros_to_one_window():
    image = np.full((2, 5, 3), 7, np.uint8)
    filled = padded(image, 4)
    assert filled.shape == (4, 5, 3)
    assert (filled[:2] == 7).all()
    assert (filled[2:] == 0).all()


def test_a_large_image_is_not_copied():
    image = np.zeros((4, 9, 3), np.uint8)
    assert padded(image, 4) is image


def test_weights_fall_towards_the_border_alike_on_all_sides_and_never_vanish():
    weight = blend_weight(96)
    assert weight.shape == (96, 96)
    assert weight.min() > 0
    assert weight.max() == weight[47, 47] == pytest.approx(1, abs=1e-3)
    assert np.allclose(weight, weight[::-1], rtol=1e-4)
    assert np.allclose(weight, weight.T)
    assert (np.diff(weight[48, :48]) >= 0).all()
    assert weight[48, 0] < 0.01 * weight[48, 48]


@pytest.mark.parametrize("shape", [(96, 96), (161, 250), (40, 300), (10, 10)])
def test_blending_a_constant_gives_the_constant(shape):
    blend = Blend(shape, 96)
    for origin in window_origins(shape, 96, 64):
        blend.add(origin, np.full((96, 96), 0.37, np.float32))
    assert blend.result().shape == shape
    assert np.allclose(blend.result(), 0.37, atol=1e-6)


def test_where_one_window_lies_alone_its_values_stand_unchanged():
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    blend = Blend((4, 4), 4)
    blend.add((0, 0), values)
    assert np.allclose(blend.result(), values)


def test_the_nearer_windows_value_weighs_more():
    # Two windows of 4 px over 4 × 6 pixels, 2 px apart; weights across are sin² of 22.5°, 67.5°, 67.5°, 22.5°:
    # 0.1464, 0.8536, 0.8536, 0.1464. Column 2 has 0.8536 of the first and 0.1464 of the second.
    blend = Blend((4, 6), 4)
    blend.add((0, 0), np.zeros((4, 4), np.float32))
    blend.add((0, 2), np.ones((4, 4), np.float32))
    assert blend.result()[1].tolist() == pytest.approx([0, 0, 0.1464466, 0.8535534, 1, 1], abs=1e-6)


def test_what_lies_outside_the_image_is_left_out():
    values = np.full((4, 4), 9, np.float32)
    values[:2, :3] = 1
    blend = Blend((2, 3), 4)
    blend.add((0, 0), values)
    assert np.allclose(blend.result(), np.ones((2, 3)))


def test_batches_hold_every_origin_once_in_order():
    origins = [(0, column) for column in range(7)]
    assert [len(batch) for batch in batches(origins, 3)] == [3, 3, 1]
    assert [origin for batch in batches(origins, 3) for origin in batch] == origins
    assert list(batches([], 3)) == []
