"""BTC on two files, against the authors' results and against images in memory."""

import json

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from eo_tasks.btc import rasters
from eo_tasks.btc.detect import Tiling
from eo_tasks.btc.files import compare_files
from eo_tasks.btc.model import compare, make_model
from eo_tasks.errors import RasterError
from eo_tasks.files import sha256
from eo_tasks.settings import Precision
from tests.images import PLACE, read_image, write_image

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")

NAME = "change_mask_2021_2022"


@pytest.fixture
def model(checkpoint):
    return make_model(checkpoint, torch.device("cpu"), Precision.FLOAT32)


@pytest.fixture
def pair(tmp_path, golden):
    """The golden pair as GeoTIFFs of 10 m."""
    return [
        write_image(tmp_path / f"{year}.tif", golden[f"image{letter}"][0])
        for year, letter in ((2021, "A"), (2022, "B"))
    ]


def noise(seed, height, width):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def listed(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_image_of_one_window_gets_the_authors_probabilities(tmp_path, model, pair, golden):
    made = compare_files(model, *pair, tmp_path / "out", with_float=True)
    found = read_image(made.probability_float32)
    assert (found.shape, found.dtype) == ((96, 96), np.float32)
    # Back to 96 pixels by area: each of them covers (8/3)² of the network's 256.
    source, starts = np.arange(256), np.arange(96)[:, None] * 8 / 3
    cover = np.clip(np.minimum(source + 1, starts + 8 / 3) - np.maximum(source, starts), 0, None) * 3 / 8
    expected = cover @ golden["prob"][0, 0].astype(np.float64) @ cover.T
    assert np.abs(found - expected).max() < 1e-4
    assert np.abs(read_image(made.files.probability) - expected * 254).max() < 0.55
    assert (read_image(made.files.png) == np.where(found > 0.2, 255, 0)).all()


def test_the_record_tells_what_was_made_of_what(tmp_path, model, pair, golden_folder):
    made = compare_files(model, *pair, tmp_path / "out", threshold=0.4)
    classes = read_image(made.files.cog)
    changed = int((classes == 1).sum())
    record = json.loads((tmp_path / "out" / f"{NAME}.json").read_text())
    assert record == made.record
    assert listed(tmp_path / "out") == [f"{NAME}.json", f"{NAME}.png", f"{NAME}.tiff", f"{NAME}_probability.tiff"]
    assert {key: record[key] for key in list(record)[:-4]} == {
        "before": {"path": str(pair[0]), "sha256": sha256(pair[0])},
        "after": {"path": str(pair[1]), "sha256": sha256(pair[1])},
        "warped": None,
        "model": {
            "checkpoint": str(golden_folder),
            "revision": "local",
            "weights_sha256": sha256(golden_folder / "model.safetensors"),
            "precision": "float32",
        },
        "threshold": 0.4,
        "window_px": 96,
        "stride_px": 64,
        "stretch": None,
        "changed_px": changed,
        "seen_px": 96 * 96,
        "changed_ha": pytest.approx(changed / 100),
        "seen_ha": 92.16,
        "crs": "EPSG:32633",
        "transform": [10, 0, 500_000, 0, -10, 5_000_000],
        "width": 96,
        "height": 96,
        "cog": {"unchanged": 0, "changed": 1, "not_seen": 255},
        "probability": {"scale": "1/254", "not_seen": 255},
    }
    assert (record["size_bytes"], record["sha256"]) == (made.files.png.stat().st_size, sha256(made.files.png))
    assert 0 < changed < 96 * 96


def test_the_masks_lie_where_the_images_do(tmp_path, model, pair):
    made = compare_files(model, *pair, tmp_path / "out", with_float=True)
    for path in (made.files.cog, made.files.probability, made.probability_float32):
        with rasterio.open(path) as source:
            assert (source.crs, source.transform, source.shape) == ("EPSG:32633", PLACE, (96, 96))


def test_images_that_lie_nowhere_have_masks_without_an_area(tmp_path, model, golden):
    pair = [write_image(tmp_path / f"{letter}.png", golden[f"image{letter}"][0], crs=None) for letter in "AB"]
    made = compare_files(model, *pair, tmp_path / "out", with_float=True)
    assert [made.record[key] for key in ("crs", "changed_ha", "seen_ha")] == [None, None, None]
    assert made.record["seen_px"] == 96 * 96
    assert (read_image(made.files.cog) == read_image(made.files.png) // 255).all()


def test_a_raster_larger_than_a_window_is_read_in_strips_and_gives_what_it_gives_whole(monkeypatch, tmp_path, model):
    before, after = noise(1, 300, 150), noise(2, 300, 150)
    pair = [write_image(tmp_path / "2021.tif", before), write_image(tmp_path / "2022.tif", after)]
    asked, rows = [], rasters.RasterPicture.rows
    monkeypatch.setattr(
        rasters.RasterPicture, "rows", lambda self, start, stop: asked.append((start, stop)) or rows(self, start, stop)
    )
    done = []
    made = compare_files(model, *pair, tmp_path / "out", with_float=True, follow=done.append)
    assert np.abs(read_image(made.probability_float32) - compare(model, before, after)).max() < 1e-6
    assert max(stop - start for start, stop in asked) <= 96
    assert sorted(asked) == sorted(2 * [(0, 96), (96, 160), (160, 224), (224, 288), (288, 300)])  # each row once a year
    assert sum(done) == 300
    assert len(done) > 3


def test_what_either_year_does_not_show_is_not_seen(tmp_path, model):
    before, after = noise(1, 40, 50), noise(2, 40, 50)
    before[:7], after[:, :9] = 0, 0
    pair = [write_image(tmp_path / f"{year}.tif", image, nodata=0) for year, image in ((2021, before), (2022, after))]
    made = compare_files(model, *pair, tmp_path / "out", with_float=True, tiling=Tiling(32, 24))
    unseen = np.zeros((40, 50), bool)
    unseen[:7], unseen[:, :9] = True, True
    assert (np.isnan(read_image(made.probability_float32)) == unseen).all()
    assert ((read_image(made.files.cog) == 255) == unseen).all()
    assert (read_image(made.files.png)[unseen] == 0).all()
    assert made.record["seen_px"] == (~unseen).sum()


def test_reflectance_is_shown_by_the_stretch_and_the_record_says_so(tmp_path, model):
    rng = np.random.default_rng(3)
    images = rng.integers(1, 3000, (2, 3, 40, 40), dtype=np.uint16)
    names = ("B02", "B03", "B04")
    pair = [
        write_image(tmp_path / f"{year}.tif", image, names=names)
        for year, image in zip((2021, 2022), images, strict=True)
    ]
    stretch = {"B04": (0.0, 0.3), "B03": (0.0, 0.3), "B02": (0.0, 0.3)}
    made = compare_files(model, *pair, tmp_path / "out", with_float=True, stretch=stretch)
    shown = [np.rint(image[::-1].transpose(1, 2, 0) / np.float32(3000) * 255).astype(np.uint8) for image in images]
    assert (
        np.abs(read_image(made.probability_float32) - compare(model, *shown)).max() < 0.02
    )  # levels round differently
    assert made.record["stretch"] == [["B04", 0.0, 0.3], ["B03", 0.0, 0.3], ["B02", 0.0, 0.3]]


def test_a_later_image_on_other_pixels_is_warped_if_that_is_asked_for(tmp_path, model):
    before, after = noise(1, 60, 60), noise(2, 60, 60)
    pair = [
        write_image(tmp_path / "2021.tif", before),
        write_image(tmp_path / "2022.tif", after, transform=PLACE @ Affine.translation(10, 0)),
    ]
    with pytest.raises(RasterError, match="have different pixels"):
        compare_files(model, *pair, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    made = compare_files(model, *pair, tmp_path / "out", align=True, with_float=True)
    found = read_image(made.probability_float32)
    assert np.isnan(found[:, :10]).all()
    moved, shown = np.zeros_like(after), before.copy()
    moved[:, 10:], shown[:, :10] = after[:, :50], 0
    assert np.abs(found - compare(model, shown, moved))[:, 10:].max() < 1e-6
    assert made.record["warped"] == {
        "image": "after",
        "from": "EPSG:32633, 60×60 px of 10 × 10 from (500100, 5000000)",
    }


def test_a_file_that_breaks_off_leaves_no_mask_behind(tmp_path, model):
    pair = [write_image(tmp_path / f"{year}.tif", noise(year, 300, 120)) for year in (2021, 2022)]
    pair[1].write_bytes(pair[1].read_bytes()[:80_000])
    with pytest.raises(RasterError, match=r"2022\.tif: cannot be read as a raster"):
        compare_files(model, *pair, tmp_path / "out")
    assert listed(tmp_path / "out") == []


def test_a_second_run_gives_the_same_files(tmp_path, model, pair):
    made = compare_files(model, *pair, tmp_path / "out")
    first = {path.name: path.read_bytes() for path in made.files.all}
    again = compare_files(model, *pair, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in again.files.all} == first
    assert made.record | {"made_at": ""} == again.record | {"made_at": ""}
