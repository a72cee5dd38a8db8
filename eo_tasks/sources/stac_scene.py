"""One scene of a STAC catalog: which file holds a band, its radiometric offset, its pixels on our grid."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import odc.stac
import pystac
import rasterio
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from odc.loader import RioDriver, RioReader
from rasterio.errors import RasterioError
from rasterio.warp import transform_bounds

from eo_tasks.errors import SourceError, SourceUnavailableError
from eo_tasks.raster import REFLECTANCE_SCALE

if TYPE_CHECKING:
    from eo_tasks.raster import PixelGrid

SCL = "SCL"
UNUSABLE_SCL = 0  # class "no data"; Sentinel-2 L2A Algorithm Theoretical Basis Document
LAST_SCL = 11  # class "snow or ice"; higher values are no classes
BASELINE_OFFSET = -1000  # BOA_ADD_OFFSET of processing baseline 04.00 and later, Sentinel-2 Products Specification
BASELINE_WITH_OFFSET = 4.0
APPLIED = "applied by the catalog"
UNKNOWN = "none: the item tells neither offset nor baseline"

# Other names of a band: earth-search's asset keys and the common names of the STAC eo extension.
NAMES = {
    "B01": ("coastal",),
    "B02": ("blue",),
    "B03": ("green",),
    "B04": ("red",),
    "B05": ("rededge1", "rededge071"),
    "B06": ("rededge2", "rededge075"),
    "B07": ("rededge3", "rededge078"),
    "B08": ("nir",),
    "B8A": ("nir08",),
    "B09": ("nir09",),
    "B11": ("swir16",),
    "B12": ("swir22",),
    SCL: ("scl",),
}
_GDAL = {"GDAL_HTTP_MAX_RETRY": 4, "GDAL_HTTP_RETRY_DELAY": 1, "GDAL_HTTP_TIMEOUT": 120, "GDAL_HTTP_CONNECTTIMEOUT": 20}
# Listing a bucket for side-car files costs a request per file; beside local files they may tell the nodata value.
_GDAL_REMOTE = _GDAL | {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}


@dataclass(frozen=True)
class Scene:
    """One granule of a catalog and the files of the bands asked for.

    Attributes:
        offsets: DN to add before the division by 10000, by band.
        offset_note: What decided it.
        item: The bands' files under our band names, for odc-stac.
    """

    id: str
    day: date
    observation: tuple[str, ...]
    offsets: dict[str, float]
    offset_note: str
    item: pystac.Item = field(repr=False, compare=False)

    @classmethod
    def of(cls, item: pystac.Item, bands: Sequence[str], pixels: "PixelGrid") -> "Scene":
        """Find the bands' files in an item.

        Raises:
            SourceError: The item has no file of a band, or its values are no Sentinel-2 reflectance.
        """
        assets = {band: find_asset(item, band) for band in (*bands, SCL)}
        judged = {band: _offset(item, assets[band]) for band in bands}
        notes = sorted({note for _, note in judged.values()})
        west, south, east, north = transform_bounds(pixels.epsg, 4326, *pixels.bounds)
        # Footprints in catalogs are rough. The file itself says where it has pixels, so the item covers the whole cell.
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        taken = _acquired(item)
        plain = pystac.Item(
            item.id, {"type": "Polygon", "coordinates": [ring]}, [west, south, east, north], taken, properties={}
        )
        for band, asset in assets.items():
            plain.add_asset(band, _plain_asset(asset))
        middle = (west + east) / 2
        solar_day = (taken + timedelta(hours=middle / 15)).date()
        orbit = item.properties.get("sat:relative_orbit", "")
        return cls(
            id=item.id,
            day=taken.date(),
            observation=(solar_day.isoformat(), str(item.properties.get("platform", "")).lower(), str(orbit)),
            offsets={band: offset for band, (offset, _) in judged.items()},
            offset_note="; ".join(notes),
            item=plain,
        )

    def read(
        self, bands: Sequence[str], box: GeoBox, masked_scl: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read a window of the scene.

        Reflectance is resampled bilinearly, which leaves pixels on our own grid as they are and moves those of other
        zones without the half-pixel jumps of the nearest neighbour; classes are never interpolated.

        Args:
            bands: Band names.
            box: The window.
            masked_scl: Classes that are not clear, besides "no data" and values that are no class.

        Returns:
            DN with the offset added, shape (band, y, x), and where the scene is clear in every band, shape (y, x).

        Raises:
            SourceUnavailableError: A remote file did not answer.
            SourceError: A file is missing, broken, or may not be read.
        """
        is_remote = any(asset.href.startswith(("http", "s3:", "gs:")) for asset in self.item.assets.values())
        try:
            with rasterio.Env(**(_GDAL_REMOTE if is_remote else _GDAL)):
                loaded = odc.stac.load(
                    [self.item],
                    bands=[*bands, SCL],
                    geobox=box,
                    resampling={SCL: "nearest", "*": "bilinear"},
                    dtype="float32",
                    nodata=float("nan"),
                    driver=_DRIVER,
                )
        except RasterioError as error:
            raise _unreadable(self.id, error, is_remote) from error
        image = np.stack([loaded[band].values[0] + np.float32(self.offsets[band]) for band in bands])
        scl = loaded[SCL].values[0]
        clear = (scl > UNUSABLE_SCL) & (scl <= LAST_SCL) & ~np.isin(scl, list(masked_scl))
        return image, clear & np.isfinite(image).all(axis=0)


