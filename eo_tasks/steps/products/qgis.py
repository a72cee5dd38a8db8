"""A QGIS project of all that lies under ``DATA_DIR``, in its folder ``qgis``."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as Xml

from eo_tasks.files import written_aside
from eo_tasks.grid import GridYear
from eo_tasks.products.mask import MaskFiles
from eo_tasks.products.polygon_files import LAYER
from eo_tasks.products.qgis import (
    Band,
    Group,
    Layer,
    Mosaic,
    Source,
    project,
    style_file,
    style_of_change,
    style_of_composites,
    style_of_polygons,
    style_of_probability,
)
from eo_tasks.raster import CLEAR_COUNT
from eo_tasks.settings import Settings
from eo_tasks.steps.products.catalog import check_files
from eo_tasks.steps.products.made import Made
from eo_tasks.steps.products.places import FOLDER_POLYGONS, FOLDER_QGIS
from eo_tasks.steps.products.polygons import ALL
from eo_tasks.steps.products.stored import PLACE, image_records, mask_records, stored_ids
from eo_tasks.storage import FileStore, Place, Record, open_place
from eo_tasks.storage.layout import image_file, mask_file

PROJECT = "eo-tasks.qgs"

_CHANGE = (Band("change", "uint8", 255),)
_PROBABILITY = (Band("change_probability", "uint8", 255),)


def make_project(settings: Settings) -> Made:
    """Write a project with composites, masks, probabilities and polygons, and style files for them.

    Rasters of a year, or of two, are one layer: a mosaic that refers to the files. Where the polygons are not exported,
    their layer is left out.

    Raises:
        PermanentError: This mode keeps no files.
    """
    check_files(settings)
    folder, shelf = settings.folder / FOLDER_QGIS, _Shelf(settings.folder, open_place(settings))
    shelf.collect()
    if not shelf.mosaics:
        return Made("QGIS layers", folder / PROJECT, 0, note="no composites are stored")
    styles = shelf.styles(settings)
    for name, style in styles.items():
        _write(folder / f"{name}.qml", [style_file(style)])
    for name, mosaic in shelf.mosaics.items():
        _write(folder / f"{name}.vrt", mosaic.xml())
    removed = _remove_others(folder, shelf.mosaics)
    groups, epsg, bounds = shelf.groups(styles), shelf.epsg, shelf.bounds
    _write(folder / PROJECT, [project("eo-tasks", epsg, bounds, groups)])
    note = f"{shelf.left_out} rasters left out: other bands, pixels or CRS" if shelf.left_out else ""
    return Made("QGIS layers", folder / PROJECT, sum(len(group.layers) for group in groups), removed=removed, note=note)


@dataclass
class _Shelf:
    """The mosaics of a folder, by name."""

    folder: Path
    place: Place
    mosaics: dict[str, Mosaic] = field(default_factory=dict)
    years: list[int] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    left_out: int = 0

    def collect(self) -> None:
        store = FileStore(self.place)
        years = store.years()
        grid_ids = stored_ids(store, years)
        for year in years:
            images = (
                (record, image_file(GridYear(grid_id, year)))
                for grid_id, record in image_records(store, year, grid_ids)
            )
            if self._add(f"composites_{year}", images):
                self.years.append(year)
        for before in years:
            masks: dict[int, list[tuple[Record, MaskFiles]]] = defaultdict(list)
            for pair, record in mask_records(store, before, grid_ids):
                kept = {name: record.get(name) for name in PLACE}  # the rest is not needed, and there may be many
                masks[pair.after].append((kept, MaskFiles.beside(mask_file(pair))))
            for after, found in sorted(masks.items()):
                years_of = f"{before}_{after}"
                is_there = self._add(f"change_{years_of}", ((record, files.cog) for record, files in found), _CHANGE)
                probability = ((record, files.probability) for record, files in found)
                self._add(f"probability_{years_of}", probability, _PROBABILITY)
                if is_there:
                    self.pairs.append((before, after))

    def _add(self, name: str, rasters: Iterable[tuple[Record, Path]], bands: tuple[Band, ...] | None = None) -> bool:
        """Add a mosaic of rasters like the first one of the folder."""
        kind, sources = None, []
        for record, file in rasters:
            if any(record.get(name) is None for name in PLACE):
                self.left_out += 1
                continue
            kind_here = (int(record["epsg"]), float(record["resolution_m"]), bands or _bands(record))
            kind = kind or kind_here
            if kind_here != kind or (self.mosaics and kind[0] != self.epsg):
                self.left_out += 1
                continue
            xmin, ymin, xmax, ymax = map(float, record["bounds"])
            href = self.place.gdal_href(file, "..")
            sources.append(Source(href, (xmin, ymin, xmax, ymax)))
        if kind is None or not sources:
            return False
        self.mosaics[name] = Mosaic(*kind, sources)
        return True

    @property
    def epsg(self) -> int:
        """CRS of them all."""
        return next(iter(self.mosaics.values())).epsg

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Around them all."""
        xmin, ymin, xmax, ymax = zip(*(mosaic.bounds for mosaic in self.mosaics.values()), strict=True)
        return min(xmin), min(ymin), max(xmax), max(ymax)

    def styles(self, settings: Settings) -> dict[str, Xml.Element]:
        """Of each kind of layer."""
        made = {"change": style_of_change(), "probability": style_of_probability()}
        made["polygons"] = style_of_polygons(self.pairs)
        bands = [band.name for band in self.mosaics[f"composites_{self.years[0]}"].bands] if self.years else []
        if set(settings.btc_stretch) <= set(bands):
            made["composites"] = style_of_composites(bands, settings.btc_stretch)
        return made

    def groups(self, styles: Mapping[str, Xml.Element]) -> list[Group]:
        """Layers, the topmost first; of each group the latest one is shown."""
        groups = []
        polygons = self.folder / FOLDER_POLYGONS / f"{ALL}.gpkg"
        if polygons.exists():
            source = f"../{FOLDER_POLYGONS}/{polygons.name}|layername={LAYER}"
            groups.append(Group("Polygons", [Layer("Changes", source, "ogr", styles["polygons"], is_shown=True)]))
        spans = [(f"{before}_{after}", f"{before}–{after}") for before, after in reversed(self.pairs)]
        groups.append(self._group("Change", "change", spans, styles, is_shown=not polygons.exists()))
        groups.append(self._group("Probability", "probability", spans, styles, is_shown=False))
        years = [(str(year), str(year)) for year in reversed(self.years)]
        groups.append(self._group("Composites", "composites", years, styles, is_shown=True))
        return [group for group in groups if group.layers]

    def _group(
        self, title: str, kind: str, spans: list[tuple[str, str]], styles: Mapping[str, Xml.Element], *, is_shown: bool
    ) -> Group:
        layers = [
            Layer(f"{title} {label}", f"./{kind}_{name}.vrt", "gdal", styles[kind], is_shown=is_shown and not number)
            for number, (name, label) in enumerate(spans)
            if kind in styles
        ]
        return Group(title, layers)


def _bands(record: Record) -> tuple[Band, ...]:
    names = (*record["bands"], CLEAR_COUNT)
    return tuple(Band(name, str(record.get("dtype", "uint16")), int(record.get("nodata", 0))) for name in names)


def _write(path: Path, text: Iterable[str]) -> None:
    with written_aside(path) as aside, aside.open("w", encoding="utf-8") as file:
        file.writelines(text)


def _remove_others(folder: Path, mosaics: Mapping[str, Mosaic]) -> int:
    others = [path for path in folder.glob("*.vrt") if path.stem not in mosaics]
    for path in others:
        path.unlink(missing_ok=True)
    return len(others)
