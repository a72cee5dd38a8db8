"""Which cells are asked for together, and how they come apart."""

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eo_tasks.blocks import Blocks, block_of, split_in_four, union
from eo_tasks.errors import GridError
from eo_tasks.grid import Cell
from eo_tasks.grid_file import read_grid
from eo_tasks.raster import PixelGrid

SLOVENIA = Path(__file__).resolve().parents[3] / "shared" / "data" / "slovenia_grid_expanded.gpkg"
EAST, NORTH = 369_272.21167128545, 5_027_988.213220115  # of the Slovenian grid, on no multiple of 10 m
SIDE = 5_000


def square(grid_id: int, column: float, row: float, side: float = SIDE) -> Cell:
    west, south = EAST + column * SIDE, NORTH + row * SIDE
    return Cell(grid_id, 32633, (west, south, west + side, south + side))


def regular(columns: int, rows: int) -> tuple[Cell, ...]:
    return tuple(square(row * columns + column, column, row) for row in range(rows) for column in range(columns))


def test_a_cell_lies_in_the_block_of_its_centre():
    assert block_of(square(1, 0, 0), (EAST, NORTH), 20_000) == (0, 0)
    assert block_of(square(1, 3, 4), (EAST, NORTH), 20_000) == (0, 1)
    assert block_of(square(1, 3.6, 3.4), (EAST, NORTH), 20_000) == (1, 0)
    assert block_of(square(1, -1, 9), (EAST, NORTH), 20_000) == (-1, 2)


@pytest.mark.parametrize("error_m", [-1e-3, -1e-9, 0, 1e-9, 1e-3])
def test_a_centre_on_an_edge_by_rounding_lies_in_the_upper_right_block(error_m):
    xmin, ymin, xmax, ymax = square(1, 3.5, 7.5).bounds
    moved = Cell(1, 32633, (xmin + error_m, ymin - error_m, xmax + error_m, ymax - error_m))
    assert block_of(moved, (EAST, NORTH), 20_000) == (1, 2)


def test_regular_cells_fill_blocks_evenly():
    blocks = Blocks.of(regular(8, 12), 20)
    assert blocks.origin == (EAST, NORTH)
    assert blocks.names == ("0-0", "1-0", "0-1", "1-1", "0-2", "1-2")
    assert [len(blocks.cells(name)) for name in blocks.names] == [16] * 6
    assert [cell.grid_id for cell in blocks.cells("1-0")][:5] == [4, 5, 6, 7, 12]


def test_every_cell_is_in_the_block_of_its_name_and_in_no_other():
    cells = regular(7, 5)
    blocks = Blocks.of(cells, 12.5)  # not a multiple of the cells' side
    assert all(cell in blocks.cells(blocks.name(cell)) for cell in cells)
    assert Counter(cell for name in blocks.names for cell in blocks.cells(name)) == Counter(cells)


def test_names_do_not_depend_on_the_order_of_the_cells():
    cells = list(regular(8, 8))
    named = Blocks.of(cells, 20)
    np.random.default_rng(1).shuffle(cells)
    shuffled = Blocks.of(cells, 20)
    assert [named.name(cell) for cell in cells] == [shuffled.name(cell) for cell in cells]
    assert set(named.names) == set(shuffled.names)


@pytest.mark.parametrize("block_km", [1, 4.999, 5])
def test_blocks_not_larger_than_a_cell_leave_every_cell_alone(block_km):
    cells = regular(4, 3)
    blocks = Blocks.of(cells, block_km)
    assert blocks.names == tuple(f"cell-{n}" for n in range(12))
    assert [blocks.cells(f"cell-{n}") for n in range(12)] == [(cell,) for cell in cells]


def test_a_cell_larger_than_the_block_is_alone_among_smaller_ones():
    large = square(99, 4, 0, side=30_000)
    blocks = Blocks.of((*regular(4, 4), large), 20)
    assert blocks.cells("cell-99") == (large,)
    assert blocks.names == ("0-0", "cell-99")


