"""Polygon files, read back with geopandas and pyogrio."""

import json

import geopandas
import pyarrow.parquet
import pyogrio
import pytest
from shapely import box

from eo_tasks.grid import YearPair
from eo_tasks.products import polygon_files
from eo_tasks.products.polygon_files import PolygonFiles, PolygonWriter
from eo_tasks.products.polygons import ChangePolygon

PAIR = YearPair(463, 2022, 2023)
COLUMNS = ["grid_id", "year_before", "year_after", "area_ha", "mean_probability", "model", "threshold", "geometry"]


def square(x: int, probability: float = 0.5) -> ChangePolygon:
    return ChangePolygon(box(500_000 + x, 5_000_000, 500_010 + x, 5_000_010), 0.01, probability)


def written(folder, *masks) -> PolygonFiles:
    files = PolygonFiles.named(folder, "changes")
    with PolygonWriter(files, 32633, "What changed", {"min_change_ha": 0.5}) as writer:
        for pair, polygons in masks:
            writer.add(pair, "BTC-B@main", 0.2, polygons)
    return files


def both(files: PolygonFiles) -> list[geopandas.GeoDataFrame]:
    return [geopandas.read_file(files.geopackage), geopandas.read_parquet(files.geoparquet)]


def test_both_files_hold_the_same_polygons_in_the_same_order(tmp_path):
    files = written(tmp_path, (PAIR, [square(0, 0.25), square(20)]), (YearPair(7, 2021, 2023), [square(50)]))
    for frame in both(files):
        assert list(frame.columns) == COLUMNS
        assert frame.crs.to_epsg() == 32633
        rows = frame.drop(columns="geometry").to_numpy().tolist()
        assert rows == [
            [463, 2022, 2023, 0.01, 0.25, "BTC-B@main", 0.2],
            [463, 2022, 2023, 0.01, 0.5, "BTC-B@main", 0.2],
            [7, 2021, 2023, 0.01, 0.5, "BTC-B@main", 0.2],
        ]
        assert [shape.equals(square(x).geometry) for shape, x in zip(frame.geometry, (0, 20, 50), strict=True)]


def test_batches_make_the_same_files_as_one_and_row_groups_of_their_size(tmp_path, monkeypatch):
    masks = [(YearPair(n, 2022, 2023), [square(20 * k) for k in range(n)]) for n in range(5)]
    for folder in ("whole", "parts"):
        (tmp_path / folder).mkdir()
    whole = written(tmp_path / "whole", *masks)
    monkeypatch.setattr(polygon_files, "BATCH", 3)
    parts = written(tmp_path / "parts", *masks)
    for one, other in zip(both(whole), both(parts), strict=True):
        assert one.equals(other)
    assert pyarrow.parquet.ParquetFile(parts.geoparquet).num_row_groups == 4  # ten polygons
    assert pyogrio.read_info(parts.geopackage)["features"] == 10


def test_files_without_polygons_have_their_columns_and_crs(tmp_path):
    for frame in both(written(tmp_path, (PAIR, []))):
        assert (list(frame.columns), len(frame), frame.crs.to_epsg()) == (COLUMNS, 0, 32633)


def test_the_files_say_what_they_are(tmp_path):
    files = written(tmp_path, (PAIR, [square(0), square(20)]))
    metadata = pyarrow.parquet.ParquetFile(files.geoparquet).metadata.metadata
    geo = json.loads(metadata[b"geo"])
    assert (geo["version"], geo["primary_column"]) == ("1.1.0", "geometry")
    assert geo["columns"]["geometry"]["bbox"] == [500_000, 5_000_000, 500_030, 5_000_010]
    assert geo["columns"]["geometry"]["geometry_types"] == ["Polygon"]
    assert json.loads(metadata[b"eo_tasks"]) == {"min_change_ha": 0.5}
    info = pyogrio.read_info(files.geopackage, layer="changes")
    assert info["layer_metadata"]["DESCRIPTION"] == "What changed"
    assert info["geometry_type"] == "Polygon"


def test_what_is_counted_is_what_is_written(tmp_path):
    with PolygonWriter(PolygonFiles.named(tmp_path, "changes"), 32633, "", {}) as writer:
        writer.add(PAIR, "m", 0.2, [square(0), square(20)])
    assert (writer.number, writer.area_ha) == (2, pytest.approx(0.02))


def test_an_error_in_the_block_is_not_hidden(tmp_path):
    def fail() -> None:
        with PolygonWriter(PolygonFiles.named(tmp_path, "changes"), 32633, "", {}) as writer:
            writer.add(PAIR, "m", 0.2, [square(0)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_files_that_are_there_are_replaced(tmp_path):
    written(tmp_path, (PAIR, [square(0), square(20)]))
    assert [len(frame) for frame in both(written(tmp_path, (PAIR, [square(0)])))] == [1, 1]
