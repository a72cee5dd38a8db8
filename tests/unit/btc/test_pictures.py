"""What the network is shown of an image."""

import numpy as np

from eo_tasks.btc.pictures import ArrayPicture, CompositePicture
from eo_tasks.cog import open_composite, write_composite
from eo_tasks.raster import PixelGrid, to_rgb

PIXELS = PixelGrid(32633, (500_000, 5_000_000, 500_080, 5_000_060))  # 8 × 6


def test_an_array_is_shown_as_it_is_with_data_everywhere():
    rgb = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    picture = ArrayPicture(rgb)
    assert picture.shape == (5, 4)
    rows, valid = picture.rows(1, 3)
    assert (rows == rgb[1:3]).all()
    assert valid.shape == (2, 4)
    assert valid.all()


def test_an_array_may_come_with_where_it_holds_data():
    valid = np.arange(20).reshape(5, 4) % 3 == 0
    _, rows = ArrayPicture(np.zeros((5, 4, 3), np.uint8), valid).rows(2, 5)
    assert (rows == valid[2:5]).all()


def test_a_composite_is_shown_stretched_with_its_bands_as_red_green_blue(composite):
    # B04 0.09 / 0.3 = 30 %, 76.5; B03 0.04 / 0.2 = 20 %, 51; B02 0.01 / 0.1 = 10 %, 25.5
    stretch = {"B04": (0.0, 0.3), "B03": (0.0, 0.2), "B02": (0.0, 0.1)}
    picture = CompositePicture(composite([[[100]], [[400]], [[900]]]), stretch)
    rgb, _ = picture.rows(0, 4)
    assert picture.shape == (4, 6)
    assert rgb.shape == (4, 6, 3)
    assert np.abs(rgb[0, 0] - np.array([76.5, 51, 25.5])).max() <= 0.5


def test_a_composite_holds_data_where_all_its_bands_do(composite):
    made = composite(1000)
    made.dn[1, 2, 3] = made.dn[0, 3, 0] = 0
    _, valid = CompositePicture(made, {"B04": (0.0, 0.3)}).rows(2, 4)
    assert valid.tolist() == [[True, True, True, False, True, True], [False, True, True, True, True, True]]


def test_a_stored_composite_is_shown_as_one_in_memory(composite, tmp_path):
    stretch = {"B04": (0.0, 0.3), "B03": (0.0, 0.2), "B02": (0.0, 0.1)}
    made = composite(np.random.default_rng(1).integers(0, 3000, (3, *PIXELS.shape)), PIXELS)
    write_composite(tmp_path / "c.tiff", made)
    with open_composite(tmp_path / "c.tiff") as stored:
        picture = CompositePicture(stored, stretch)
        assert picture.shape == (6, 8)
        parts = [picture.rows(start, stop) for start, stop in ((0, 1), (1, 4), (4, 6))]
    assert (np.concatenate([rgb for rgb, _ in parts]) == to_rgb(made, stretch)).all()
    assert (np.concatenate([valid for _, valid in parts]) == made.valid).all()
