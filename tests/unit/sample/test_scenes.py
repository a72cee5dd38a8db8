"""Small scenes: clouds, stored values, files and their records."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pystac
import pytest
import rasterio

from eo_tasks.cog import read_raster
from eo_tasks.files import write_json
from eo_tasks.grid_file import read_grid
from eo_tasks.raster import PixelGrid
from eo_tasks.sample import write
from eo_tasks.sample.clouds import CLOUD_HIGH, CLOUD_MEDIUM, SHADOW, VEGETATION, Sky, classify, make_sky, seen_through
from eo_tasks.sample.country import cells, write_grid
from eo_tasks.sample.scenes import stored_dn, stored_scl, write_catalog, write_scene
from eo_tasks.sample.season import Acquisition, Observation
from eo_tasks.sample.story import ACQUISITIONS, WORKS, YEARS, cell_window, imaged, lasting_fog

SHAPE = (20, 20)
PIXELS = PixelGrid(32633, (560_000.0, 5_129_800.0, 560_200.0, 5_130_000.0))
FOREST = np.broadcast_to(np.array([0.02, 0.04, 0.02, 0.3], np.float32)[:, None, None], (4, *SHAPE))
CLEAR = Sky(*(np.zeros(SHAPE, np.float32) for _ in range(3)))


def observation(reflectance=FOREST, sky=CLEAR) -> Observation:
    return Observation(reflectance, classify(reflectance, sky), sky)


def under(**parts) -> Sky:
    return Sky(**{name: parts.get(name, np.zeros(SHAPE, np.float32)) for name in ("cloud", "shadow", "cirrus")})


@pytest.mark.parametrize(
    ("baseline", "offset_applied", "stored"), [("03.01", False, 400), ("05.09", False, 1400), ("05.09", True, 400)]
)
def test_stored_value_carries_the_offset_of_new_baselines_unless_applied(baseline, offset_applied, stored):
    acquisition = Acquisition(2023, 6, 1, 0, baseline=baseline, offset_applied=offset_applied)
    assert (stored_dn(observation(), acquisition)[1] == stored).all()


def test_dark_pixel_is_not_stored_as_nodata():
    acquisition = Acquisition(2021, 6, 1, 0, baseline="03.01")
    assert stored_dn(observation(FOREST * 0 + 1e-6), acquisition).min() == 1


def test_pixels_beyond_the_swath_are_nodata_in_every_file():
    acquisition = Acquisition(2023, 6, 1, 0, has_edge=True)
    dn, scl = stored_dn(observation(), acquisition), stored_scl(observation(), acquisition)
    assert (dn[:, -1, :3] == 0).all()
    assert (dn[:, 0, 5:] == 1000 + np.array([200, 400, 200, 3000])[:, None]).all()
    assert (scl[(dn[0] == 0).reshape(10, 2, 10, 2).any(axis=(1, 3))] == 0).all()


def test_opaque_cloud_hides_the_ground_and_its_shadow_darkens_it():
    cloud = np.zeros(SHAPE, np.float32)
    shadow = cloud.copy()
    cloud[4:8, 4:8], shadow[12:16, 12:16] = 1, 1
    image = seen_through(FOREST, under(cloud=cloud, shadow=shadow))
    assert image[:, 5, 5].tolist() == pytest.approx([0.52, 0.53, 0.54, 0.60])
    assert image[3, 13, 13] == pytest.approx(0.15)
    assert image[:, 0, 0].tolist() == pytest.approx([0.02, 0.04, 0.02, 0.3])


def test_classification_sees_one_pixel_around_cloud_and_shadow():
    cloud = np.zeros(SHAPE, np.float32)
    shadow = cloud.copy()
    cloud[4:8, 4:8], shadow[14:16, 14:16] = 1, 1
    scl = classify(FOREST, under(cloud=cloud, shadow=shadow))
    assert scl[2:4, 2:4].tolist() == [[CLOUD_HIGH] * 2] * 2
    assert scl[1, 1:5].tolist() == [CLOUD_MEDIUM] * 4
    assert scl[6, 6:9].tolist() == [SHADOW] * 3
    assert (scl == VEGETATION).sum() == 100 - 16 - 9


def test_thin_edge_of_a_cloud_is_not_noticed():
    faint = np.full(SHAPE, 0.05, np.float32)
    assert (classify(FOREST, under(cloud=faint)) == VEGETATION).all()
    assert seen_through(FOREST, under(cloud=faint))[0, 0, 0] > 0.03


def test_shadow_falls_to_the_north_west_of_its_cloud():
    sky = make_sky(np.random.default_rng(1), (300, 300), 170, 0.1)
    rows, columns = (np.average(axis, weights=sky.cloud) for axis in np.indices((300, 300)))
    shaded_rows, shaded_columns = (np.average(axis, weights=sky.shadow) for axis in np.indices((300, 300)))
    assert (shaded_rows, shaded_columns) < (rows, columns)


def test_fog_hides_the_ground_but_casts_no_shadow():
    fog = np.ones(SHAPE, np.float32)
    sky = make_sky(np.random.default_rng(1), SHAPE, 170, 0.0, fog=fog)
    assert sky.cloud.min() == 1
    assert sky.shadow.max() == 0
    assert sky.cloud_cover == 100


def test_scene_is_a_valid_item_whose_files_lie_where_it_says(tmp_path):
    acquisition = Acquisition(2023, 6, 1, 0, satellite="S2B")
    record = write_scene(tmp_path / "sentinel-2-l2a", observation(), acquisition, PIXELS)
    catalog = pystac.Catalog.from_file(write_catalog(tmp_path, [record]))
    (item,) = catalog.get_items(recursive=True)
    assert item.id == "S2B_33TWM_20230601_0_L2A"
    assert item.properties["s2:processing_baseline"] == "05.09"
    assert item.properties["earthsearch:boa_offset_applied"] is False
    assert item.get_collection().id == "sentinel-2-l2a"
    for band, side_m in {"B02": 10, "B03": 10, "B04": 10, "B08": 10, "SCL": 20}.items():
        with rasterio.open(item.assets[band].get_absolute_href()) as source:
            assert source.crs.to_epsg() == 32633
            assert tuple(source.bounds) == PIXELS.bounds
            assert source.res == (side_m, side_m)
            assert source.nodata == 0
            assert list(source.transform)[:6] == item.assets[band].extra_fields["proj:transform"]
            assert source.shape == tuple(item.assets[band].extra_fields["proj:shape"])


def test_same_scene_is_written_the_same_twice(tmp_path):
    acquisition = Acquisition(2023, 6, 1, 0)
    first = write_scene(tmp_path / "a", observation(), acquisition, PIXELS)
    second = write_scene(tmp_path / "b", observation(), acquisition, PIXELS)
    assert json.dumps(first.item) == json.dumps(second.item)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 6
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_grid_file_reads_back_with_ids_that_are_row_numbers(tmp_path):
    write_grid(tmp_path / "grid.gpkg")
    grid = read_grid(tmp_path / "grid.gpkg")
    assert grid.cells == cells()
    assert [cell.grid_id for cell in grid.cells] == list(range(480))


def test_cells_with_imagery_are_a_block_of_two_rows_of_three():
    corners = [cells()[grid_id].bounds[:2] for grid_id in range(463, 469)]
    west, south = corners[3]
    assert corners == [(west + x, south + y) for y in (2500, 0) for x in (0, 2500, 5000)]
    assert imaged().shape == (500 + 32, 750 + 32)
    assert cell_window(463) == (slice(16, 266), slice(16, 266))
    assert cell_window(468) == (slice(266, 516), slice(516, 766))


def test_every_season_has_two_dates_without_clouds_and_mixed_offsets():
    for year in YEARS:
        season = [acquisition for acquisition in ACQUISITIONS if acquisition.year == year]
        assert len(season) == 6
        assert sum(not (one.cover or one.cirrus or one.has_edge) for one in season) >= 2
        assert {one.offset_dn for one in season} == {0, 1000}
    assert any(float(one.baseline) >= 4 and one.offset_applied for one in ACQUISITIONS)


def test_fog_lies_in_one_cell_and_one_year():
    assert [year for year in YEARS if lasting_fog(year) is not None] == [2022]
    fog = lasting_fog(2022)
    assert (fog > 0).sum() == (fog[cell_window(467)] > 0).sum() > 0


def test_some_cells_see_nothing_built():
    quiet = [(grid_id, year) for (grid_id, year), works in WORKS.items() if set(works) <= {"clear cut"}]
    assert quiet == [(465, 2022), (466, 2023), (468, 2024)]


@pytest.fixture
def without_scenes(monkeypatch):
    """A sample of a grid, an empty catalog and truths in which nothing changes."""
    land = SimpleNamespace(change=lambda before, after: np.zeros(imaged().shape, bool))
    monkeypatch.setattr(write, "ACQUISITIONS", ())
    monkeypatch.setattr(write, "sample_landscape", lambda: land)
    monkeypatch.setattr(write, "write_catalog", lambda folder, records: write_json(folder / "catalog.json", {}))


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("without_scenes")
def test_whole_sample_is_not_written_again(tmp_path):
    sample = write.write_sample(tmp_path)
    before = stamps(tmp_path)
    assert write.write_sample(tmp_path) == sample
    assert stamps(tmp_path) == before


@pytest.mark.usefixtures("without_scenes")
def test_sample_with_a_missing_file_is_made_whole(tmp_path):
    sample = write.write_sample(tmp_path)
    files = set(stamps(tmp_path))
    sample.truth_file(465, 2022, 2023).unlink()
    write.write_sample(tmp_path)
    assert set(stamps(tmp_path)) == files


@pytest.mark.usefixtures("without_scenes")
def test_truth_lies_on_the_pixel_grid_of_its_cell(tmp_path):
    path = write.write_sample(tmp_path).truth_file(466, 2021, 2022)
    assert path == tmp_path / "truth" / "2021" / "truth_466_2021_2022.tif"
    image, pixels, names = read_raster(path)
    assert (image.shape, image.dtype, names) == ((1, 250, 250), np.uint8, ("change",))
    assert pixels == PixelGrid.of(cells()[466])
