"""Projects and styles as XML; a real QGIS opens one in the integration tests."""

from xml.etree import ElementTree as Xml

import pytest

from eo_tasks.products.qgis import (
    Group,
    Layer,
    project,
    style_file,
    style_of_change,
    style_of_composites,
    style_of_polygons,
    style_of_probability,
)

STRETCH = {"B04": (0.0, 0.347), "B03": (0.01, 0.296), "B02": (0.0, 0.213)}


def test_composites_are_shown_in_the_stretch_of_all_years():
    renderer = style_of_composites(("B02", "B03", "B04"), STRETCH).find("rasterrenderer")
    assert [renderer.get(f"{colour}Band") for colour in ("red", "green", "blue")] == ["3", "2", "1"]
    ends = [
        [renderer.findtext(f"{c}ContrastEnhancement/{end}") for end in ("minValue", "maxValue")]
        for c in ("red", "green")
    ]
    assert ends == [["0", "3470"], ["100", "2960"]]


def test_unchanged_pixels_are_transparent():
    entries = style_of_change().findall("rasterrenderer/colorPalette/paletteEntry")
    assert {entry.get("value"): entry.get("alpha") for entry in entries} == {"0": "0", "1": "255", "255": "160"}


def test_probabilities_go_from_nothing_to_254():
    values = [float(item.get("value")) for item in style_of_probability().iter("item")]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0, 254)


def test_each_pair_of_years_has_a_symbol_and_colours_come_again_where_there_are_many():
    renderer = style_of_polygons([(year, year + 1) for year in range(2015, 2024)])
    categories, symbols = renderer.findall("categories/category"), renderer.findall("symbols/symbol")
    assert [category.get("value") for category in categories][:2] == ["2015–2016", "2016–2017"]
    assert [category.get("symbol") for category in categories] == [symbol.get("name") for symbol in symbols]
    colours = [option.get("value") for option in renderer.iter("Option") if option.get("name") == "outline_color"]
    assert colours[0] == colours[7] == "213,94,0,255"
    assert len({*colours}) == 7


@pytest.mark.parametrize("style", [style_of_change(), style_of_polygons([(2021, 2022)])])
def test_a_style_file_is_a_document_of_qgis(style):
    text = style_file(style)
    assert text.startswith("<!DOCTYPE qgis")
    assert Xml.fromstring(text).tag == "qgis"  # noqa: S314  # our own


def test_a_project_lists_each_layer_in_its_tree_and_among_its_layers():
    layers = [
        Layer(
            "Changes & more", "../polygons/changes.gpkg|layername=changes", "ogr", style_of_polygons([]), is_shown=True
        ),
        Layer("Change 2021–2022", "./change_2021_2022.vrt", "gdal", style_of_change()),
    ]
    root = Xml.fromstring(project("eo-tasks", 32633, (1, 2, 3, 4.5), [Group("All", layers)]))  # noqa: S314  # our own
    leaves = root.findall("layer-tree-group/layer-tree-group/layer-tree-layer")
    assert [leaf.get("checked") for leaf in leaves] == ["Qt::Checked", "Qt::Unchecked"]
    made = root.findall("projectlayers/maplayer")
    assert [leaf.get("id") for leaf in leaves] == [layer.findtext("id") for layer in made]
    assert [layer.findtext("datasource") for layer in made] == [layer.source for layer in layers]
    assert [layer.get("type") for layer in made] == ["vector", "raster"]
    assert [root.findtext(f"mapcanvas/extent/{end}") for end in ("xmin", "ymax")] == ["1", "4.5"]
    assert root.findtext("projectCrs/spatialrefsys/authid") == "EPSG:32633"
    assert root.findtext("properties/Paths/Absolute") == "false"


def test_ids_of_layers_are_longer_than_those_that_qgis_replaces():
    assert len(Layer("a", "", "ogr", style_of_change()).id) > 10
