"""What each stage does, without Celery: ids in, files made, a small outcome out.

Every step may run twice: where its output is stored and whole it returns at once, *skipped*.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import rasterio

from eo_tasks import __version__
from eo_tasks.change import ChangeMap
from eo_tasks.errors import EmptyCompositeError, EOTasksError, GridError, RasterError, StorageError
from eo_tasks.files import sha256
from eo_tasks.grid import Grid, GridYear, YearPair
from eo_tasks.grid_file import read_grid
from eo_tasks.plan import Inventory, Wanted
from eo_tasks.products.mask import MaskFiles, write_mask_files
from eo_tasks.raster import NODATA, Composite, PixelGrid, write_composite
from eo_tasks.settings import Settings
from eo_tasks.sources import CompositeRequest, Source, open_source
from eo_tasks.storage import Record, Staging, Store, open_store

if TYPE_CHECKING:
    from eo_tasks.btc.checkpoint import Checkpoint


@dataclass(frozen=True)
class Outcome:
    """What a step did.

    Attributes:
        is_skipped: The output was there already.
        facts: Small and JSON-ready.
    """

    is_skipped: bool
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Pipeline:
    """The grid, source, store and network that one process works with, each opened when first needed."""

    settings: Settings

    @cached_property
    def grid(self) -> Grid:
        """The grid of ``GRID_FILE``."""
        path = self.settings.grid_file or self.settings.data_dir / "grid.gpkg"
        if self.settings.grid_file is None and not path.exists():
            raise GridError(f"No grid: set GRID_FILE, or make {path} with eo-tasks grid make.")
        return read_grid(path, self.settings.grid_layer)

    @cached_property
    def source(self) -> Source:
        """The source of ``IMAGERY_SOURCE``."""
        return open_source(self.settings)

    @cached_property
    def store(self) -> Store:
        """The store of ``PIPELINE_MODE``."""
        return open_store(self.settings)

    @cached_property
    def staging(self) -> Staging:
        """Composites between download and store."""
        return Staging(self.settings.data_dir)

    @cached_property
    def checkpoint(self) -> "Checkpoint":
        """The network of ``BTC_MODEL_CHECKPOINT``, on the device of ``BTC_DEVICE``."""
        from eo_tasks.btc.checkpoint import load_checkpoint
        from eo_tasks.btc.inference import choose_device

        loaded = load_checkpoint(self.settings.btc_model_checkpoint, self.settings.btc_model_revision)
        loaded.network.to(choose_device(self.settings.btc_device))
        return loaded

    @cached_property
    def recipe(self) -> Record:
        """What decides a mask beside its two composites; a mask of another recipe is stale."""
        chosen = self.settings
        return {
            "checkpoint": chosen.btc_model_checkpoint,
            "revision": chosen.btc_model_revision,
            "threshold": chosen.btc_threshold,
            "window_px": chosen.btc_window_px,
            "stride_px": chosen.btc_stride_px,
            "stretch": [[band, *ends] for band, ends in chosen.btc_stretch.items()],  # red, green, blue
        }


def take_inventory(pipeline: Pipeline, wanted: Wanted) -> Inventory:
    """Look up what is stored of what is wanted.

    Raises:
        StorageError: The store holds composites of another grid.
    """
    store = pipeline.store
    images = {year: store.image_ids(year) for year in wanted.years}
    for year, grid_ids in images.items():
        if (example := next((grid_id for grid_id in wanted.grid_ids if grid_id in grid_ids), None)) is not None:
            _check_same_grid(pipeline, GridYear(example, year))
    return Inventory(
        images=images,
        staged={year: pipeline.staging.grid_ids(year) for year in wanted.years},
        masks={pair: store.mask_ids(*pair, pipeline.recipe) for pair in wanted.year_pairs},
    )


def download(pipeline: Pipeline, grid_year: GridYear) -> Outcome:
    """Make a grid-year's composite and stage it for the store.

    Raises:
        EmptyCompositeError: No clear observation exists.
        SourceError, SourceUnavailableError: As the source says.
    """
    if pipeline.store.has_image(grid_year) or pipeline.staging.get(grid_year) is not None:
        return Outcome(True, {})
    chosen = pipeline.settings
    request = CompositeRequest(
        cell=pipeline.grid.cell(grid_year.grid_id),
        year=grid_year.year,
        bands=chosen.composite_bands,
        months=chosen.composite_months,
        masked_scl=chosen.masked_scl,
        max_cloud_cover=chosen.max_cloud_cover,
    )
    cog = pipeline.staging.cog(grid_year)
    cog.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cog.parent, prefix=".fetch-") as scratch:
        composite = pipeline.source.composite(request, Path(scratch))
    if composite.pixels != request.pixels:
        raise RasterError(f"{grid_year}: the source gave {composite.pixels}, asked for was {request.pixels}.")
    if not composite.valid.any():
        raise EmptyCompositeError(f"{grid_year}: no clear observation in months {chosen.composite_months}.")
    write_composite(cog, composite)
    record = _image_record(request, composite, cog)
    pipeline.staging.add(grid_year, record)
    return Outcome(False, {"size_bytes": record["size_bytes"], "clear_share": record["clear_share"]})


def store(pipeline: Pipeline, grid_year: GridYear) -> Outcome:
    """Insert a staged composite into the store.

    Raises:
        StorageError: Nothing is staged for it.
    """
    is_stored, staged = pipeline.store.has_image(grid_year), pipeline.staging.get(grid_year)
    if staged is None and not is_stored:
        raise StorageError(f"{grid_year}: no staged composite to store. Enqueue that year again to download it.")
    if not is_stored and staged is not None:
        pipeline.store.put_image(grid_year, staged)
    pipeline.staging.remove(grid_year)
    return Outcome(is_stored, {})


def infer(pipeline: Pipeline, pair: YearPair) -> Outcome:
    """Run BTC on a year pair and store its mask.

    Raises:
        StorageError: A composite is missing or broken.
        RasterError: The two composites lie on different pixel grids.
        CheckpointError: The network cannot be loaded.
    """
    if pipeline.store.has_mask(pair, pipeline.recipe):
        return Outcome(True, {})
    from eo_tasks.btc.inference import Inference, detect_change

    chosen = pipeline.settings
    how = Inference(
        stretch=chosen.btc_stretch,
        threshold=chosen.btc_threshold,
        window_px=chosen.btc_window_px,
        stride_px=chosen.btc_stride_px,
        batch_size=chosen.btc_batch_size,
    )
    before, after = (pipeline.store.get_image(grid_year) for grid_year in pair.grid_years)
    try:
        change_map = detect_change(pipeline.checkpoint, before, after, how)
    except EOTasksError as error:
        raise type(error)(f"{pair}: {error}") from error
    chosen.data_dir.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=chosen.data_dir, prefix=".mask-") as scratch:
        files = MaskFiles.beside(Path(scratch) / f"{pair.btc.id}.png")
        write_mask_files(files, change_map, {"YEARS": f"{pair.before},{pair.after}"})
        record = _mask_record(pipeline, pair, change_map, files)
        pipeline.store.put_mask(pair, files, record)
    return Outcome(False, {"changed_ha": record["changed_ha"]})


def _check_same_grid(pipeline: Pipeline, grid_year: GridYear) -> None:
    """Refuse to mix the composites of two grids: their ids are the same, their places are not."""
    record = pipeline.store.image_record(grid_year) or {}
    pixels = PixelGrid.of(pipeline.grid.cell(grid_year.grid_id))
    if (record.get("epsg"), record.get("bounds")) != (pixels.epsg, list(pixels.bounds)):
        raise StorageError(
            f"{grid_year}: the stored composite lies at {record.get('bounds')} of EPSG:{record.get('epsg')}, "
            f"the cell at {pixels.bounds} of EPSG:{pixels.epsg}. It is of another grid: choose another DATA_DIR, "
            "or use its grid."
        )


def _image_record(request: CompositeRequest, composite: Composite, cog: Path) -> dict[str, Any]:
    pixels, origin, counts = composite.pixels, composite.origin, composite.clear_count
    return {
        "grid_id": request.cell.grid_id,
        "label": request.cell.label,
        "year": request.year,
        "months": list(request.months),
        "bands": list(composite.bands),
        "dtype": "uint16",
        "scale": 1e-4,
        "nodata": NODATA,
        "epsg": pixels.epsg,
        "bounds": list(pixels.bounds),
        "width": pixels.width,
        "height": pixels.height,
        "resolution_m": pixels.resolution_m,
        "source": origin.source,
        "collection": origin.collection,
        "scenes": list(origin.scenes),
        "dates": list(origin.dates),
        "offset": origin.offset,
        "details": dict(origin.details),
        "masked_scl": list(request.masked_scl),
        "clear_share": round(float(composite.valid.mean()), 6),
        "clear_count_mean": round(float(counts.mean()), 3),
        **_file_facts(cog),
    }


def _mask_record(pipeline: Pipeline, pair: YearPair, change_map: ChangeMap, files: MaskFiles) -> dict[str, Any]:
    pixels, checkpoint = change_map.pixels, pipeline.checkpoint
    images = (pipeline.store.image_record(grid_year) or {} for grid_year in pair.grid_years)
    return {
        "grid_id": pair.grid_id,
        "years": [pair.before, pair.after],
        "model": {
            "checkpoint": checkpoint.name,
            "revision": checkpoint.revision,
            "weights_sha256": checkpoint.weights_sha256,
        },
        "recipe": dict(pipeline.recipe),
        "threshold": change_map.threshold,
        "images_sha256": [record.get("sha256") for record in images],
        "changed_ha": round(change_map.changed_ha, 4),
        "seen_ha": round(change_map.seen_ha, 4),
        "epsg": pixels.epsg,
        "bounds": list(pixels.bounds),
        "width": pixels.width,
        "height": pixels.height,
        "resolution_m": pixels.resolution_m,
        "cog": {"unchanged": 0, "changed": 1, "not_seen": 255},
        "probability": {"scale": "1/254", "not_seen": 255},
        **_file_facts(files.png),
    }


def _file_facts(path: Path) -> dict[str, Any]:
    """What lets anyone check the file, and know what wrote it."""
    return {
        "size_bytes": path.stat().st_size,
        "sha256": sha256(path),
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "eo_tasks": __version__,
            "gdal": rasterio.__gdal_version__,
            "python": platform.python_version(),
        },
    }
