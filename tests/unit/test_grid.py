"""Grid files: what is taken, what is refused and how, selections, and making one."""

import json
import sqlite3
from pathlib import Path

import geopandas
import pytest
from pyproj import Transformer
from shapely.geometry import MultiPolygon, Point, Polygon, box, mapping

from eo_tasks.errors import GridError
from eo_tasks.grid import Cell, Grid, GridYear, YearPair
from eo_tasks.grid_file import make_grid, read_grid
from eo_tasks.units import Unit

EAST, NORTH = 500_000, 5_000_000
SLOVENIA = Path(__file__).resolve().parents[3] / "shared" / "data" / "slovenia_grid_expanded.gpkg"
TO_DEGREES = Transformer.from_crs(32633, 4326, always_xy=True).transform

pytestmark = pytest.mark.filterwarnings("ignore:'crs' was not provided:UserWarning")  # pyogrio, of files made so


def square(column: float, row: float, size: float = 100):
    west, south = EAST + 100 * column, NORTH + 100 * row
    return box(west, south, west + size, south + size)


TWO = (square(0, 0), square(1, 0))


@pytest.fixture
def write(tmp_path):
    """Write a vector file."""

    def write(shapes, name="grid.gpkg", crs=32633, layer=None, **columns) -> Path:
        path = tmp_path / name
        geopandas.GeoDataFrame(columns, geometry=list(shapes), crs=crs).to_file(path, layer=layer)
        return path

    return write


@pytest.fixture
def grid(write) -> Grid:
    """Two cells side by side."""
    return read_grid(write(TWO))


def projected(shape, source: int, target: int):
    return geopandas.GeoSeries([shape], crs=source).to_crs(target).iloc[0]


