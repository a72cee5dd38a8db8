"""Find the scenes of a cell and season in a STAC API or a static catalog."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import pystac
from pystac_client import Client
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from rasterio.warp import transform_bounds
from shapely.errors import ShapelyError
from shapely.geometry import box, shape

from eo_tasks.errors import SourceError, SourceUnavailableError
from eo_tasks.urls import redacted

if TYPE_CHECKING:
    from eo_tasks.sources.request import CompositeRequest

TIMEOUT_S = 60
RETRIES = 3
BUSY = (408, 425, 429, 500, 502, 503, 504)


class _WebCatalogReader(StacApiIO):
    """Reads a static catalog over HTTP, repeating what fails; pystac-client alone would take its parts for an API's."""

    def stac_object_from_dict(self, *args: Any, **kwargs: Any) -> Any:
        return pystac.StacIO.stac_object_from_dict(self, *args, **kwargs)


@dataclass(frozen=True)
class StacCatalog:
    """A STAC API, or the path or URL of a static ``catalog.json``, and one collection in it."""

    url: str
    collection: str

    def __str__(self) -> str:
        return redacted(self.url).partition("?")[0]

    def search(self, request: "CompositeRequest") -> list[pystac.Item]:
        """The items of the request's season that touch its cell and are not too cloudy, oldest first.

        Raises:
            SourceUnavailableError: The catalog did not answer.
            SourceError: There is no such catalog or collection, or it is no STAC.
        """
        bbox = transform_bounds(request.pixels.epsg, 4326, *request.pixels.bounds, densify_pts=21)
        try:
            items = [item for item in self._candidates(request, bbox) if _fits(item, request, bbox)]
        except APIError as error:
            raise self._refusal(error) from error
        except FileNotFoundError as error:
            raise SourceError(f"{self}: {error.filename} does not exist. Check STAC_URL.") from error
        except (pystac.STACError, pystac.STACTypeError, ValueError, KeyError, TypeError, AttributeError) as error:
            # pystac checks little: JSON of another kind fails in many ways.
            raise SourceError(
                f"{self}: no STAC API and no static catalog ({_short(error)}). STAC_URL takes the address of an API, "
                "or the path or URL of a catalog.json."
            ) from error
        except OSError as error:
            raise SourceUnavailableError(f"{self}: did not answer ({_short(error)}). It is tried again.") from error
        return sorted(items, key=lambda item: (acquired(item), item.id))

    def _candidates(
        self, request: "CompositeRequest", bbox: tuple[float, float, float, float]
    ) -> Iterator[pystac.Item]:
        is_url = self.url.startswith(("http://", "https://"))
        if is_url and not self.url.partition("?")[0].endswith(".json"):
            yield from self._ask(request, bbox)
            return
        reader = _WebCatalogReader(timeout=TIMEOUT_S, max_retries=RETRIES) if is_url else None
        try:
            root = pystac.Catalog.from_file(self.url, stac_io=reader)
            folders = {found.id: found for found in root.get_all_collections()}
            if isinstance(root, pystac.Collection):
                folders[root.id] = root
            if self.collection not in folders:
                raise self._missing(folders)
            yield from folders[self.collection].get_items(recursive=True)
        finally:
            if reader:
                reader.session.close()

    def _ask(self, request: "CompositeRequest", bbox: tuple[float, float, float, float]) -> Iterator[pystac.Item]:
        reader = StacApiIO(timeout=TIMEOUT_S, max_retries=RETRIES)
        try:
            client = Client.open(self.url, stac_io=reader)
            if client.get_search_link() is None:
                raise SourceError(f"{self}: has no item search. For a static catalog give the URL of its catalog.json.")
            last = request.end - timedelta(days=1)
            found = client.search(
                collections=[self.collection],
                bbox=bbox,
                datetime=f"{request.start}T00:00:00Z/{last}T23:59:59.999Z",
                limit=100,
            )
            nothing = True
            for item in found.items():
                nothing = False
                yield item
            if nothing:
                names = [link.id for link in client.get_collections()]
                if self.collection not in names:
                    raise self._missing(names)
        finally:
            reader.session.close()

    def _missing(self, names: object) -> SourceError:
        held = ", ".join(sorted(map(str, names))[:20]) or "none"  # type: ignore[call-overload]
        return SourceError(f"{self}: no collection {self.collection!r}; it has {held}. Set STAC_COLLECTION.")

    def _refusal(self, error: APIError) -> SourceError | SourceUnavailableError:
        status = getattr(error, "status_code", None)
        if status is None or status in BUSY:
            said = f"answered {status}" if status else f"did not answer ({_short(error)})"
            return SourceUnavailableError(f"{self}: {said}. It is tried again.")
        return SourceError(f"{self}: answered {status} ({_short(error)}). Check STAC_URL and STAC_COLLECTION.")


def acquired(item: pystac.Item) -> datetime:
    """When the scene was taken; the start where the item tells only a range."""
    taken = item.datetime or item.common_metadata.start_datetime
    if taken is None:
        raise SourceError(f"scene {item.id} has no date: the catalog is broken. Tell its provider.")
    return taken if taken.tzinfo else taken.replace(tzinfo=UTC)


def _fits(item: pystac.Item, request: "CompositeRequest", bbox: tuple[float, float, float, float]) -> bool:
    start, end = (datetime.combine(day, time(), UTC) for day in (request.start, request.end))
    cloud = item.properties.get("eo:cloud_cover")
    if request.max_cloud_cover is not None and cloud is not None and cloud > request.max_cloud_cover:
        return False
    if not start <= acquired(item) < end:
        return False
    cell = box(*bbox)
    if item.geometry is not None:
        try:
            return bool(shape(item.geometry).intersects(cell))
        except (ShapelyError, ValueError):  # a footprint that crosses itself: the bounding box has to do
            pass
    if item.bbox is None:
        return True
    west, south, east, north = item.bbox if len(item.bbox) == 4 else (*item.bbox[:2], *item.bbox[3:5])
    return bool(box(west, south, east, north).intersects(cell))


def _short(error: Exception) -> str:
    """An error's text in one line, without what a query string may hold."""
    return re.sub(r"\?\S+", "", " ".join(str(error).split()))[:200]
