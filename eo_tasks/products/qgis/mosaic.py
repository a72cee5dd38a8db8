"""Many rasters as one, without copying them: GDAL's virtual format, https://gdal.org/drivers/raster/vrt.html."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from eo_tasks.cog import BLOCK_PX
from eo_tasks.grid import Bounds

_DTYPES = {"uint8": "Byte", "uint16": "UInt16"}


@dataclass(frozen=True)
class Band:
    """A band that all rasters of a mosaic have."""

    name: str
    dtype: str
    nodata: int


@dataclass(frozen=True, slots=True)
class Source:
    """One raster of a mosaic.

    Attributes:
        href: Its file, relative to the mosaic's, or absolute.
        bounds: In the CRS of the mosaic.
    """

    href: str
    bounds: Bounds


@dataclass(frozen=True)
class Mosaic:
    """Rasters of one CRS, resolution and kind; where two overlap the later one is on top."""

    epsg: int
    resolution_m: float
    bands: Sequence[Band]
    sources: Sequence[Source]

    @property
    def bounds(self) -> Bounds:
        """Around all of them."""
        xmin, ymin, xmax, ymax = zip(*(source.bounds for source in self.sources), strict=True)
        return min(xmin), min(ymin), max(xmax), max(ymax)

    def xml(self) -> Iterator[str]:
        """The file's text, piece by piece."""
        size, (xmin, ymin, xmax, ymax) = self.resolution_m, self.bounds
        width, height = self._px(xmax - xmin), self._px(ymax - ymin)
        yield f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">\n'
        yield f"  <SRS>EPSG:{self.epsg}</SRS>\n"
        yield f"  <GeoTransform>{xmin:.10g}, {size:.10g}, 0, {ymax:.10g}, 0, {-size:.10g}</GeoTransform>\n"
        for number, band in enumerate(self.bands, 1):
            yield f'  <VRTRasterBand dataType="{_DTYPES[band.dtype]}" band="{number}">\n'
            yield f"    <Description>{escape(band.name)}</Description>\n"
            yield f"    <NoDataValue>{band.nodata}</NoDataValue>\n"
            for source in self.sources:
                yield self._source(source, band, number, (xmin, ymax))
            yield "  </VRTRasterBand>\n"
        yield "</VRTDataset>\n"

    def _source(self, source: Source, band: Band, number: int, corner: tuple[float, float]) -> str:
        west, south, east, north = source.bounds
        width, height = self._px(east - west), self._px(north - south)
        left, top = self._px(west - corner[0]), self._px(corner[1] - north)
        is_relative = int(not source.href.startswith("/"))
        return (
            "    <ComplexSource>\n"
            f'      <SourceFilename relativeToVRT="{is_relative}">{escape(source.href)}</SourceFilename>\n'
            f"      <SourceBand>{number}</SourceBand>\n"
            f'      <SourceProperties RasterXSize="{width}" RasterYSize="{height}" DataType="{_DTYPES[band.dtype]}"'
            f' BlockXSize="{BLOCK_PX}" BlockYSize="{BLOCK_PX}"/>\n'
            f'      <SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>\n'
            f'      <DstRect xOff="{left}" yOff="{top}" xSize="{width}" ySize="{height}"/>\n'
            f"      <NODATA>{band.nodata}</NODATA>\n"
            "    </ComplexSource>\n"
        )

    def _px(self, metres: float) -> int:
        return round(metres / self.resolution_m)
