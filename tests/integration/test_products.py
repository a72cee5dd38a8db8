"""Products of the sample's composites and masks, opened as people open them: with pystac, odc-stac, geopandas, QGIS."""

import hashlib
import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import geopandas
import jsonschema_specifications
import numpy as np
import odc.stac
import pystac
import pystac.validation
import pytest
import rasterio
from click.testing import CliRunner, Result
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.eo import EOExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.mlm import MLMExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension

from eo_tasks.cli.products import products
from eo_tasks.errors import PermanentError, StorageError
from eo_tasks.files import write_json
from eo_tasks.sample import Sample
from eo_tasks.settings import PipelineMode, Settings, load_settings
from eo_tasks.steps import Pipeline
from eo_tasks.steps.alone import BTCProcessor, ImageStore, SentinelDownloader
from eo_tasks.steps.products import (
    Selection,
    contact_sheet,
    export_polygons,
    make_catalog,
    make_project,
    make_quicklooks,
)
from eo_tasks.steps.sync import copy_all, differences, newest_first
from eo_tasks.storage import LocalStore
from eo_tasks.storage.database.connection import Database, Login
from eo_tasks.storage.database.schema import upgrade
from eo_tasks.storage.database.store import DatabaseStore
from tests.integration.conftest import CHECKPOINT
from tests.postgres import database_settings

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),  # rasterio's own
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),  # of pictures
]

CELLS, YEARS = (463, 464), (2021, 2022, 2023)
SOME_FAILED = 3
QGIS_PYTHON = "/usr/bin/python3"  # where packages of the system put qgis.core


