"""The process graph: what a backend is asked to compute."""

import re
from dataclasses import replace

from eo_tasks.sources.openeo.graph import composite_graph
from tests.openeo_backend.stub import EPSG, REQUEST


def test_the_graph_asks_for_the_season_on_the_snapped_grid_of_the_cell():
    load = composite_graph(REQUEST, "SENTINEL2_L2A")["bands"]["arguments"]
    assert load["spatial_extent"] == {
        "west": 500_000, "south": 5_149_980, "east": 500_030, "north": 5_150_000, "crs": EPSG
    }  # fmt: skip
    assert load["temporal_extent"] == ["2023-04-01", "2023-10-01"]
    assert load["bands"] == ["B02", "B03", "B04"]
    assert "properties" not in load


def test_the_season_of_a_december_ends_with_the_year():
    december = replace(REQUEST, months=(11, 12))
    assert composite_graph(december, "S2")["classes"]["arguments"]["temporal_extent"] == ["2023-11-01", "2024-01-01"]


def test_the_graph_masks_the_classes_no_data_and_what_is_no_class():
    steps = composite_graph(REQUEST, "S2")["unclear"]["arguments"]["reducer"]["process_graph"]
    assert [step["arguments"]["y"] for step in steps.values() if step["process_id"] == "eq"] == [0, 3, 8, 9, 10, 11]
    assert steps["is_no_class"]["arguments"] == {"x": {"from_node": "scl"}, "y": 11}
    joined = [step for step in steps.values() if step["process_id"] == "or"]
    assert len(joined) == 6
    assert [name for name, step in steps.items() if step.get("result")] == ["or_is_no_class"]


def test_every_node_of_the_graph_is_used_and_one_is_the_result():
    graph = composite_graph(REQUEST, "S2")
    used = set(re.findall(r"'from_node': '(\w+)'", str(graph)))
    assert set(graph) - used == {"file"}
    assert graph["file"]["arguments"] == {"data": {"from_node": "grid"}, "format": "GTiff"}
    assert graph["grid"]["arguments"]["projection"] == EPSG


def test_a_limit_of_cloud_cover_is_asked_of_both_loads():
    graph = composite_graph(replace(REQUEST, max_cloud_cover=30), "S2")
    for load in ("classes", "bands"):
        limit = graph[load]["arguments"]["properties"]["eo:cloud_cover"]["process_graph"]["limit"]
        assert (limit["process_id"], limit["arguments"]["y"]) == ("lte", 30)
