"""A QGIS project: layers in groups, with their styles and relative paths."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree as Xml

from pyproj import CRS

from eo_tasks.grid import Bounds
from eo_tasks.products.qgis.styles import VERSION, as_text


@dataclass(frozen=True)
class Layer:
    """A layer of a project.

    Attributes:
        name: What people call it; unique in the project.
        source: Its file relative to the project's, as QGIS writes it.
        provider: ``gdal`` or ``ogr``.
        style: How it is shown.
        is_shown: Whether it is switched on at first.
    """

    name: str
    source: str
    provider: str
    style: Xml.Element = field(repr=False)
    is_shown: bool = False

    @property
    def id(self) -> str:
        """Its name as QGIS takes ids; one of ten characters or fewer is replaced when it is read."""
        return "eo_tasks_layer_" + "".join(sign if sign.isalnum() else "_" for sign in self.name)


@dataclass(frozen=True)
class Group:
    """Layers under one heading, the topmost first."""

    name: str
    layers: Sequence[Layer]


def project(title: str, epsg: int, bounds: Bounds, groups: Sequence[Group]) -> str:
    """The text of a project file.

    Args:
        title: Of its window.
        epsg: CRS of the map and of all layers.
        bounds: What is shown at first.
        groups: The topmost first.
    """
    root = Xml.Element("qgis", projectname=title, version=VERSION)
    Xml.SubElement(root, "title").text = title
    Xml.SubElement(root, "projectCrs").append(_crs(epsg))
    tree = Xml.SubElement(root, "layer-tree-group")
    for group in groups:
        branch = Xml.SubElement(tree, "layer-tree-group", name=group.name, checked="Qt::Checked", expanded="1")
        for layer in group.layers:
            Xml.SubElement(branch, "layer-tree-layer", _leaf(layer))
    canvas = Xml.SubElement(root, "mapcanvas", name="theMapCanvas", annotationsVisible="1")
    Xml.SubElement(canvas, "units").text = "meters"
    extent = Xml.SubElement(canvas, "extent")
    for name, value in zip(("xmin", "ymin", "xmax", "ymax"), bounds, strict=True):
        Xml.SubElement(extent, name).text = f"{value:.10g}"
    Xml.SubElement(canvas, "rotation").text = "0"
    Xml.SubElement(canvas, "destinationsrs").append(_crs(epsg))
    layers = Xml.SubElement(root, "projectlayers")
    order = Xml.SubElement(root, "layerorder")
    for layer in _all(groups):
        layers.append(_map_layer(layer, epsg))
        Xml.SubElement(order, "layer", id=layer.id)
    properties = Xml.SubElement(root, "properties")
    Xml.SubElement(Xml.SubElement(properties, "Paths"), "Absolute", type="bool").text = "false"
    enabled = Xml.SubElement(Xml.SubElement(properties, "SpatialRefSys"), "ProjectionsEnabled", type="int")
    enabled.text = "1"  # without it the map has no CRS
    return as_text(root)


def _all(groups: Sequence[Group]) -> Iterator[Layer]:
    for group in groups:
        yield from group.layers


def _leaf(layer: Layer) -> dict[str, str]:
    shown = "Qt::Checked" if layer.is_shown else "Qt::Unchecked"
    source = {"source": layer.source, "providerKey": layer.provider}
    return {"id": layer.id, "name": layer.name, "checked": shown, "expanded": "0"} | source


def _map_layer(layer: Layer, epsg: int) -> Xml.Element:
    is_vector = layer.provider == "ogr"
    made = Xml.Element("maplayer", type="vector" if is_vector else "raster")
    if is_vector:
        made.attrib |= {"geometry": "Polygon", "wkbType": "Polygon"}
    for name, text in (("id", layer.id), ("datasource", layer.source), ("layername", layer.name)):
        Xml.SubElement(made, name).text = text
    Xml.SubElement(made, "srs").append(_crs(epsg))
    Xml.SubElement(made, "provider", {"encoding": "UTF-8"} if is_vector else {}).text = layer.provider
    made.append(copy.deepcopy(layer.style))
    return made


def _crs(epsg: int) -> Xml.Element:
    system = CRS.from_epsg(epsg)
    made = Xml.Element("spatialrefsys")
    for name, text in (("wkt", system.to_wkt()), ("authid", f"EPSG:{epsg}"), ("description", system.name)):
        Xml.SubElement(made, name).text = text
    return made
