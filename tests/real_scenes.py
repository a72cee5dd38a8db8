"""The real Sentinel-2 scenes that may lie beside the repository, and numpy's answer for them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
from numpy.typing import NDArray
from rasterio.warp import Resampling, reproject

from eo_tasks.raster import PixelGrid

SCENES = Path(__file__).resolve().parents[2] / "shared" / "data" / "s2l2a_33TWM_2023_08"
SLOVENIA = SCENES.parent / "slovenia_grid_expanded.gpkg"
COLLECTION = "SENTINEL2_L2A"
BANDS = ("B02", "B03", "B04")
CLEAR_SCL = (1, 2, 4, 5, 6, 7)


def real_catalog(folder: Path) -> Path:
    """Write a static catalog of the real scenes; gives its ``catalog.json``."""
    catalog = pystac.Catalog("real", "Real scenes")
    extent = pystac.Extent(pystac.SpatialExtent([[-180, -90, 180, 90]]), pystac.TemporalExtent([[None, None]]))
    shelf = pystac.Collection(COLLECTION, "Real scenes", extent)
    catalog.add_child(shelf)
    for path in _folders():
        facts = json.loads((path / "item.json").read_text())
        told = {key: value for key, value in facts.items() if ":" in key and not key.startswith("proj")}
        taken = pystac.utils.str_to_datetime(facts["datetime"])
        record = pystac.Item(facts["id"], facts["geometry"], facts["bbox"], taken, told)
        for file in sorted(path.glob("*.tif")):
            record.add_asset(file.stem, pystac.Asset(str(file)))
        shelf.add_item(record)
    catalog.normalize_and_save(str(folder / "real"), pystac.CatalogType.SELF_CONTAINED)
    return folder / "real" / "catalog.json"


def numpys_median(pixels: PixelGrid) -> tuple[NDArray[Any], NDArray[Any]]:
    """The composite of the real scenes on a pixel grid, made with rasterio and numpy alone.

    Returns:
        DN, shape (band, y, x), not rounded and NaN where unseen; clear observations, shape (y, x).
    """
    classes = _on_grid("SCL", pixels, Resampling.nearest)
    stack = np.stack([_on_grid(band, pixels, Resampling.bilinear) for band in BANDS], axis=1)
    clear = np.isin(classes, CLEAR_SCL) & np.isfinite(stack).all(axis=1)
    median = np.full(stack.shape[1:], np.nan)
    seen = clear.any(axis=0)
    median[:, seen] = np.nanmedian(np.where(clear[:, None], stack, np.nan)[..., seen], axis=0)
    return median, clear.sum(axis=0)


def _folders() -> list[Path]:
    return sorted(path for path in SCENES.iterdir() if path.is_dir())


def _on_grid(band: str, pixels: PixelGrid, resampling: Resampling) -> NDArray[Any]:
    folders = _folders()
    read = np.full((len(folders), *pixels.shape), np.nan, np.float32)
    for image, folder in zip(read, folders, strict=True):
        with rasterio.open(folder / f"{band}.tif") as file:
            reproject(
                rasterio.band(file, 1),
                image,
                dst_transform=pixels.transform,
                dst_crs=f"EPSG:{pixels.epsg}",
                dst_nodata=np.nan,
                resampling=resampling,
            )
    return read
