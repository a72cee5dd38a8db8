"""A static STAC catalog of the files under ``DATA_DIR``, in ``DATA_DIR/stac``."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eo_tasks.errors import PermanentError, StorageError
from eo_tasks.files import sha256
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.products.mask import MaskFiles
from eo_tasks.products.stac import (
    CATALOG,
    COLLECTION,
    Extent,
    JsonTree,
    Link,
    MaskAssets,
    Origin,
    Parent,
    catalog,
    child,
    collection,
    composite_id,
    composite_item,
    mask_id,
    mask_item,
    member,
    model_id,
    model_item,
)
from eo_tasks.settings import PipelineMode, Settings
from eo_tasks.steps.products.made import Made
from eo_tasks.steps.products.places import FOLDER_STAC, quicklook_path, sheet_path
from eo_tasks.steps.products.stored import PLACE, check_place, parts, stored_ids
from eo_tasks.storage import FileStore, Place, Record, open_place
from eo_tasks.storage.layout import image_file, mask_file

COMPOSITES, MASKS, MODELS = "composites", "masks", "models"
UP = "../../.."  # from an item to the top
LICENCE = Link(
    "license",
    "https://sentinels.copernicus.eu/documents/247904/690755/Sentinel_Data_Legal_Notice",
    "application/pdf",
    "Copernicus Sentinel data: legal notice",
)


def make_catalog(settings: Settings) -> Made:
    """List every composite and mask that lies under ``DATA_DIR``; only items whose record changed are written.

    Raises:
        PermanentError: This mode keeps no files.
    """
    check_files(settings)
    listing = _Listing(settings.folder, open_place(settings))
    listing.add_composites()
    listing.add_masks()
    listing.finish()
    tree = listing.tree
    failures = tuple(listing.failures)
    return Made("STAC items and catalogs", tree.folder / CATALOG, tree.written, tree.kept, tree.removed, failures)


def check_files(settings: Settings) -> None:
    """Check that composites and masks are files, as a catalog and a project need them.

    Raises:
        PermanentError: This mode keeps no files.
    """
    if settings.pipeline_mode is PipelineMode.DATABASE_ONLY:
        raise PermanentError(
            "PIPELINE_MODE=database_only keeps no image files, which a STAC catalog and a QGIS project point to. Copy "
            "them out of the database first: eo-tasks export FOLDER. Then ask again with DATA_DIR=FOLDER and "
            "PIPELINE_MODE=local_only."
        )


@dataclass
class _Listing:
    """The catalog as it is made; items first, then what lists them, and what is gone is removed last."""

    folder: Path
    place: Place
    extents: dict[str, Extent] = field(default_factory=lambda: defaultdict(Extent))
    groups: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # years, pairs of years
    models: dict[str, tuple[Record, Extent]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tree = JsonTree(self.folder / FOLDER_STAC)
        self.store = FileStore(self.place)
        self.years = self.store.years()
        self.grid_ids = stored_ids(self.store, self.years)

    def add_composites(self) -> None:
        for year in self.years:
            extent, names = Extent(), []
            for part in parts(self.grid_ids):
                for grid_id, record in sorted(self.store.image_records(year, part).items()):
                    if not self._is_placed(GridYear(grid_id, year), record):
                        continue
                    name = composite_id(grid_id, year)
                    item = _composite(self.place, self.folder, GridYear(grid_id, year), record)
                    self.tree.put(f"{COMPOSITES}/{year}/{name}.json", item)
                    names.append(name)
                    extent.add(item)
            self._close_group(COMPOSITES, str(year), f"Composites of {year}", names, extent)

    def add_masks(self) -> None:
        for before in self.years:
            extents: dict[int, Extent] = defaultdict(Extent)
            names: dict[int, list[str]] = defaultdict(list)
            for part in parts(self.grid_ids):
                masks = self.store.mask_records(before, part)
                images = {
                    year: self.store.image_records(
                        year, [pair.grid_id for pair in masks if year in (before, pair.after)]
                    )
                    for year in {before, *(pair.after for pair in masks)}
                }
                for pair, record in sorted(masks.items(), key=lambda one: one[0]):
                    if not self._is_placed(pair, record):
                        continue
                    item = self._mask(pair, record, images)
                    names[pair.after].append(item["id"])
                    extents[pair.after].add(item)
            for after in sorted(names):
                title = f"Change masks from {before} to {after}"
                self._close_group(MASKS, f"{before}_{after}", title, names[after], extents[after])

    def finish(self) -> None:
        """Write what lists the items, from below to the root, and remove what is gone."""
        links = [child(f"./{COMPOSITES}/{COLLECTION}", TITLES[COMPOSITES][0])]
        links.append(child(f"./{MASKS}/{COLLECTION}", TITLES[MASKS][0]))
        for kind in (COMPOSITES, MASKS):
            groups = [child(f"./{group}/{CATALOG}", group.replace("_", "–")) for group in self.groups[kind]]
            title, description = TITLES[kind]
            made = collection(kind, title, description, self.extents[kind], [*groups, LICENCE])
            self.tree.put(f"{kind}/{COLLECTION}", made)
        if self.models:
            links.append(self._close_models())
        description = "Yearly composites of a country's cells, and the change between them; made by eo-tasks."
        self.tree.put(CATALOG, catalog("eo-tasks", description, links, root=f"./{CATALOG}", title="Yearly change"))
        kinds = [COMPOSITES, MASKS, *([MODELS] if self.models else [])]
        self.tree.keep_only(".", {CATALOG, *kinds})
        for kind in (COMPOSITES, MASKS):
            self.tree.keep_only(kind, {COLLECTION, *self.groups[kind]})
        self.tree.keep_only(MODELS, {COLLECTION, *(f"{name}.json" for name in self.models)})

    def _is_placed(self, what: GridYear | YearPair, record: Record) -> bool:
        """Whether a record is enough for an item; if not, that is told."""
        try:
            check_place(what, record)
        except StorageError as error:
            self.failures.append(str(error))
            return False
        return True

    def _close_group(self, kind: str, group: str, title: str, names: Sequence[str], extent: Extent) -> None:
        """Write the catalog of a year or two, and remove the items that it does not list."""
        if not names:
            return
        files = [f"{name}.json" for name in names]
        made = catalog(
            f"{kind}-{group}",
            f"{title}.",
            [member(f"./{file}") for file in files],
            root=f"../../{CATALOG}",
            parent=f"../{COLLECTION}",
            title=title,
        )
        self.tree.put(f"{kind}/{group}/{CATALOG}", made)
        self.tree.keep_only(f"{kind}/{group}", {CATALOG, *files})
        self.extents[kind].merge(extent)
        self.groups[kind].append(group)

    def _close_models(self) -> Link:
        extent = Extent()
        for name, (record, used) in sorted(self.models.items()):
            origin = Origin(MODELS, f"./{COLLECTION}", f"./{COLLECTION}", f"../{CATALOG}")
            self.tree.put(f"{MODELS}/{name}.json", model_item(record, origin, (str(used.start), str(used.end))))
            extent.merge(used)
        title, description = TITLES[MODELS]
        links = [member(f"./{name}.json") for name in sorted(self.models)]
        self.tree.put(f"{MODELS}/{COLLECTION}", collection(MODELS, title, description, extent, links))
        return child(f"./{MODELS}/{COLLECTION}", title)

    def _mask(self, pair: YearPair, record: Record, images: Mapping[int, Mapping[int, Record]]) -> dict[str, Any]:
        """Write a mask's item; gives it."""
        name = f"{MASKS}/{pair.before}_{pair.after}/{mask_id(pair.grid_id, pair.before, pair.after)}.json"
        earlier, later = (_parent(grid_year, images) for grid_year in pair.grid_years)
        model = model_id(record)
        made_by = None if model is None else Link("derived_from", f"../../{MODELS}/{model}.json", title=model)
        assets = _mask_assets(self.place, self.folder, pair, record, self.tree.get(name))
        item = mask_item(record, _origin(MASKS), assets, (earlier, later), made_by)
        self.tree.put(name, item)
        if model is not None:
            self.models.setdefault(model, (record, Extent()))[1].add(item)
        return item


