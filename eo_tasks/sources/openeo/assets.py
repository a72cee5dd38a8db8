"""The file of a finished job, among all that its results name."""

from typing import Any
from urllib.parse import urljoin, urlsplit

from eo_tasks.errors import ResultGoneError, SourceError

JSON = dict[str, Any]


def only_geotiff(assets: dict[str, JSON], what: str) -> JSON:
    """The one GeoTIFF.

    Args:
        assets: By key, see ``assets_of``.
        what: Whose, as messages begin.

    Raises:
        ResultGoneError: There is none.
        SourceError: There are several.
    """
    files = {
        key: asset for key, asset in assets.items() if "tif" in f"{asset.get('type')} {key} {asset['name']}".lower()
    }
    if not files:
        raise ResultGoneError(f"{what} finished without a file ({len(assets)} assets). It is computed again.")
    if len(files) > 1:
        raise SourceError(
            f"{what} made several files ({', '.join(files)}) where one is expected. "
            "Report it to the backend's operator."
        )
    return next(iter(files.values()))


def assets_of(told: JSON, base: str) -> dict[str, JSON]:
    """Assets with absolute addresses, by key."""
    found = told.get("assets")
    assets = found.items() if isinstance(found, dict) else ()
    return {
        str(key): {**asset, "href": urljoin(base, str(asset["href"])), "name": urlsplit(str(asset["href"])).path}
        for key, asset in assets
        if isinstance(asset, dict) and asset.get("href") and "metadata" not in (asset.get("roles") or ())
    }


def links_of(told: JSON, rel: str) -> list[str]:
    """Addresses of the links of that kind."""
    links = told.get("links")
    return [
        str(link["href"])
        for link in (links if isinstance(links, list) else ())
        if isinstance(link, dict) and link.get("rel") == rel and link.get("href")
    ]