def find_asset(item: pystac.Item, band: str) -> pystac.Asset:
    """The asset of a band: by its key, by the name of its only band, or by that band's common name.

    Raises:
        SourceError: There is none.
    """
    names = (band, *NAMES.get(band, ()))
    found = []
    for key, asset in item.assets.items():
        declared = _declared_bands(asset)
        of_band = {str(told) for told in _names_told(declared[0])} if len(declared) == 1 else set()
        if key in names or (len(declared) < 2 and (key.split("_")[0] == band or of_band & set(names))):
            found.append((key not in names, _ground_sampling_m(asset), len(key), key))
    if not found:
        raise SourceError(
            f"scene {item.id} has no file of band {band}; it has {', '.join(sorted(item.assets)) or 'none'}. "
            "Check STAC_COLLECTION and COMPOSITE_BANDS: the collection must be Sentinel-2 L2A."
        )
    return item.assets[min(found)[-1]]


def _unreadable(scene: str, error: Exception, is_remote: bool) -> Exception:
    message = str(error.__cause__ or error).partition("?")[0]
    if is_remote and _may_go_away(message):
        return SourceUnavailableError(f"scene {scene}: a file did not answer ({message}). It is tried again.")
    return SourceError(f"scene {scene}: a file cannot be read ({message}). Check the address and rights of its assets.")


def _may_go_away(message: str) -> bool:
    refused = ("response code: 401", "response code: 403", "response code: 404", "AccessDenied", "InvalidCredentials")
    return not any(sign in message for sign in (*refused, "No such file", "not recognized as"))


def _offset(item: pystac.Item, asset: pystac.Asset) -> tuple[float, str]:
    """The DN to add, and why; judged by what the item tells, never by its date.

    earth-search lists ``raster:bands`` offsets even where it has applied them, so its flag comes first.
    """
    flag = item.properties.get("earthsearch:boa_offset_applied")
    scale, offset = _scale_and_offset(asset)
    if scale is not None and not np.isclose(scale, 1 / REFLECTANCE_SCALE):
        raise SourceError(
            f"scene {item.id}: its values have scale {scale:g}, not 1/{REFLECTANCE_SCALE}. "
            "Check STAC_COLLECTION: it must be Sentinel-2 L2A surface reflectance."
        )
    baseline = _baseline(item)
    by_baseline = BASELINE_OFFSET if baseline is not None and baseline >= BASELINE_WITH_OFFSET else 0
    if flag is True:
        return 0, APPLIED
    if flag is None and offset is not None:
        return round(offset * REFLECTANCE_SCALE), f"{round(offset * REFLECTANCE_SCALE):+d} DN by the file's metadata"
    if baseline is not None:
        return by_baseline, f"{by_baseline:+d} DN by processing baseline {baseline:05.2f}"
    if offset is not None:
        return round(offset * REFLECTANCE_SCALE), f"{round(offset * REFLECTANCE_SCALE):+d} DN by the file's metadata"
    return 0, UNKNOWN


def _baseline(item: pystac.Item) -> float | None:
    told = item.properties.get("s2:processing_baseline", item.properties.get("processing:version"))
    try:
        return float(told) if told is not None else None
    except (TypeError, ValueError):
        return None


def _scale_and_offset(asset: pystac.Asset) -> tuple[float | None, float | None]:
    told = asset.extra_fields
    first: dict[str, Any] = next(iter(told.get("raster:bands") or told.get("bands") or []), {})
    scale = first.get("scale", first.get("raster:scale", told.get("raster:scale")))
    offset = first.get("offset", first.get("raster:offset", told.get("raster:offset")))
    return scale, offset


def _plain_asset(asset: pystac.Asset) -> pystac.Asset:
    told = asset.extra_fields
    first: dict[str, Any] = next(iter(told.get("raster:bands") or told.get("bands") or []), {})
    nodata = first.get("nodata", told.get("nodata"))
    extra = {} if nodata is None else {"raster:bands": [{"nodata": nodata}]}
    href = asset.get_absolute_href() or asset.href
    return pystac.Asset(href.removeprefix("file://"), media_type="image/tiff", roles=["data"], extra_fields=extra)


def _declared_bands(asset: pystac.Asset) -> list[dict[str, Any]]:
    return list(asset.extra_fields.get("eo:bands") or asset.extra_fields.get("bands") or [])


def _names_told(band: dict[str, Any]) -> list[Any]:
    return [band[key] for key in ("name", "common_name", "eo:common_name") if key in band]


def _ground_sampling_m(asset: pystac.Asset) -> float:
    told = asset.extra_fields
    transform = told.get("proj:transform") or [told.get("gsd") or float("inf")]
    return float(told.get("gsd") or transform[0])


def _acquired(item: pystac.Item) -> Any:
    return item.datetime or item.common_metadata.start_datetime


class _Reader(RioReader):
    """Takes the nodata value that the item declares where the file declares none."""

    def read(self, cfg: Any, dst_geobox: GeoBox, **kwargs: Any) -> Any:
        declared = cfg.meta.nodata if cfg.meta is not None else None
        return super().read(replace(cfg, src_nodata_fallback=declared), dst_geobox, **kwargs)


class _Driver(RioDriver):
    def open(self, src: Any, ctx: Any) -> _Reader:
        return _Reader(src, ctx)


_DRIVER = _Driver()
