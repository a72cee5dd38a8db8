"""Cells on a map: each alone while they are few, blocks of them where they are many."""

import numpy as np
import pytest

from eo_tasks.grid import Cell
from eo_tasks.overview.measures import measure_states
from eo_tasks.overview.places import MOST_SHAPES, Places
from eo_tasks.overview.states import States
from eo_tasks.units import Stage

EPSG, SIDE_M = 32633, 1000
LEFT, BOTTOM = 500_000, 5_000_000  # 15° E, the middle of the zone


def country(columns: int, rows: int) -> Places:
    """Cells in rows from the south, the ids in an order of their own."""
    cells = [
        Cell(number, EPSG, (x, y, x + SIDE_M, y + SIDE_M), f"C{number}")
        for number in range(columns * rows)
        for x, y in [(LEFT + number % columns * SIDE_M, BOTTOM + number // columns * SIDE_M)]
    ]
    return Places(cells[::-1], EPSG)


def test_a_cell_has_its_four_corners_in_degrees_and_is_closed() -> None:
    shapes = country(2, 2).shapes()
    assert (shapes.level, shapes.cells) == (0, 4)
    assert [(shape.id, shape.label) for shape in shapes.shapes] == [(str(n), f"C{n}") for n in range(4)]
    ring = shapes.shapes[0].ring
    assert len(ring) == 5
    assert ring[0] == ring[4] == (15.0, pytest.approx(45.153, abs=0.002))
    assert ring[1] == (pytest.approx(15.0127, abs=0.0002), pytest.approx(45.153, abs=0.002))


def test_the_bounds_are_those_of_all_cells() -> None:
    places = country(30, 20)
    rings = np.array([shape.ring for shape in places.shapes().shapes]).reshape(-1, 2)
    assert places.bounds == pytest.approx((*rings.min(axis=0), *rings.max(axis=0)), abs=1e-4)


def test_a_box_holds_the_cells_that_it_touches() -> None:
    places = country(3, 3)
    lon, lat = places.centre(places.cells[4])
    assert [shape.id for shape in places.shapes((lon - 1e-4, lat - 1e-4, lon + 1e-4, lat + 1e-4)).shapes] == ["4"]
    assert places.shapes((0, 0, 1, 1)).shapes == []


def test_many_cells_become_blocks_that_hold_each_of_them_once() -> None:
    places = country(100, 50)  # 5,000
    groups = places.groups()
    assert groups.level == 1
    assert len(groups.ids) == 50 * 25
    assert np.bincount(groups.shape_of).tolist() == [4] * 1250
    shapes = places.shapes()
    assert len(shapes.shapes) == 1250
    lons = [lon for lon, _ in shapes.shapes[0].ring]
    assert max(lons) - min(lons) == pytest.approx(2 * 0.0127, abs=0.0005)


def test_blocks_grow_until_they_are_few_enough() -> None:
    assert country(200, 100).groups().level == 2
    assert len(country(200, 100).groups().ids) <= MOST_SHAPES


def test_a_part_of_many_cells_is_shown_one_by_one() -> None:
    places = country(100, 50)
    lon, lat = places.centre(places.cells[0])
    part = places.shapes((lon - 0.1, lat - 0.1, lon + 0.1, lat + 0.1))
    assert part.level == 0
    assert 0 < len(part.shapes) < 500


def test_a_block_counts_its_cells_by_state() -> None:
    places = country(100, 50)
    states = States(None, places.grid_ids)  # type: ignore[arg-type]  # nothing is read
    measured = measure_states(places, states, Stage.DOWNLOAD, "2023")
    assert measured.level == 1
    assert set(map(str, measured.values.values())) == {"{'-': 4}"}
