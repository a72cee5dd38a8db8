"""Contact sheets of small pictures, and the years written on them."""

import numpy as np
import pytest

from eo_tasks.products.contact_sheet import Change, draw_contact_sheet
from eo_tasks.products.lettering import INK, PAPER, label, written
from eo_tasks.products.quicklook import CHANGE_COLOUR, GAP_PX, UNSEEN_COLOUR

SIZE = 80
LABEL = label("", SIZE).shape[0]


def picture(value: int) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), value, np.uint8)


def change(before: int, after: int, row: int = 5) -> Change:
    classes = np.zeros((SIZE, SIZE), np.uint8)
    classes[row, 5:9] = 1
    return Change(before, after, classes)


def panel(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = row * (LABEL + SIZE + GAP_PX) + LABEL, column * (SIZE + GAP_PX)
    return sheet[top : top + SIZE, left : left + SIZE]


def test_years_stand_in_a_row_and_changes_below_the_later_one():
    sheet = draw_contact_sheet({2023: picture(30), 2021: picture(10), 2022: picture(20)}, [change(2021, 2022)])
    assert sheet.shape == (2 * (LABEL + SIZE) + GAP_PX, 3 * SIZE + 2 * GAP_PX, 3)
    assert [panel(sheet, 0, column)[0, 0, 0] for column in range(3)] == [10, 20, 30]
    assert (panel(sheet, 1, 1)[5, 5:9] == CHANGE_COLOUR).all()
    assert panel(sheet, 1, 1)[0, 0, 0] == 20
    assert (panel(sheet, 1, 0) == PAPER).all()
    assert (panel(sheet, 1, 2) == PAPER).all()


def test_a_single_year_is_one_picture():
    assert draw_contact_sheet({2021: picture(10)}, []).shape == (LABEL + SIZE, SIZE, 3)


def test_a_year_without_a_composite_is_grey():
    sheet = draw_contact_sheet({2022: picture(20)}, [change(2021, 2022)])
    assert (panel(sheet, 0, 0) == UNSEEN_COLOUR).all()


def test_of_two_changes_that_end_in_a_year_the_shorter_is_shown():
    pictures = {year: picture(9) for year in (2021, 2022, 2023)}
    sheet = draw_contact_sheet(pictures, [change(2022, 2023, row=7), change(2021, 2023)])
    assert (panel(sheet, 1, 2)[7, 5] == CHANGE_COLOUR).all()
    assert panel(sheet, 1, 2)[5, 5, 0] == 9


def test_pictures_that_are_given_are_not_drawn_on():
    given = picture(10)
    draw_contact_sheet({2021: given, 2022: given}, [change(2021, 2022)])
    assert (given == 10).all()


def test_a_text_is_as_wide_as_its_signs_and_the_gaps_between():
    assert written("2021").shape == (7, 4 * 5 + 3)
    assert written("").shape == (7, 0)
    assert ["".join("#" if ink else "." for ink in row) for row in written("17")] == [
        "..#...#####",
        ".##.......#",
        "..#......#.",
        "..#.....#..",
        "..#....#...",
        "..#....#...",
        ".###...#...",
    ]


def test_all_digits_differ():
    assert len({written(digit).tobytes() for digit in "0123456789–"}) == 11


@pytest.mark.parametrize("width", [1, 20, 80, 400])
def test_strips_of_one_width_are_as_high_whatever_is_on_them(width):
    assert label("", width).shape == label("2021", width).shape == label("2021–2022", width).shape


def test_a_label_stands_in_the_middle():
    strip = (label("2021", 400) == INK).all(axis=2)
    columns = np.flatnonzero(strip.any(axis=0))
    assert abs((columns[0] + columns[-1]) / 2 - 199.5) <= 2
    assert strip.any()
    assert not label("", 400).min() < PAPER
