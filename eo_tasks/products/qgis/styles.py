"""How QGIS shows the layers: elements of a project, and of style files."""

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as Xml

from eo_tasks.change import CHANGED, UNSEEN
from eo_tasks.products.mask import PROBABILITY_SCALE
from eo_tasks.raster import REFLECTANCE_SCALE

VERSION = "3.22.0"  # the oldest QGIS that reads what is written here
CHANGE_COLOUR, UNSEEN_COLOUR = "#e63c28", "#787878"

# Low to high; lightness rises with probability, for those who see no colours.
RAMP = ((0.0, "#440154", 0), (0.33, "#721f81", 110), (0.66, "#dc503c", 190), (1.0, "#fde725", 230))

# For pairs of years, again from the first where there are more: the qualitative colours of Okabe and Ito,
# https://jfly.uni-koeln.de/color/, which also those tell apart who see few colours.
PAIR_COLOURS = ("#d55e00", "#56b4e9", "#f0e442", "#cc79a7", "#009e73", "#e69f00", "#0072b2")


def style_of_composites(bands: Sequence[str], stretch: Mapping[str, tuple[float, float]]) -> Xml.Element:
    """Composites in the stretch that all years and cells share.

    Args:
        bands: Of the file, in order.
        stretch: Reflectance range of red, green and blue.
    """
    pipe, renderer = _pipe("multibandcolor")
    for colour, (band, ends) in zip(("red", "green", "blue"), stretch.items(), strict=True):
        renderer.set(f"{colour}Band", str(bands.index(band) + 1))
        enhancement = Xml.SubElement(renderer, f"{colour}ContrastEnhancement")
        for name, value in zip(("minValue", "maxValue"), ends, strict=True):
            Xml.SubElement(enhancement, name).text = f"{value * REFLECTANCE_SCALE:g}"
        Xml.SubElement(enhancement, "algorithm").text = "StretchToMinimumMaximum"
    return pipe


def style_of_change() -> Xml.Element:
    """Change masks: changed pixels red, unseen ones grey, the rest transparent."""
    pipe, renderer = _pipe("paletted", band="1")
    palette = Xml.SubElement(renderer, "colorPalette")
    entries = (
        (0, "#ffffff", 0, "unchanged"),
        (CHANGED, CHANGE_COLOUR, 255, "changed"),
        (UNSEEN, UNSEEN_COLOUR, 160, "not seen"),
    )
    for value, colour, alpha, label in entries:
        Xml.SubElement(palette, "paletteEntry", value=str(value), color=colour, alpha=str(alpha), label=label)
    return pipe


def style_of_probability() -> Xml.Element:
    """Probability of change, from transparent over violet to yellow."""
    ends = {"classificationMin": "0", "classificationMax": str(PROBABILITY_SCALE)}
    pipe, renderer = _pipe("singlebandpseudocolor", band="1", **ends)
    shader = Xml.SubElement(Xml.SubElement(renderer, "rastershader"), "colorrampshader", colorRampType="INTERPOLATED")
    shader.attrib |= {"classificationMode": "1", "clip": "0", "minimumValue": "0"}
    shader.set("maximumValue", str(PROBABILITY_SCALE))
    for share, colour, alpha in RAMP:
        entry = {"value": f"{share * PROBABILITY_SCALE:g}", "color": colour, "alpha": str(alpha)}
        Xml.SubElement(shader, "item", entry | {"label": f"{share:g}"})
    return pipe


def style_of_polygons(pairs: Sequence[tuple[int, int]]) -> Xml.Element:
    """Outlines of change, in another colour for each pair of years."""
    name = "to_string(year_before) || '–' || to_string(year_after)"
    renderer = Xml.Element("renderer-v2", type="categorizedSymbol", attr=name, symbollevels="0", enableorderby="0")
    categories, symbols = Xml.SubElement(renderer, "categories"), Xml.SubElement(renderer, "symbols")
    for number, (before, after) in enumerate(pairs):
        label = f"{before}–{after}"
        category = {"symbol": str(number), "value": label, "label": label, "render": "true", "type": "string"}
        Xml.SubElement(categories, "category", category)
        symbol = Xml.SubElement(symbols, "symbol", type="fill", name=str(number), alpha="1", clip_to_extent="1")
        layer = Xml.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "pass": "0", "locked": "0"})
        options = Xml.SubElement(layer, "Option", type="Map")
        for key, value in _outline(PAIR_COLOURS[number % len(PAIR_COLOURS)]).items():
            Xml.SubElement(options, "Option", type="QString", name=key, value=value)
    return renderer


def style_file(style: Xml.Element) -> str:
    """A style as a file of its own (.qml), for layers that QGIS opened without the project."""
    root = Xml.Element("qgis", version=VERSION, styleCategories="Symbology")
    root.append(style)
    return as_text(root)


def as_text(root: Xml.Element) -> str:
    """A document as QGIS writes it."""
    Xml.indent(root)
    head = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return head + Xml.tostring(root, encoding="unicode") + "\n"


def _pipe(kind: str, **attributes: str) -> tuple[Xml.Element, Xml.Element]:
    """What a raster goes through on its way to the screen; gives also the part that colours it."""
    pipe = Xml.Element("pipe")
    renderer = Xml.SubElement(pipe, "rasterrenderer", {"type": kind, "opacity": "1", "alphaBand": "-1"} | attributes)
    return pipe, renderer


def _outline(colour: str) -> dict[str, str]:
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return {
        "color": "255,255,255,0",
        "style": "no",
        "outline_color": f"{red},{green},{blue},255",
        "outline_style": "solid",
        "outline_width": "0.5",
        "outline_width_unit": "MM",
        "joinstyle": "miter",
    }