@pytest.fixture(scope="module")
def mapped(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells of the sample, three years, mapped."""
    data_dir = tmp_path_factory.mktemp("mapped")
    settings = settings_of(data_dir, sample)
    for stage in (SentinelDownloader, ImageStore, BTCProcessor):
        made = stage(settings).process(YEARS, CELLS)
        assert not made.failed
        assert made.done == len(CELLS) * (len(YEARS) - (stage is BTCProcessor))
    shutil.rmtree(data_dir / "staging")
    return data_dir


@pytest.fixture
def data_dir(mapped: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(mapped, tmp_path / "data"))


@pytest.fixture
def pipeline(data_dir: Path, sample: Sample) -> Pipeline:
    """What steps work with."""
    return Pipeline(settings_of(data_dir, sample))


def settings_of(data_dir: Path, sample: Sample, **changes: Any) -> Settings:
    chosen = {
        "data_dir": data_dir,
        "grid_file": sample.grid_file,
        "imagery_source": "stac",
        "stac_url": str(sample.catalog),
        "btc_model_checkpoint": str(CHECKPOINT),
        "btc_device": "cpu",
    }
    return load_settings(**chosen | changes)


def files_in(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()
    }


# The catalog


@pytest.fixture
def catalog(pipeline: Pipeline) -> pystac.Catalog:
    """The catalog, with quicklooks made before."""
    make_quicklooks(pipeline)
    return pystac.Catalog.from_file(make_catalog(pipeline.settings).where)


def items(catalog: pystac.Catalog, collection: str) -> list[pystac.Item]:
    found = [item for item in catalog.get_items(recursive=True) if item.collection_id == collection]
    return sorted(found, key=lambda item: item.id)


def test_the_catalog_lists_every_composite_and_mask(catalog: pystac.Catalog) -> None:
    names = [[item.id for item in items(catalog, kind)] for kind in ("composites", "masks", "models")]
    assert names[0] == [f"sentinel2_grid_{cell}_{year}_08" for cell in CELLS for year in YEARS]
    assert names[1] == [f"change_mask_grid_{cell}_{before}_{before + 1}" for cell in CELLS for before in YEARS[:-1]]
    assert len(names[2]) == 1
    assert Path(items(catalog, "masks")[0].get_self_href()).parts[-3:] == (
        *("masks", "2021_2022"),
        "change_mask_grid_463_2021_2022.json",
    )


@pytest.mark.filterwarnings("ignore:The 'stac_validator' package:DeprecationWarning")  # it has another name by now
def test_all_of_the_catalog_follows_the_specification(
    catalog: pystac.Catalog, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By stac-validator, with the schemas that pystac brings; those of extensions are on the internet only."""

    def refuse(*_: object) -> None:
        raise AssertionError("a schema is looked for on the internet")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    from stac_validator.validate import StacValidate

    files = list((data_dir / "stac").rglob("*.json"))
    assert len(files) == 1 + 3 + len(YEARS) + 2 + 6 + 4 + 1
    for file in files:
        validator = StacValidate(str(file), core=True, schema_map=core_schemas())
        assert validator.run(), validator.message


def core_schemas() -> dict[str, str]:
    """Where the schemas lie on this machine, by address."""
    folder = Path(pystac.validation.__file__).parent / "jsonschemas"
    kinds = {"catalog": "catalog", "collection": "collection"}
    core = {
        f"https://schemas.stacspec.org/v1.1.0/{kinds.get(file.stem, 'item')}-spec/json-schema/{file.name}": str(file)
        for file in (folder / "stac-spec" / "v1.1.0").glob("*.json")
    }
    geojson = {f"https://geojson.org/schema/{file.name}": str(file) for file in (folder / "geojson").glob("*.json")}
    draft = Path(jsonschema_specifications.__file__).parent / "schemas" / "draft7" / "metaschema.json"
    return core | geojson | {"http://json-schema.org/draft-07/schema": str(draft)}


def test_links_and_assets_lead_to_files_and_none_is_absolute(data_dir: Path, catalog: pystac.Catalog) -> None:
    for file in (data_dir / "stac").rglob("*.json"):
        told = json.loads(file.read_text())
        hrefs = [link["href"] for link in told["links"] if link["rel"] != "license"]
        hrefs += [asset["href"] for name, asset in told.get("assets", {}).items() if name != "weights"]
        assert hrefs
        for href in hrefs:
            assert not href.startswith(("/", "http", "file:"))
            assert (file.parent / href).resolve().is_file(), href


def test_files_are_as_large_as_told_and_have_the_checksums_told(catalog: pystac.Catalog) -> None:
    checked = 0
    for item in [*items(catalog, "composites"), *items(catalog, "masks")]:
        for asset in item.assets.values():
            told = FileExtension.ext(asset)
            if told.checksum is not None:
                content = Path(asset.get_absolute_href()).read_bytes()
                assert told.size == len(content)
                assert told.checksum == "1220" + hashlib.sha256(content).hexdigest()
                checked += 1
    assert checked == 6 + 4 * 3


def test_pystac_reads_what_the_extensions_tell(catalog: pystac.Catalog) -> None:
    composite, mask, model = (items(catalog, kind)[0] for kind in ("composites", "masks", "models"))
    with rasterio.open(composite.assets["composite"].get_absolute_href()) as source:
        projection = ProjectionExtension.ext(composite)
        assert (projection.epsg, projection.shape) == (source.crs.to_epsg(), list(source.shape))
        assert projection.transform == list(source.transform)[:6]
        bands = RasterExtension.ext(composite.assets["composite"]).bands
        assert [band.nodata for band in bands] == list(source.nodatavals)
        assert [str(band.data_type) for band in bands] == list(source.dtypes)
        names = EOExtension.ext(composite.assets["composite"]).bands
        assert [band.name for band in names] == list(source.descriptions)
        assert [band.common_name for band in names[:3]] == ["blue", "green", "red"]
    classes = ClassificationExtension.ext(mask.assets["change"]).classes
    assert [(one.value, one.name) for one in classes] == [(0, "unchanged"), (1, "changed"), (255, "unseen")]
    network = MLMExtension.ext(model)
    assert (network.architecture, network.framework, network.tasks) == ("BTC", "PyTorch", ["semantic-segmentation"])
    assert network.hyperparameters.to_dict()["threshold"] == 0.2
    derived = {link.get_absolute_href() for link in mask.get_links("derived_from")}
    years = {item.get_self_href() for item in items(catalog, "composites")[:2]}
    assert derived == years | {model.get_self_href()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # odc-stac's with xarray
def test_odc_stac_loads_the_composites_and_masks_as_they_are_stored(catalog: pystac.Catalog) -> None:
    composites = odc.stac.load(items(catalog, "composites")[:3], bands=["B04", "clear_count"])
    with rasterio.open(items(catalog, "composites")[1].assets["composite"].get_absolute_href()) as source:
        assert np.array_equal(composites["B04"].isel(time=1), source.read(source.descriptions.index("B04") + 1))
        assert np.array_equal(composites["clear_count"].isel(time=1), source.read(source.count))
    masks = odc.stac.load(items(catalog, "masks")[:1], bands=["change", "probability"])
    with rasterio.open(items(catalog, "masks")[0].assets["change"].get_absolute_href()) as source:
        assert np.array_equal(masks["change"].isel(time=0), source.read(1))


def test_the_extent_of_a_collection_is_around_its_items(catalog: pystac.Catalog) -> None:
    for kind in ("composites", "masks"):
        extent = catalog.get_child(kind).extent
        west, south, east, north = zip(*(item.bbox for item in items(catalog, kind)), strict=True)
        assert extent.spatial.bboxes == [[min(west), min(south), max(east), max(north)]]
        start, end = extent.temporal.intervals[0]
        assert (start.date().isoformat(), end.date().isoformat()) == ("2021-04-01", "2023-09-30")


def test_a_catalog_that_is_as_it_should_be_is_not_written_again(catalog: pystac.Catalog, pipeline: Pipeline) -> None:
    before = files_in(pipeline.settings.data_dir / "stac")
    made = make_catalog(pipeline.settings)
    assert (made.made, made.kept, made.removed) == (0, len(before), 0)
    assert files_in(pipeline.settings.data_dir / "stac") == before


def test_only_the_item_of_a_changed_record_is_written(
    catalog: pystac.Catalog, pipeline: Pipeline, data_dir: Path
) -> None:
    before = files_in(data_dir / "stac")
    path = data_dir / "images" / "2022" / "sentinel2_grid_464_2022_08.json"
    write_json(path, json.loads(path.read_text()) | {"clear_share": 0.5})
    make_catalog(pipeline.settings)
    after = files_in(data_dir / "stac")
    assert [name for name in after if after[name] != before[name]] == [
        "composites/2022/sentinel2_grid_464_2022_08.json"
    ]


def test_what_is_gone_is_removed_and_nothing_links_to_it(
    catalog: pystac.Catalog, pipeline: Pipeline, data_dir: Path
) -> None:
    (data_dir / "images" / "2021" / "sentinel2_grid_463_2021_08.tiff").unlink()
    shutil.rmtree(data_dir / "images" / "2023")
    shutil.rmtree(data_dir / "masks" / "2022")
    made = make_catalog(pipeline.settings)
    assert made.removed == 1 + 3 + 3  # an item, a year of composites and its catalog, likewise of masks
    names = files_in(data_dir / "stac")
    assert "composites/2021/sentinel2_grid_463_2021_08.json" not in names
    assert not [name for name in names if name.startswith(("composites/2023", "masks/2022_2023"))]
    make_quicklooks(pipeline)
    make_catalog(pipeline.settings)
    test_links_and_assets_lead_to_files_and_none_is_absolute(data_dir, catalog)


def test_a_record_that_does_not_tell_where_its_pixels_lie_is_told_of(pipeline: Pipeline, data_dir: Path) -> None:
    path = data_dir / "images" / "2022" / "sentinel2_grid_464_2022_08.json"
    record = json.loads(path.read_text())
    write_json(path, {name: value for name, value in record.items() if name != "bounds"})
    made = make_catalog(pipeline.settings)
    assert [failure.split(":")[0] for failure in made.failures] == ["Cell 464, 2022"]
    assert len(list((data_dir / "stac" / "composites").rglob("sentinel2*.json"))) == 5
    assert make_project(pipeline.settings).note.startswith("1 rasters left out")


def test_a_mode_without_files_has_no_catalog_and_no_project_and_says_what_to_do(tmp_path: Path, sample: Sample) -> None:
    settings = settings_of(tmp_path, sample, pipeline_mode=PipelineMode.DATABASE_ONLY)
    for make in (make_catalog, make_project):
        with pytest.raises(PermanentError, match="eo-tasks export FOLDER"):
            make(settings)


# Polygons


def test_polygons_have_the_area_of_the_masks(pipeline: Pipeline, data_dir: Path) -> None:
    made = export_polygons(pipeline)
    records = [json.loads(path.read_text()) for path in (data_dir / "masks").rglob("*.json")]
    changed = {(one["grid_id"], *one["years"]): one["changed_ha"] for one in records if one["changed_ha"]}
    for frame in (geopandas.read_file(made.where), geopandas.read_parquet(made.where.with_suffix(".parquet"))):
        assert frame.crs.to_epsg() == 32633
        areas = frame.groupby(["grid_id", "year_before", "year_after"]).area_ha.sum()
        assert areas.to_dict() == pytest.approx(changed)
        assert frame.area_ha.to_numpy() == pytest.approx(frame.geometry.area.to_numpy() / 10_000)
        assert frame.mean_probability.between(0.2, 1).all()
        assert set(frame.threshold) == {0.2}
        assert set(frame.model) == {f"{CHECKPOINT}@local"}
        assert frame.geometry.is_valid.all()


def test_polygons_lie_where_the_truth_is(pipeline: Pipeline, sample: Sample) -> None:
    frame = geopandas.read_file(export_polygons(pipeline).where)
    largest = frame.sort_values("area_ha").iloc[-1]
    with rasterio.open(sample.truth_file(largest.grid_id, largest.year_before, largest.year_after)) as truth:
        row, column = truth.index(*largest.geometry.representative_point().coords[0])
        assert truth.read(1)[row, column]


def test_small_patches_are_left_out_and_other_sizes_make_other_files(
    data_dir: Path, pipeline: Pipeline, sample: Sample
) -> None:
    all_of_them = geopandas.read_file(export_polygons(pipeline).where)
    least = float(all_of_them.area_ha.median())
    made = export_polygons(Pipeline(settings_of(data_dir, sample, min_change_ha=least)))
    large = geopandas.read_file(made.where)
    assert len(large) == (all_of_them.area_ha >= least).sum() < len(all_of_them)
    assert large.area_ha.min() >= least


def test_polygons_of_the_same_masks_are_not_written_again(pipeline: Pipeline, data_dir: Path) -> None:
    export_polygons(pipeline)
    before = files_in(data_dir / "polygons")
    again = export_polygons(pipeline)
    assert (again.made, again.kept) == (0, len(geopandas.read_file(again.where)))
    assert files_in(data_dir / "polygons") == before
    assert sorted(before) == ["changes.gpkg", "changes.json", "changes.parquet"]
    path = data_dir / "masks" / "2021" / "change_mask_grid_463_2021.json"
    write_json(path, json.loads(path.read_text()) | {"threshold": 0.21})
    assert export_polygons(pipeline).made


def test_a_selection_has_files_of_its_own(pipeline: Pipeline, data_dir: Path) -> None:
    export_polygons(pipeline)
    before = files_in(data_dir / "polygons")
    made = export_polygons(pipeline, Selection(frozenset({2022, 2023}), (464,)))
    frame = geopandas.read_file(made.where)
    assert made.where.name == "changes_selected.gpkg"
    assert {(*row,) for row in frame[["grid_id", "year_before", "year_after"]].to_numpy()} == {(464, 2022, 2023)}
    assert before.items() <= files_in(data_dir / "polygons").items()


def test_a_broken_mask_is_told_of_and_the_others_are_drawn(pipeline: Pipeline, data_dir: Path) -> None:
    (data_dir / "masks" / "2021" / "change_mask_grid_463_2021.tiff").write_bytes(b"broken")
    made = export_polygons(pipeline)
    assert [failure.split(":")[0] for failure in made.failures] == ["Cell 463, 2021–2022"]
    assert made.made
    assert export_polygons(pipeline).failures  # it is tried again


# Pictures


def test_every_composite_has_a_quicklook_and_every_cell_a_contact_sheet(pipeline: Pipeline, data_dir: Path) -> None:
    made = make_quicklooks(pipeline)
    assert (made.made, made.kept) == (6 + 2, 0)
    assert sorted(files_in(data_dir / "quicklooks")) == sorted(
        [f"{year}/sentinel2_grid_{cell}_{year}_08.png" for cell in CELLS for year in YEARS]
        + [f"cells/grid_{cell}.png" for cell in CELLS]
    )
    again = make_quicklooks(pipeline)
    assert (again.made, again.kept, again.removed) == (0, 8, 0)


def test_the_contact_sheet_is_that_of_the_file(pipeline: Pipeline, data_dir: Path) -> None:
    make_quicklooks(pipeline)
    with rasterio.open(data_dir / "quicklooks" / "cells" / "grid_464.png") as source:
        assert np.array_equal(source.read().transpose(1, 2, 0), contact_sheet(pipeline, 464))
    assert contact_sheet(pipeline, 464, [2021]).shape[1] < contact_sheet(pipeline, 464).shape[1]
    with pytest.raises(StorageError, match="Cell 465"):
        contact_sheet(pipeline, 465)


def test_a_replaced_composite_is_drawn_again_and_one_that_is_gone_loses_its_picture(
    pipeline: Pipeline, data_dir: Path
) -> None:
    make_quicklooks(pipeline)
    images = data_dir / "images" / "2022"
    shutil.copy(images / "sentinel2_grid_463_2022_08.tiff", images / "sentinel2_grid_464_2022_08.tiff")
    record = json.loads((images / "sentinel2_grid_463_2022_08.json").read_text()) | {"grid_id": 464}
    write_json(images / "sentinel2_grid_464_2022_08.json", record)
    assert make_quicklooks(pipeline).made == 2  # its own and the cell's
    for name in ("images", "masks"):
        for path in (data_dir / name).rglob("*_grid_463_*"):
            path.unlink()
    assert make_quicklooks(pipeline).removed == 3 + 1


# QGIS


def test_mosaics_show_the_stored_pixels(pipeline: Pipeline, data_dir: Path) -> None:
    export_polygons(pipeline)
    made = make_project(pipeline.settings)
    assert made.made == 1 + 2 + 2 + 3
    for name, file in (
        ("composites_2022", "images/2022/sentinel2_grid_{}_2022_08.tiff"),
        ("change_2021_2022", "masks/2021/change_mask_grid_{}_2021.tiff"),
        ("probability_2022_2023", "masks/2022/change_mask_grid_{}_2022_probability.tiff"),
    ):
        with rasterio.open(data_dir / "qgis" / f"{name}.vrt") as mosaic:
            for cell in CELLS:
                with rasterio.open(data_dir / file.format(cell)) as source:
                    window = mosaic.window(*source.bounds)
                    assert np.array_equal(mosaic.read(window=window), source.read())
                    assert (mosaic.descriptions, mosaic.dtypes) == (source.descriptions, source.dtypes)


def test_a_year_that_is_gone_leaves_the_project(pipeline: Pipeline, data_dir: Path) -> None:
    make_project(pipeline.settings)
    shutil.rmtree(data_dir / "masks" / "2022")
    made = make_project(pipeline.settings)
    assert (made.made, made.removed) == (2 + 3, 2)
    assert not list((data_dir / "qgis").glob("*2022_2023.vrt"))


_OPEN = """
import sys
from qgis.core import QgsApplication, QgsProject
application = QgsApplication([], False)
application.initQgis()
project = QgsProject.instance()
assert project.read(sys.argv[1]), project.error()
print(project.crs().authid())
for layer in project.layerTreeRoot().findLayers():
    print(layer.name(), layer.isVisible(), layer.layer().isValid(), type(layer.layer().renderer()).__name__)
project.clear()
"""


def test_qgis_opens_the_project_also_where_its_folder_was_moved(
    pipeline: Pipeline, data_dir: Path, tmp_path: Path
) -> None:
    environment = {"QT_QPA_PLATFORM": "offscreen", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    try:
        subprocess.run([QGIS_PYTHON, "-c", "import qgis.core"], check=True, capture_output=True, env=environment)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no QGIS on this machine: apt-get install python3-qgis")
    export_polygons(pipeline)
    make_project(pipeline.settings)
    moved = data_dir.rename(tmp_path / "elsewhere")
    command = [QGIS_PYTHON, "-c", _OPEN, str(moved / "qgis" / "eo-tasks.qgs")]
    opened = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert opened.stdout.splitlines() == [
        "EPSG:32633",
        "Changes True True QgsCategorizedSymbolRenderer",
        "Change 2022–2023 False True QgsPalettedRasterRenderer",
        "Change 2021–2022 False True QgsPalettedRasterRenderer",
        "Probability 2022–2023 False True QgsSingleBandPseudoColorRenderer",
        "Probability 2021–2022 False True QgsSingleBandPseudoColorRenderer",
        "Composites 2023 True True QgsMultiBandColorRenderer",
        "Composites 2022 False True QgsMultiBandColorRenderer",
        "Composites 2021 False True QgsMultiBandColorRenderer",
    ], opened.stderr


# The database


@pytest.fixture
def stored(database: dict[str, str], mapped: Path) -> dict[str, Any]:
    """A database with what is mapped, as settings that lead to it."""
    chosen = database_settings(database)
    opened = Database(Login.of_worker(load_settings(**chosen)))
    upgrade(opened)
    files, rows = LocalStore(mapped), DatabaseStore(opened)
    copies = (one for year in newest_first(files, rows) for one in differences(files, rows, year, to_files=False))
    assert not copy_all(copies, files, rows, mapped.parent).failures
    opened.close()
    return chosen


def test_polygons_and_pictures_out_of_a_database_are_those_of_files(
    stored: dict[str, Any], pipeline: Pipeline, sample: Sample, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path / "rows", sample, pipeline_mode=PipelineMode.DATABASE_ONLY, **stored)
    other = Pipeline(settings)
    try:
        ours, theirs = (geopandas.read_file(export_polygons(one).where) for one in (pipeline, other))
        assert ours.equals(theirs)
        assert make_quicklooks(other).made == 8
        assert np.array_equal(contact_sheet(other, 463), contact_sheet(pipeline, 463))
    finally:
        other.store.database.close()  # type: ignore[attr-defined]


# The command


def ask(data_dir: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    monkeypatch.setenv("DATA_DIR", str(data_dir))
    monkeypatch.setenv("GRID_FILE", str(sample.grid_file))
    return CliRunner().invoke(products, arguments)


def test_the_command_makes_all_and_says_where_and_a_second_one_changes_nothing(
    data_dir: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ask(data_dir, sample, monkeypatch)
    assert first.exit_code == 0, first.output
    lines = first.output.splitlines()
    assert [line.split(":")[0] for line in lines] == ["quicklooks", "polygons", "stac", "qgis"]
    assert lines[0] == f"quicklooks: 8 pictures: {data_dir}/quicklooks"
    assert lines[1].endswith(f"ha in 4 masks: {data_dir}/polygons/changes.gpkg")
    assert lines[3] == f"qgis: 8 QGIS layers: {data_dir}/qgis/eo-tasks.qgs"
    assert set(items(pystac.Catalog.from_file(data_dir / "stac" / "catalog.json"), "masks")[0].assets) > {"overview"}
    before = files_in(data_dir)
    second = ask(data_dir, sample, monkeypatch)
    assert second.exit_code == 0
    assert [line.split(" ")[1] for line in second.output.splitlines()[:3]] == ["0", "0", "0"]
    after = files_in(data_dir)
    assert {name for name in after if after[name] != before[name]} <= {
        name for name in after if name.startswith("qgis/")
    }


def test_the_command_takes_kinds_years_and_cells(
    data_dir: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ask(data_dir, sample, monkeypatch, "--what", "quicklooks", "--years", "2022", "--cells", "464")
    assert made.output == f"quicklooks: 2 pictures: {data_dir}/quicklooks\n"
    assert ask(data_dir, sample, monkeypatch, "--what", "maps").exit_code == 2


def test_a_broken_composite_is_told_of_and_the_command_ends_with_3(
    data_dir: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = data_dir / "images" / "2022" / "sentinel2_grid_463_2022_08.tiff"
    path.write_bytes(b"x" * path.stat().st_size)
    made = ask(data_dir, sample, monkeypatch, "--what", "quicklooks")
    assert made.exit_code == SOME_FAILED
    assert "quicklooks: not made: Cell 463, 2022" in made.stderr
    assert (data_dir / "quicklooks" / "cells" / "grid_464.png").exists()


def test_where_nothing_is_stored_the_command_ends_with_3(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ask(tmp_path / "empty", sample, monkeypatch, "--what", "quicklooks,polygons")
    assert made.exit_code == SOME_FAILED
    assert made.output.splitlines() == ["quicklooks: nothing is stored.", "polygons: nothing is stored."]


def test_a_mode_without_files_is_refused_before_anything_is_made(
    tmp_path: Path, sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_MODE", "database_only")
    made = ask(tmp_path / "empty", sample, monkeypatch, "--what", "stac")
    assert isinstance(made.exception, PermanentError)
    assert "eo-tasks export FOLDER" in str(made.exception)
