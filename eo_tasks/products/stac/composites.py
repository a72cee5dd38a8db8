"""Composites as STAC items."""

from collections.abc import Mapping
from typing import Any

from eo_tasks.products.stac.item import (
    COG,
    EO,
    FILE,
    JSON,
    PNG,
    PROCESSING,
    PROJECTION,
    RASTER,
    Json,
    Origin,
    file_of,
    item,
    period_of,
    place_of,
    projection_of,
    software_of,
)
from eo_tasks.raster import CLEAR_COUNT

# Common names and wavelengths in micrometres as the EO extension 1.1.0 gives them for Sentinel-2.
_BANDS = {
    "B01": ("coastal", 0.443),
    "B02": ("blue", 0.49),
    "B03": ("green", 0.56),
    "B04": ("red", 0.665),
    "B05": ("rededge", 0.705),
    "B06": ("rededge", 0.74),
    "B07": ("rededge", 0.783),
    "B08": ("nir", 0.842),
    "B8A": ("nir08", 0.865),
    "B09": ("nir09", 0.945),
    "B11": ("swir16", 1.61),
    "B12": ("swir22", 2.19),
}


def composite_id(grid_id: int, year: int) -> str:
    """The item's id: the name of the composite's file."""
    return f"sentinel2_grid_{grid_id}_{year}_08"


def composite_item(record: Mapping[str, Any], origin: Origin, cog: str, thumbnail: str | None = None) -> Json:
    """The item of a composite.

    Args:
        record: The JSON beside its COG.
        origin: Where the item lies in the catalog.
        cog: The COG, relative to the item.
        thumbnail: A picture of it, likewise.
    """
    grid_id, year, months = record["grid_id"], record["year"], record.get("months")
    assets: dict[str, Json] = {
        "composite": {
            "href": cog,
            "type": COG,
            "title": "Surface reflectance, median of the season",
            "roles": ["data", "reflectance"],
            **bands_of(record),
            **file_of(record),
        },
        "record": {
            "href": f"{cog.removesuffix('.tiff')}.json",
            "type": JSON,
            "title": "Where the pixels come from",
            "roles": ["metadata"],
        },
    }
    if thumbnail is not None:
        assets["thumbnail"] = {"href": thumbnail, "type": PNG, "title": "Quicklook", "roles": ["thumbnail"]}
    return item(
        composite_id(grid_id, year),
        origin,
        extensions=[EO, FILE, PROCESSING, PROJECTION, RASTER],
        place=place_of(record),
        period=period_of(year, months),
        properties={
            "title": f"Cell {record.get('label') or grid_id}, {year}",
            "constellation": "sentinel-2",
            "instruments": ["msi"],
            **projection_of(record),
            "processing:level": "L3",
            "processing:lineage": _lineage(record),
            "processing:software": software_of(record),
            "eo_tasks:grid_id": grid_id,
            "eo_tasks:label": record.get("label"),
            "eo_tasks:year": year,
            "eo_tasks:source": record.get("source"),
            "eo_tasks:collection": record.get("collection"),
            "eo_tasks:scenes": record.get("scenes") or None,
            "eo_tasks:dates": record.get("dates") or None,
            "eo_tasks:offset": record.get("offset") or None,
            "eo_tasks:clear_share": record.get("clear_share"),
            "eo_tasks:clear_count_mean": record.get("clear_count_mean"),
            "eo_tasks:pixels_sha256": record.get("pixels_sha256"),
        },
        assets=assets,
    )


def bands_of(record: Mapping[str, Any]) -> Json:
    """The bands of a composite's COG in order: as STAC 1.1 tells them, and as the extensions of before do."""
    data_type, nodata = record.get("dtype", "uint16"), record.get("nodata", 0)
    size, scale = record["resolution_m"], record.get("scale", 1e-4)
    common = {"data_type": data_type, "nodata": nodata}
    bands: list[Json] = [{"name": name, **common} for name in record["bands"]]
    spectral: list[Json] = [{"name": name} for name in record["bands"]]
    for band in spectral:
        if band["name"] in _BANDS:
            band["common_name"], band["center_wavelength"] = _BANDS[band["name"]]
    counted = {"name": CLEAR_COUNT, "description": "Clear observations of the pixel"}
    rasters = [{**band, "scale": scale, "offset": 0, "spatial_resolution": size} for band in bands]
    return {
        "bands": [*bands, counted | common],
        "eo:bands": [*spectral, counted],
        "raster:bands": [*rasters, {"name": CLEAR_COUNT, **common, "spatial_resolution": size}],
    }


def _lineage(record: Mapping[str, Any]) -> str:
    months, masked = record.get("months"), record.get("masked_scl")
    season = f" in months {months[0]}–{months[-1]}" if months else ""
    clear = f", without SCL classes {', '.join(map(str, masked))}" if masked else ""
    return f"Median of the clear Sentinel-2 L2A observations{season} of {record['year']}{clear}"
