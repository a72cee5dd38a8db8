"""Patches of hand-drawn masks, and of random ones with OpenCV as oracle."""

import cv2
import numpy as np
import pytest

from eo_tasks.products.patches import number_patches


def drawn(*rows: str) -> np.ndarray:
    return np.array([[sign == "#" for sign in row] for row in rows])


def test_patches_are_numbered_in_the_order_of_their_first_pixels():
    numbers, number = number_patches(drawn("..#.#", "#.#..", "#...#"))
    assert numbers.tolist() == [[0, 0, 1, 0, 2], [3, 0, 1, 0, 0], [3, 0, 0, 0, 4]]
    assert number == 4


def test_arms_that_meet_below_are_one_patch_and_corners_do_not_join():
    numbers, number = number_patches(drawn("#.#.#", "#.###", "##...", ".#..#", "..#.#"))
    assert numbers.tolist() == [[1, 0, 2, 0, 2], [1, 0, 2, 2, 2], [1, 1, 0, 0, 0], [0, 1, 0, 0, 3], [0, 0, 4, 0, 3]]
    assert number == 4


@pytest.mark.parametrize("mask", [np.zeros((3, 4), bool), np.zeros((0, 4), bool), np.zeros((3, 0), bool)])
def test_an_empty_mask_has_no_patches(mask):
    numbers, number = number_patches(mask)
    assert (numbers.shape, number) == (mask.shape, 0)
    assert not numbers.any()


def test_the_mask_given_stays_as_it_is():
    mask = drawn("##.", "#.#")
    number_patches(mask)
    assert mask.tolist() == drawn("##.", "#.#").tolist()


def test_a_spiral_is_one_patch():
    spiral = np.zeros((41, 41), bool)
    for ring in range(0, 20, 2):
        spiral[ring : 41 - ring, [ring, 40 - ring]] = spiral[[ring, 40 - ring], ring : 41 - ring] = True
        spiral[ring + 1, ring] = ring == 0 or spiral[ring + 1, ring]
    for ring in range(0, 18, 2):
        spiral[20, ring + 1] = True  # a bridge from each ring to the next
    assert number_patches(spiral)[1] == cv2.connectedComponents(spiral.astype(np.uint8), connectivity=4)[0] - 1 == 1


@pytest.mark.parametrize("seed", range(30))
def test_patches_are_those_of_opencv(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 80, 2)) < rng.random()
    numbers, number = number_patches(mask)
    others, expected = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    assert number == others - 1
    same = {*zip(numbers.ravel().tolist(), expected.ravel().tolist(), strict=True)}
    assert len(same) == len({ours for ours, _ in same}) == len({theirs for _, theirs in same})