def test_cells_of_one_block_are_never_far_apart():
    rng = np.random.default_rng(7)
    places = zip(*rng.uniform(0, 60, (2, 2_000)).tolist(), rng.uniform(100, 30_000, 2_000).tolist(), strict=True)
    cells = [square(n, *place) for n, place in enumerate(places)]
    blocks = Blocks.of(cells, 20)
    for name in blocks.names:
        pixels = union(blocks.cells(name))
        assert len(blocks.cells(name)) == 1 or max(pixels.width, pixels.height) * 10 <= 2 * 20_000 + 20


def test_an_unknown_block_is_told():
    with pytest.raises(GridError, match=r"^Block 9-9: the grid has no such block of 20 km\. It has 1, such as 0-0"):
        Blocks.of(regular(4, 4), 20).cells("9-9")


def test_a_grid_without_cells_is_told():
    with pytest.raises(GridError, match="no cell to put into blocks"):
        Blocks.of((), 20)


def test_a_large_grid_is_put_into_blocks_once_and_looked_up_at_once():
    cells = regular(500, 400)
    began = time.perf_counter()
    blocks = Blocks.of(cells, 20)
    assert time.perf_counter() - began < 10  # 0.5 s on one core; the margin is for busy machines
    assert len(blocks.names) == 125 * 100
    began = time.perf_counter()
    for cell in cells[:1000]:
        blocks.cells(blocks.name(cell))
    assert time.perf_counter() - began < 1


def test_the_union_holds_the_pixels_of_every_cell_and_no_more():
    cells = (square(1, 0, 0), square(2, 3, 1))
    assert union(cells) == PixelGrid(32633, (369_270, 5_027_980, 389_280, 5_037_990))
    assert union(cells[:1]) == PixelGrid.of(cells[0])


def test_a_union_over_several_crss_is_refused():
    with pytest.raises(GridError, match="one CRS; here: EPSG:32633, EPSG:32634"):
        union((square(1, 0, 0), replace(square(2, 1, 0), epsg=32634)))
    with pytest.raises(GridError, match="one CRS; here: none"):
        union(())


def test_a_block_comes_apart_into_its_four_quarters():
    parts = split_in_four(regular(4, 4))
    assert [[cell.grid_id for cell in part] for part in parts] == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
    ]


def test_empty_quarters_are_left_out():
    assert split_in_four((square(1, 0, 0), square(2, 3, 3))) == [(square(1, 0, 0),), (square(2, 3, 3),)]
    assert len(split_in_four(regular(2, 1))) == 2
    assert split_in_four(regular(1, 1)) == [regular(1, 1)]


def test_cells_in_one_place_come_apart_in_halves():
    same = tuple(square(n, 0, 0) for n in range(5))
    assert [[cell.grid_id for cell in part] for part in split_in_four(same)] == [[0, 1], [2, 3, 4]]


@pytest.mark.parametrize("seed", range(20))
def test_splitting_again_and_again_ends_with_single_cells(seed):
    rng = np.random.default_rng(seed)
    places = zip(*rng.integers(4, size=(2, 20)).tolist(), rng.choice([10, SIDE, 40_000], 20).tolist(), strict=True)
    cells = [square(n, *place) for n, place in enumerate(places)]
    waiting, single, splits = [tuple(cells)], [], 0
    while waiting:
        part = waiting.pop()
        if len(part) == 1:
            single += part
            continue
        splits += 1
        parts = split_in_four(part)
        assert len(parts) >= 2
        assert all(parts)
        waiting += parts
    assert splits < len(cells)
    assert Counter(single) == Counter(cells)


@pytest.mark.skipif(not SLOVENIA.exists(), reason="the Slovenian grid is not shipped")
@pytest.mark.parametrize(("block_km", "count"), [(5, 947), (10, 263), (20, 76), (40, 24), (100, 6)])
@pytest.mark.filterwarnings("ignore:'crs' was not provided:UserWarning")
def test_the_slovenian_grid_has_this_many_blocks(block_km, count):
    cells = read_grid(SLOVENIA).cells
    blocks = Blocks.of(cells, block_km)
    assert len(blocks.names) == count
    assert sum(len(blocks.cells(name)) for name in blocks.names) == len(cells) == 947