_OF_COMPOSITES = (
    "One cloud-free composite a cell and year: the median of the season's clear observations. Contains modified "
    "Copernicus Sentinel data, where the imagery is Sentinel-2's."
)
TITLES = {
    COMPOSITES: (
        "Sentinel-2 composites",
        _OF_COMPOSITES,
    ),
    MASKS: ("Change masks", "Where a cell changed between two years, and how probable that is, by BTC."),
    MODELS: ("Networks", "The networks that made the masks, and their settings."),
}


def _origin(kind: str) -> Origin:
    return Origin(kind, f"./{CATALOG}", f"../{COLLECTION}", f"../../{CATALOG}")


def _composite(place: Place, folder: Path, grid_year: GridYear, record: Record) -> dict[str, Any]:
    quicklook = quicklook_path(folder, grid_year)
    return composite_item(
        record,
        _origin(COMPOSITES),
        place.href(image_file(grid_year), UP),
        _from_item(folder, quicklook) if quicklook.exists() else None,
    )


def _parent(grid_year: GridYear, images: Mapping[int, Mapping[int, Record]]) -> Parent:
    record = images[grid_year.year].get(grid_year.grid_id)
    if record is None or any(record.get(name) is None for name in PLACE):
        return Parent(grid_year.year, None, None)
    name = composite_id(grid_year.grid_id, grid_year.year)
    return Parent(grid_year.year, f"../../{COMPOSITES}/{grid_year.year}/{name}.json", record.get("months"))


def _mask_assets(
    place: Place, folder: Path, pair: YearPair, record: Record, known: Mapping[str, Any] | None
) -> MaskAssets:
    """A mask's files; checksums that the item tells already are not computed again."""
    files, sheet = MaskFiles.beside(mask_file(pair)), sheet_path(folder, pair.grid_id)
    cogs = {"change": files.cog, "probability": files.probability}
    known_sizes = place.sizes(list(cogs.values()))
    sizes = [known_sizes[file] for file in cogs.values()]
    assets = (known or {}).get("assets", {})
    checksums = []
    for (name, file), size in zip(cogs.items(), sizes, strict=True):
        told = assets.get(name, {})
        is_known = (told.get("file:size"), told.get("created")) == (size, record.get("made_at"))
        checksums.append(told["file:checksum"][4:] if is_known and "file:checksum" in told else _sha256(place, file))
    return MaskAssets(
        png=place.href(files.png, UP),
        cog=place.href(files.cog, UP),
        probability=place.href(files.probability, UP),
        sizes=(sizes[0], sizes[1]),
        sha256=(checksums[0], checksums[1]),
        sheet=_from_item(folder, sheet) if sheet.exists() else None,
    )


def _sha256(place: Place, file: Path) -> str:
    with TemporaryDirectory(prefix="eo-tasks-") as scratch:
        local = place.local(file, Path(scratch))
        if local is None:
            raise StorageError(f"{file}: gone while the catalog was made. Make the catalog again.")
        return sha256(local)


def _from_item(folder: Path, file: Path) -> str:
    return f"{UP}/{file.relative_to(folder).as_posix()}"
