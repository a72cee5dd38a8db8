"""Pictures for people."""

import cv2
import numpy as np
import pytest
import rasterio

from eo_tasks.products.quicklook import (
    CHANGE_COLOUR,
    GAP_COLOUR,
    UNSEEN_COLOUR,
    made_of,
    outlined,
    sheet,
    smaller,
    smaller_classes,
    write_picture,
)


def test_change_is_outlined_and_its_inside_left_as_it_is():
    picture = np.full((7, 7, 3), 10, np.uint8)
    classes = np.zeros((7, 7), np.uint8)
    classes[1:6, 1:6] = 1
    drawn = outlined(picture, classes)
    is_line = (drawn == CHANGE_COLOUR).all(axis=2)
    expected = classes.astype(bool)
    expected[2:5, 2:5] = False
    assert np.array_equal(is_line, expected)
    assert (drawn[~is_line] == 10).all()


def test_change_at_the_edge_of_the_picture_is_closed():
    classes = np.ones((3, 3), np.uint8)
    is_line = (outlined(np.zeros((3, 3, 3), np.uint8), classes) == CHANGE_COLOUR).all(axis=2)
    assert is_line.sum() == 8
    assert not is_line[1, 1]


def test_unseen_pixels_are_grey_and_the_given_picture_is_not_drawn_on():
    picture = np.zeros((2, 2, 3), np.uint8)
    drawn = outlined(picture, np.array([[255, 0], [0, 0]], np.uint8))
    assert tuple(drawn[0, 0]) == UNSEEN_COLOUR
    assert not picture.any()


def test_pictures_stand_in_rows_with_gaps_between():
    tiles = [[np.full((2, 3, 3), 10 * row + column, np.uint8) for column in range(2)] for row in range(3)]
    joined = sheet(tiles)
    assert joined.shape == (3 * 2 + 2 * 4, 2 * 3 + 4, 3)
    assert joined[0, 0, 0] == 0
    assert joined[-1, -1, 0] == 21
    assert joined[2, 0, 0] == joined[0, 3, 0] == GAP_COLOUR


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_picture_reads_back_as_it_was_drawn(tmp_path):
    picture = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    write_picture(tmp_path / "picture.png", picture)
    with rasterio.open(tmp_path / "picture.png") as source:
        assert np.array_equal(source.read().transpose(1, 2, 0), picture)


def test_a_smaller_picture_has_the_means_of_blocks_and_loses_what_is_left_over():
    picture = np.zeros((5, 4, 3), np.uint8)
    picture[:2, :2] = [[[0], [10]], [[20], [31]]]
    made = smaller(picture, 3)  # blocks of two
    assert made.shape == (2, 2, 3)
    assert made[0, 0].tolist() == [15, 15, 15]


def test_a_picture_that_is_small_enough_stays():
    picture = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    assert np.array_equal(smaller(picture, 5), picture)
    assert smaller(np.zeros((1, 9, 3), np.uint8), 3).shape == (1, 9, 3)  # no block is higher than the picture


def test_a_block_is_changed_where_one_pixel_is_else_unseen_where_one_is_not_seen():
    classes = np.array([[0, 0, 255, 0, 255, 1], [0, 0, 0, 0, 0, 0]], np.uint8)
    assert smaller_classes(classes, 3).tolist() == [[0, 255, 1]]


def test_a_picture_tells_what_it_was_made_of_and_others_do_not(tmp_path):
    picture = np.zeros((2, 2, 3), np.uint8)
    write_picture(tmp_path / "a.png", picture, made_of="0123abc")
    write_picture(tmp_path / "b.png", picture)
    (tmp_path / "c.png").write_bytes(b"short")
    assert [made_of(tmp_path / f"{name}.png") for name in "abcd"] == ["0123abc", None, None, None]


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_picture_that_tells_what_it_was_made_of_is_a_whole_png(tmp_path):
    picture = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
    write_picture(tmp_path / "picture.png", picture, made_of="0123abc")
    assert np.array_equal(cv2.imread(str(tmp_path / "picture.png"))[:, :, ::-1], picture)
    with rasterio.open(tmp_path / "picture.png") as source:
        assert np.array_equal(source.read().transpose(1, 2, 0), picture)
