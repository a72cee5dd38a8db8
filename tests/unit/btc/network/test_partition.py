"""Who attends to whom, against the published windows and masks."""

import pytest
import torch
from transformers import SwinConfig
from transformers.models.swin.modeling_swin import SwinLayer, SwinRelativePositionBias, window_partition

from eo_tasks.btc.network.partition import Span, groups, relative_index, spans

MAPS = [
    (side, window, shift) for side in (64, 32, 16, 8) for window in (12, 7, 8) for shift in sorted({0, window // 2})
]


def published_attention(side: int, window: int, shift: int) -> set[tuple]:
    """For each token: its place in its window, the tokens and the filled-up places that it sees."""
    config = SwinConfig(window_size=window)
    layer = SwinLayer(config, dim=4, input_resolution=(side, side), num_heads=1, shift_size=shift)
    numbers = torch.arange(1, side**2 + 1.0).view(1, side, side, 1)  # 0 is left for what is filled up
    padded, _ = layer.maybe_pad(numbers, side, side)
    windows = window_partition(layer.cyclic_shift(padded), window).flatten(1).long()
    mask = layer.get_attn_mask(*padded.shape[1:3], dtype=padded.dtype, device=padded.device)
    found = set()
    for number, tokens in enumerate(windows.tolist()):
        for place, token in enumerate(tokens):
            if token == 0:
                continue
            keys = range(window**2) if mask is None else (mask[number, place] == 0).nonzero().flatten().tolist()
            seen = frozenset(tokens[key] - 1 for key in keys if tokens[key])
            found.add((token - 1, place, seen, frozenset(key for key in keys if not tokens[key])))
    return found


@pytest.mark.parametrize(("side", "window", "shift"), MAPS)
def test_tokens_attend_to_those_that_the_published_mask_leaves_them(side, window, shift):
    found = set()
    for group in groups(side, window, shift):
        for segment in group.tokens:
            seen, filled = frozenset(segment), frozenset(group.filled)
            found |= {(token, place, seen, filled) for place, token in zip(group.real, segment, strict=True)}
    assert found == published_attention(side, window, shift)


@pytest.mark.parametrize(("side", "window", "shift"), MAPS)
def test_every_token_lies_in_one_segment(side, window, shift):
    tokens = [token for group in groups(side, window, shift) for segment in group.tokens for token in segment]
    assert sorted(tokens) == list(range(side**2))


@pytest.mark.parametrize(("side", "window", "shift"), MAPS)
def test_segments_of_one_shape_stand_in_one_group(side, window, shift):
    shapes = [(group.real, group.filled) for group in groups(side, window, shift)]
    assert len(set(shapes)) == len(shapes)


def test_an_axis_that_fits_is_cut_into_windows():
    assert list(spans(6, 3, 0)) == [Span((0, 1, 2), (), 0), Span((0, 1, 2), (), 3)]


def test_an_axis_that_does_not_fit_is_filled_up():
    assert list(spans(4, 3, 0)) == [Span((0, 1, 2), (), 0), Span((0,), (1, 2), 3)]


def test_a_rolled_axis_falls_apart_where_its_ends_meet():
    # Rolled by 1, positions 0–5 hold coordinates 1, 2, 3 | 4, 5, 0: the last window is two segments.
    assert list(spans(6, 3, 1)) == [Span((0, 1, 2), (), 1), Span((0, 1), (), 4), Span((2,), (), 0)]


def test_filled_up_tokens_are_seen_only_from_their_own_side_of_the_roll():
    # Eight tokens in one window of 12, rolled by 6: coordinates 6, 7 and four filled up | 0–5.
    assert list(spans(8, 12, 6)) == [Span((0, 1), (2, 3, 4, 5), 6), Span((6, 7, 8, 9, 10, 11), (), 0)]


def test_a_segment_of_filled_up_tokens_alone_is_left_out():
    # Eight tokens filled up to 14, rolled by 3. The second window holds coordinates 10–13, all filled up, and 0–2.
    assert list(spans(8, 7, 3)) == [Span((0, 1, 2, 3, 4), (5, 6), 3), Span((4, 5, 6), (), 0)]


@pytest.mark.parametrize("window", [2, 7, 12])
def test_a_pair_of_places_has_the_published_row_of_the_bias_table(window):
    published = SwinRelativePositionBias(1, (window, window)).relative_position_index.view(window**2, window**2)
    places = range(window**2)
    assert [[relative_index(window, query, key) for key in places] for query in places] == published.tolist()
