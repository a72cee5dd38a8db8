"""Windows cover an image and blend back without seams, a strip of rows at a time."""

import numpy as np
import pytest

from eo_tasks.btc.windows import Blend, blend_weight, window_starts


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
    assert window_starts(length, 96, 64) == starts


@pytest.mark.parametrize("length", [1, 10, 31, 32, 33, 96, 97, 300, 501])
@pytest.mark.parametrize(("window_px", "stride_px"), [(96, 64), (96, 96), (64, 50), (32, 7), (32, 1)])
def test_every_pixel_lies_in_a_window_and_no_window_leaves_the_image(length, window_px, stride_px):
    seen = np.zeros(length, int)
    for start in window_starts(length, window_px, stride_px):
        assert start + window_px <= max(length, window_px)
        seen[start : start + window_px] += 1
    assert seen.min() >= 1


def test_weights_fall_towards_the_border_alike_on_all_sides_and_never_vanish():
    weight = blend_weight(96)
    assert weight.shape == (96, 96)
    assert weight.min() > 0
    assert weight.max() == weight[47, 47] == pytest.approx(1, abs=1e-3)
    assert np.allclose(weight, weight[::-1], rtol=1e-4)
    assert np.allclose(weight, weight.T)
    assert (np.diff(weight[48, :48]) >= 0).all()
    assert weight[48, 0] < 0.01 * weight[48, 48]


def blended(shape, window_px, stride_px, values) -> np.ndarray:
    """What comes of the windows' values, row of windows by row of windows; ``values`` gives them by their place."""
    blend, strips = Blend(shape[1], window_px), []
    rows = window_starts(shape[0], window_px, stride_px)
    for row, following in zip(rows, [*rows[1:], shape[0]], strict=True):
        for column in window_starts(shape[1], window_px, stride_px):
            blend.add(column, values(row, column))
        strips.append(blend.take(following))
        assert strips[-1].shape == (following - row, shape[1])
    return np.concatenate(strips)


@pytest.mark.parametrize("shape", [(96, 96), (161, 250), (40, 300), (300, 40), (10, 10), (97, 200)])
def test_blending_a_constant_gives_the_constant(shape):
    found = blended(shape, 96, 64, lambda *_: np.full((96, 96), 0.37, np.float32))
    assert found.shape == shape
    assert found.dtype == np.float32
    assert np.allclose(found, 0.37, atol=1e-6)


@pytest.mark.parametrize("shape", [(32, 32), (77, 131), (20, 90), (90, 20), (33, 64)])
@pytest.mark.parametrize("stride_px", [5, 16, 24, 32])
def test_rows_are_the_weighted_mean_of_all_windows_over_them(shape, stride_px):
    rng, given = np.random.default_rng(1), {}

    def values(row, column):
        return given.setdefault((row, column), rng.random((32, 32), np.float32))

    found = blended(shape, 32, stride_px, values)
    weight = blend_weight(32).astype(np.float64)
    total, share = np.zeros((2, max(shape[0], 32), max(shape[1], 32)))
    for (row, column), window in given.items():
        place = np.s_[row : row + 32, column : column + 32]
        total[place] += weight * window
        share[place] += weight
    expected = (total / share)[: shape[0], : shape[1]]
    assert len(given) == len(window_starts(shape[0], 32, stride_px)) * len(window_starts(shape[1], 32, stride_px))
    assert np.abs(found - expected).max() < 1e-6


def test_where_one_window_lies_alone_its_values_stand_unchanged():
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    blend = Blend(4, 4)
    blend.add(0, values)
    assert np.allclose(blend.take(4), values)


def test_the_nearer_windows_value_weighs_more():
    # Two windows of 4 px over 6 columns, 2 px apart; weights across are sin² of 22.5°, 67.5°, 67.5°, 22.5°:
    # 0.1464, 0.8536, 0.8536, 0.1464. Column 2 has 0.8536 of the first and 0.1464 of the second.
    blend = Blend(6, 4)
    blend.add(0, np.zeros((4, 4), np.float32))
    blend.add(2, np.ones((4, 4), np.float32))
    assert blend.take(4)[1].tolist() == pytest.approx([0, 0, 0.1464466, 0.8535534, 1, 1], abs=1e-6)


def test_the_nearer_row_of_windows_weighs_more():
    blend = Blend(4, 4)
    blend.add(0, np.zeros((4, 4), np.float32))
    upper = blend.take(2)
    blend.add(0, np.ones((4, 4), np.float32))
    assert upper[:, 1].tolist() == [0, 0]
    assert blend.take(6)[:, 1].tolist() == pytest.approx([0.1464466, 0.8535534, 1, 1], abs=1e-6)


def test_rows_may_be_taken_in_parts():
    values = np.random.default_rng(1).random((4, 4), np.float32)
    parts, whole = Blend(4, 4), Blend(4, 4)
    for blend in (parts, whole):
        blend.add(0, values)
    assert np.array_equal(np.concatenate([parts.take(1), parts.take(3), parts.take(4)]), whole.take(4))


def test_a_pixel_is_nan_where_no_window_lay():
    blend = Blend(7, 4)
    blend.add(3, np.ones((4, 4), np.float32))
    first = blend.take(3)
    assert np.isnan(first[:, :3]).all()
    assert (first[:, 3:] == 1).all()
    second = blend.take(6)  # nothing was added over the last two rows
    assert np.isnan(second[1:]).all()
    assert (second[0, 3:] == 1).all()


def test_what_lies_outside_the_image_is_left_out():
    values = np.full((4, 4), 9, np.float32)
    values[:2, :3] = 1
    blend = Blend(3, 4)
    blend.add(0, values)
    assert np.allclose(blend.take(2), np.ones((2, 3)))