def refusal(function, *args) -> str:
    with pytest.raises(GridError) as caught:
        function(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Reading


def test_a_cells_id_is_its_row_number(grid):
    assert grid.epsg == 32633
    assert grid.cells == (
        Cell(0, 32633, (EAST, NORTH, EAST + 100, NORTH + 100), None),
        Cell(1, 32633, (EAST + 100, NORTH, EAST + 200, NORTH + 100), None),
    )


def test_an_integer_column_gives_the_ids(write):
    assert [cell.grid_id for cell in read_grid(write(TWO, grid_id=[30, 12])).cells] == [30, 12]


def test_a_text_column_gives_labels_and_rows_give_the_ids(write):
    cells = read_grid(write(TWO, grid_id=["SI_7", None])).cells
    assert [(cell.grid_id, cell.label) for cell in cells] == [(0, "SI_7"), (1, None)]


def test_text_that_reads_like_another_rows_number_is_refused(write):
    path = write(TWO, grid_id=["1", "2"])
    assert refusal(read_grid, path) == f"{path}: grid_id 1 is a number but no integer; make the column's type integer."


def test_a_column_of_fractional_numbers_is_refused(write):
    assert "grid_id 3.0 is a number but no integer" in refusal(read_grid, write(TWO, grid_id=[3.0, 4.0]))


def test_a_layer_is_chosen_by_name_and_the_first_with_polygons_otherwise(write):
    write([Point(EAST, NORTH)], layer="centres")
    write(TWO, layer="cells")
    path = write([square(5, 5)], layer="sample")
    assert len(read_grid(path).cells) == 2
    assert len(read_grid(path, "sample").cells) == 1


def test_neighbours_may_share_their_border_and_a_rounding_error(write):
    assert len(read_grid(write([square(0, 0), square(0.9995, 0)])).cells) == 2


def test_a_missing_file_is_told(tmp_path):
    assert refusal(read_grid, tmp_path / "none.gpkg") == f"{tmp_path / 'none.gpkg'}: no such file."


@pytest.mark.parametrize("name", ["grid.gpkg", "grid.geojson", "grid.txt"])
def test_a_file_that_is_no_vector_file_is_told(tmp_path, name):
    (tmp_path / name).write_bytes(b"no vectors" * 100)
    assert refusal(read_grid, tmp_path / name).startswith(f"{tmp_path / name}: not a vector file that GDAL can read (")


def test_a_truncated_file_is_told(tmp_path):
    (tmp_path / "grid.geojson").write_text('{"type": "FeatureCollection", "features": [{"type"')
    assert "not a vector file that GDAL can read" in refusal(read_grid, tmp_path / "grid.geojson")


def test_a_missing_layer_is_told_with_those_that_are_there(write):
    write(TWO, layer="cells")
    path = write([square(5, 5)], layer="sample")
    assert refusal(read_grid, path, "tiles") == f"{path}: no layer 'tiles'; it has cells, sample."


def test_a_file_without_polygons_is_told(write, tmp_path):
    path = write([Point(EAST, NORTH)], "points.gpkg")
    assert refusal(read_grid, path) == f"{path}: no layer has polygons; it has points."
    with sqlite3.connect(tmp_path / "table.sqlite") as database:
        database.execute("CREATE TABLE cells (grid_id INTEGER)")
    database.close()
    assert refusal(read_grid, tmp_path / "table.sqlite").endswith("no layer has polygons; it has cells.")


def test_a_layer_without_rows_is_told(tmp_path):
    path = tmp_path / "grid.gpkg"
    geopandas.GeoDataFrame({"a": []}, geometry=[], crs=32633).to_file(path, geometry_type="Polygon")
    assert refusal(read_grid, path) == f"{path}: layer 'grid' has no polygons."


def test_a_file_without_crs_is_told(write):
    path = write(TWO, crs=None)
    assert refusal(read_grid, path).startswith(f"{path}: has no CRS. Write it into the file, for instance with ogr2ogr")


def test_a_grid_in_degrees_is_told_with_the_utm_zone_to_take(write):
    path = write([box(14.0, 46.0, 14.1, 46.1)], crs=4326)
    assert refusal(read_grid, path) == (
        f"{path}: EPSG:4326 is in degrees, but cells are measured in metres. "
        "Reproject the file first, for instance to EPSG:32633."
    )


def test_a_grid_in_feet_is_refused(write):
    assert "but cells are measured in metres" in refusal(read_grid, write(TWO, crs=2263))


def test_a_crs_without_epsg_code_is_told(write):
    custom = "+proj=laea +lat_0=46 +lon_0=14 +x_0=0 +y_0=0 +datum=WGS84 +units=m"
    path = write(TWO, crs=custom)
    assert refusal(read_grid, path) == f"{path}: its CRS has no EPSG code. Reproject it to one, such as a UTM zone's."


def test_overlapping_cells_are_told_by_their_ids(write):
    path = write([square(9, 9), square(0, 0), square(0.5, 0)], grid_id=[8, 30, 12])
    assert refusal(read_grid, path) == (
        f"{path}: cells 30 and 12 overlap (1 such pairs); a place may belong to one cell only."
    )


def test_a_cell_inside_another_overlaps_it(write):
    assert "cells 0 and 1 overlap" in refusal(read_grid, write([square(0, 0), square(0.2, 0.2, size=20)]))


@pytest.mark.parametrize(
    "shape",
    [
        None,
        Polygon(),
        Polygon([(0, 0), (5, 5), (9, 9)]),
        Polygon([(0, 0), (10, 10), (10, -1), (0, 20)]),
    ],
    ids=["null", "empty", "a line", "crossing itself"],
)
def test_a_cell_without_a_valid_area_is_told_by_its_id(write, shape):
    path = write([square(0, 0), shape], grid_id=[3, 44])
    assert refusal(read_grid, path).startswith(f"{path}: cells 44 are empty or not valid polygons (1 in all)")


@pytest.mark.parametrize(("ids", "repeated"), [([3, 3], "3"), (["a", "a"], "a")])
def test_a_repeated_id_is_told(write, ids, repeated):
    path = write(TWO, grid_id=ids)
    assert refusal(read_grid, path) == f"{path}: grid_id {repeated} stands on more than one cell; make them unique."


def test_a_negative_id_is_told(write):
    path = write(TWO, grid_id=[3, -1])
    assert refusal(read_grid, path) == f"{path}: grid_id -1 is negative; ids count from 0."


# Selecting


def test_a_cell_is_found_by_id_or_label(write):
    grid = read_grid(write(TWO, grid_id=["SI_7", "SI_8"]))
    assert grid.cell(1) is grid.cell("1") is grid.cell(" SI_8 ") is grid.cells[1]


def test_a_missing_cell_is_told_with_an_example(grid, write):
    assert refusal(grid.cell, 7) == (
        f"Cell 7: {grid.path} has no such cell. It has 2 cells, with ids from 0 to 1; give one as 0."
    )
    labelled = read_grid(write(TWO, "labelled.gpkg", grid_id=["SI_7", "SI_8"]))
    assert refusal(labelled.cell, "SI_9").endswith("give one as 0 or SI_7.")


def test_a_selection_keeps_its_order_and_takes_each_cell_once(grid):
    assert [cell.grid_id for cell in grid.select([1, "0", "1"])] == [1, 0]
    assert grid.select(None) is grid.cells
    assert grid.select([]) == ()


def test_a_box_takes_the_cells_that_it_touches(grid):
    inside_second = (EAST + 150, NORTH + 10, EAST + 160, NORTH + 20)
    across = (EAST + 50, NORTH + 10, EAST + 160, NORTH + 20)
    assert [cell.grid_id for cell in grid.within(inside_second)] == [1]
    assert [cell.grid_id for cell in grid.within(across)] == [0, 1]


def test_a_box_in_degrees_is_taken_with_its_crs(grid):
    west, south = TO_DEGREES(EAST + 120, NORTH + 20)
    east, north = TO_DEGREES(EAST + 180, NORTH + 80)
    assert [cell.grid_id for cell in grid.within((west, south, east, north), 4326)] == [1]


def test_a_box_in_degrees_without_its_crs_is_told(grid):
    assert refusal(grid.within, (14.0, 46.0, 15.0, 47.0)) == (
        "Bounding box (14.0, 46.0, 15.0, 47.0) looks like degrees, but the grid is in EPSG:32633, in metres. "
        "If it is in longitude and latitude, say so with --bbox-epsg 4326."
    )


@pytest.mark.parametrize("bounds", [(5, 5, 1, 9), (1, 9, 5, 5), (1, 1, 1, 5), (float("nan"), 0, 1, 1)])
def test_a_box_without_area_is_told(grid, bounds):
    assert refusal(grid.within, bounds) == (
        f"Bounding box {bounds}: give xmin,ymin,xmax,ymax with xmin < xmax and ymin < ymax."
    )


@pytest.mark.parametrize(
    ("bounds", "epsg"), [((0, 0, 1000, 1000), None), ((0, 10, 1, 11), 4326), ((0, 100, 9, 200), 4326)]
)
def test_a_box_elsewhere_is_told(grid, bounds, epsg):
    assert refusal(grid.within, bounds, epsg) == (
        f"Bounding box {bounds} touches no cell of {grid.path}; check its place and its CRS."
    )


def test_a_box_of_an_unknown_crs_is_told(grid):
    assert "EPSG:999999 is no coordinate reference system" in refusal(grid.within, (14, 46, 15, 47), 999999)


def test_a_polygon_in_another_crs_takes_the_cells_that_it_touches(grid, write):
    inside_second = projected(box(EAST + 120, NORTH + 20, EAST + 180, NORTH + 80), 32633, 4326)
    area = write([inside_second], "area.geojson", crs=4326)
    assert [cell.grid_id for cell in grid.inside(area)] == [1]


def test_a_polygon_elsewhere_is_told(grid, write):
    area = write([box(0, 0, 1, 1)], "area.geojson", crs=4326)
    assert refusal(grid.inside, area) == f"{area} touches no cell of {grid.path}; check its place and its CRS."


def test_a_polygon_file_is_checked_as_a_grid_file_is(grid, write, tmp_path):
    assert refusal(grid.inside, tmp_path / "none.gpkg") == f"{tmp_path / 'none.gpkg'}: no such file."
    assert "has no CRS" in refusal(grid.inside, write(TWO, "area.gpkg", crs=None))
    (tmp_path / "area.txt").write_text("somewhere")
    assert "not a vector file that GDAL can read" in refusal(grid.inside, tmp_path / "area.txt")


# Making


def test_cells_lie_on_the_10_m_grid_row_by_row_from_the_north_west(write, tmp_path):
    border = write([box(EAST + 5, NORTH + 5, EAST + 155, NORTH + 155)], "border.gpkg")
    made = make_grid(border, 100, tmp_path / "out" / "made.gpkg", 32633)
    west_south = [(cell.bounds[0] - EAST, cell.bounds[1] - NORTH) for cell in made.cells]
    assert west_south == [(0, 100), (100, 100), (0, 0), (100, 0)]
    assert [cell.grid_id for cell in made.cells] == [0, 1, 2, 3]
    assert all(value % 10 == 0 for cell in made.cells for value in cell.bounds)
    assert read_grid(tmp_path / "out" / "made.gpkg").cells == made.cells


def test_cells_cover_the_border_and_none_lies_outside(write, tmp_path):
    triangle = Polygon([(EAST + 3, NORTH + 3), (EAST + 997, NORTH + 3), (EAST + 3, NORTH + 997)])
    made = make_grid(write([triangle], "border.gpkg"), 100, tmp_path / "made.gpkg", 32633)
    squares = geopandas.GeoSeries([box(*cell.bounds) for cell in made.cells])
    assert squares.union_all().covers(triangle)
    assert squares.intersects(triangle).all()
    assert len(made.cells) == 10 + 10 + 9 + 8 + 7 + 6 + 5 + 4 + 3 + 2  # the diagonal cuts a cell more in each row


def test_a_border_in_degrees_gets_its_utm_zone(write, tmp_path):
    made = make_grid(write([box(14.5, 46.0, 14.52, 46.01)], "border.geojson", crs=4326), 500, tmp_path / "made.gpkg")
    assert made.epsg == 32633
    area = projected(box(14.5, 46.0, 14.52, 46.01), 4326, 32633)
    assert geopandas.GeoSeries([box(*cell.bounds) for cell in made.cells]).union_all().covers(area)


def test_a_border_of_polygons_and_multipolygons_is_taken(tmp_path):
    shapes = (box(14.5, 46.0, 14.52, 46.01), MultiPolygon([box(14.6, 46.0, 14.62, 46.01)]))
    features = [{"type": "Feature", "properties": {}, "geometry": mapping(shape)} for shape in shapes]
    (tmp_path / "border.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert len(make_grid(tmp_path / "border.geojson", 5000, tmp_path / "made.gpkg").cells) >= 2


def test_making_a_grid_again_replaces_it_and_leaves_nothing_beside_it(write, tmp_path):
    border = write([square(0, 0)], "border.gpkg")
    folder = tmp_path / "made"
    make_grid(border, 50, folder / "made.gpkg", 32633)
    assert len(make_grid(border, 100, folder / "made.gpkg", 32633).cells) == len(read_grid(folder / "made.gpkg").cells)
    assert [path.name for path in folder.iterdir()] == ["made.gpkg"]


@pytest.mark.parametrize("size_m", [15, 5, 0, -10, 101])
def test_a_size_that_is_no_multiple_of_10_m_is_told(write, tmp_path, size_m):
    border = write([square(0, 0)], "border.gpkg")
    assert refusal(make_grid, border, size_m, tmp_path / "made.gpkg") == (
        f"Cell size {size_m} m: give a multiple of 10 m, such as 5000."
    )
    assert not (tmp_path / "made.gpkg").exists()


def test_a_target_crs_in_degrees_or_unknown_is_told(write, tmp_path):
    border = write([square(0, 0)], "border.gpkg")
    assert refusal(make_grid, border, 100, tmp_path / "made.gpkg", 4326).startswith("EPSG:4326 is not in metres; ")
    assert "cannot be projected to EPSG:999999 (" in refusal(make_grid, border, 100, tmp_path / "made.gpkg", 999999)


def test_a_border_is_checked_as_a_grid_file_is(write, tmp_path):
    made = tmp_path / "made.gpkg"
    assert refusal(make_grid, tmp_path / "none", 100, made) == f"{tmp_path / 'none'}: no such file."
    assert "has no CRS" in refusal(make_grid, write(TWO, "border.gpkg", crs=None), 100, made)
    assert "no layer has polygons" in refusal(make_grid, write([Point(1, 1)], "points.gpkg"), 100, made)


# The published grid


@pytest.mark.skipif(not SLOVENIA.exists(), reason="the Slovenian grid is not beside this repository")
def test_the_slovenian_grid_has_947_labelled_cells_of_5_km():
    grid = read_grid(SLOVENIA)
    assert (len(grid.cells), grid.epsg) == (947, 32633)
    cell = grid.cell("SI_000463")
    assert cell is grid.cell(463)
    assert (cell.grid_id, cell.label) == (463, "SI_000463")
    assert cell.bounds == pytest.approx((449272.211671, 5107988.213220, 454272.211671, 5112988.213220), abs=1e-5)
    assert len(read_grid(SLOVENIA, "sample_5x5").cells) == 25


# Names


def test_grid_years_and_pairs_name_their_units():
    assert GridYear(463, 2023).download == Unit.parse("download_463_2023")
    assert GridYear(463, 2023).download_id == "download_463_2023"
    assert GridYear(463, 2023).store.id == "store_463_2023"
    assert YearPair(463, 2022, 2023).btc.id == "btc_463_2022_2023"
    assert YearPair(463, 2022, 2023).grid_years == (GridYear(463, 2022), GridYear(463, 2023))
    assert str(GridYear(463, 2023)) == "Cell 463, 2023"
    assert str(YearPair(463, 2022, 2023)) == "Cell 463, 2022–2023"
