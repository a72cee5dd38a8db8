"""Mosaics, read by GDAL."""

import numpy as np
import pytest
import rasterio

from eo_tasks.cog import write_cog
from eo_tasks.products.qgis import Band, Mosaic, Source
from eo_tasks.raster import PixelGrid

BANDS = (Band("B02", "uint16", 0), Band("clear <count>", "uint16", 0))


def cell(tmp_path, name: str, x: int, y: int, value: int) -> Source:
    pixels = PixelGrid(32633, (500_000 + x, 5_000_000 + y, 500_040 + x, 5_000_030 + y))
    image = np.full((2, *pixels.shape), value, np.uint16)
    image[1] += 1
    (tmp_path / "images").mkdir(exist_ok=True)
    write_cog(tmp_path / "images" / name, image, pixels, nodata=0, names=[band.name for band in BANDS])
    return Source(f"../images/{name}", pixels.bounds)


@pytest.fixture
def mosaic(tmp_path) -> Mosaic:
    """Two cells of 4 × 3 pixels, one south-east of the other; a name that XML has to escape."""
    sources = [cell(tmp_path, "a & b.tiff", 0, 60, 10), cell(tmp_path, "b.tiff", 40, 30, 20)]
    (tmp_path / "qgis").mkdir()
    made = Mosaic(32633, 10, BANDS, sources)
    (tmp_path / "qgis" / "m.vrt").write_text("".join(made.xml()))
    return made


def test_a_mosaic_shows_each_raster_in_its_place_and_nodata_elsewhere(mosaic, tmp_path):
    with rasterio.open(tmp_path / "qgis" / "m.vrt") as source:
        assert (source.crs.to_epsg(), tuple(source.bounds)) == (32633, mosaic.bounds)
        assert source.descriptions == ("B02", "clear <count>")
        assert source.nodatavals == (0, 0)
        first, second = source.read()
    expected = np.zeros((6, 8), np.uint16)
    expected[:3, :4], expected[3:, 4:] = 10, 20
    assert np.array_equal(first, expected)
    assert np.array_equal(second, np.where(expected, expected + 1, 0))


def test_a_mosaic_may_be_moved_with_its_rasters(mosaic, tmp_path):
    (tmp_path / "moved").mkdir()
    for name in ("images", "qgis"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    with rasterio.open(tmp_path / "moved" / "qgis" / "m.vrt") as source:
        assert source.read(1).max() == 20
