"""The process graph of a composite: what an openEO backend is asked to compute."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eo_tasks.grid import PIXEL_M
from eo_tasks.raster import CLEAR_COUNT

if TYPE_CHECKING:
    from eo_tasks.sources.request import CompositeRequest

SCL = "SCL"
NO_DATA_SCL = 0  # Sentinel-2 L2A Algorithm Theoretical Basis Document
LAST_SCL = 11  # higher values are no classes
Node = dict[str, Any]


def composite_graph(request: "CompositeRequest", collection: str) -> dict[str, Node]:
    """Median of the clear observations and, as one more band, their count, on the cell's pixel grid.

    The count is the least over the bands: a pixel counts where all of them have data. It comes with the same request,
    because a second one would cost as much again.

    Args:
        request: What to make.
        collection: Id of a Sentinel-2 L2A collection at the backend.

    Returns:
        A flat process graph, https://api.openeo.org/v/1.2.0/; bands as requested, then ``clear_count``.
    """
    return {
        "classes": _load(request, collection, [SCL]),
        "bands": _load(request, collection, list(request.bands)),
        "unclear": _node("reduce_dimension", data=_of("classes"), dimension="bands", reducer=_is_unclear(request)),
        "clear": _node("mask", data=_of("bands"), mask=_of("unclear")),
        "median": _node("reduce_dimension", data=_of("clear"), dimension="t", reducer=_reducer("median")),
        "counts": _node("reduce_dimension", data=_of("clear"), dimension="t", reducer=_reducer("count")),
        "count": _node("reduce_dimension", data=_of("counts"), dimension="bands", reducer=_reducer("min")),
        "named": _node("add_dimension", data=_of("count"), name="bands", label=CLEAR_COUNT, type="bands"),
        "both": _node("merge_cubes", cube1=_of("median"), cube2=_of("named")),
        "grid": _node(
            "resample_spatial", data=_of("both"), resolution=PIXEL_M, projection=request.pixels.epsg, method="near"
        ),
        "file": {**_node("save_result", data=_of("grid"), format="GTiff"), "result": True},
    }


def _load(request: "CompositeRequest", collection: str, bands: Sequence[str]) -> Node:
    west, south, east, north = request.pixels.bounds
    load = _node(
        "load_collection",
        id=collection,
        spatial_extent={"west": west, "south": south, "east": east, "north": north, "crs": request.pixels.epsg},
        temporal_extent=[request.start.isoformat(), request.end.isoformat()],  # the end is exclusive
        bands=bands,
    )
    if request.max_cloud_cover is not None:
        limit = _node("lte", x={"from_parameter": "value"}, y=request.max_cloud_cover) | {"result": True}
        load["arguments"]["properties"] = {"eo:cloud_cover": {"process_graph": {"limit": limit}}}
    return load


def _is_unclear(request: "CompositeRequest") -> Node:
    """A reducer over the one band SCL: masked classes, no data, and values that are no class."""
    steps: dict[str, Node] = {"scl": _node("array_element", data={"from_parameter": "data"}, index=0)}
    for value in sorted({NO_DATA_SCL, *request.masked_scl}):
        steps[f"is_{value}"] = _node("eq", x=_of("scl"), y=value)
    steps["is_no_class"] = _node("gt", x=_of("scl"), y=LAST_SCL)
    first, *others = [name for name in steps if name.startswith("is_")]
    so_far = first
    for name in others:
        steps[f"or_{name}"] = _node("or", x=_of(so_far), y=_of(name))
        so_far = f"or_{name}"
    steps[so_far]["result"] = True
    return {"process_graph": steps}


def _reducer(process: str) -> Node:
    return {"process_graph": {process: _node(process, data={"from_parameter": "data"}) | {"result": True}}}


def _node(process: str, **arguments: Any) -> Node:
    return {"process_id": process, "arguments": arguments}


def _of(node: str) -> Node:
    return {"from_node": node}
