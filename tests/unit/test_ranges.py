"""Whole numbers as people write them."""

import pytest

from eo_tasks.ranges import read_ranges, write_ranges


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2021-2023", (2021, 2022, 2023)), ("2021, 2023", (2021, 2023)), ("7 1-3", (7, 1, 2, 3)), ("4-4", (4,))],
)
def test_numbers_and_spans_are_read_in_the_order_given(text, numbers):
    assert read_ranges(text) == numbers


@pytest.mark.parametrize("text", ["", ",", "a", "2021-", "-5", "9-4", "1.5"])
def test_text_without_a_clear_meaning_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        read_ranges(text)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([0], "0"), ([7, 1, 3, 2, 2], "1-3,7"), ([1, 3, 5], "1,3,5"), (range(947), "0-946")],
)
def test_numbers_are_written_compactly(numbers, text):
    assert write_ranges(list(numbers)) == text


def test_what_is_written_is_read_again():
    numbers = [3, 1, 2, 10, 12, 11, 40]
    assert list(read_ranges(write_ranges(numbers))) == sorted(numbers)
