"""One cell: its units, records and pictures."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response

from eo_tasks.dashboard.asked import Looking, SharedViews, told
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.overview.cells import CellView, view_cell
from eo_tasks.overview.pictures import picture_of_image, picture_of_mask, picture_of_probability
from eo_tasks.storage import Record

router = APIRouter(prefix="/cells", tags=["cells"])

MOST_FOUND = 20
PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {}}, "description": "The picture."},
    304: {"description": "As it was."},
}

GridId = Annotated[int, Path(ge=0, le=2**31 - 1)]
Year = Annotated[int, Path(ge=1900, le=9999)]


@dataclass(frozen=True)
class Found:
    """A cell by its names."""

    grid_id: int
    label: str | None


@router.get("", responses=told(401, 404))
def find(views: SharedViews, _: Looking, q: Annotated[str, Query(max_length=100)] = "") -> list[Found]:
    """Cells whose id or label begins so."""
    text = q.strip().lower()
    hits = (
        Found(cell.grid_id, cell.label)
        for cell in views.places.cells
        if str(cell.grid_id).startswith(text) or (cell.label or "").lower().startswith(text)
    )
    return list(islice(hits, MOST_FOUND))


@router.get("/{grid_id}", responses=told(401, 404, 409))
def cell(views: SharedViews, _: Looking, grid_id: GridId) -> CellView:
    """What is stored of a cell, and where its units stand."""
    found = views.pipeline.grid.cell(grid_id)
    return view_cell(views.known, views.pipeline.store, found, views.places.centre(found))


@router.get("/{grid_id}/images/{year}.png", response_class=Response, responses=PNG | told(401, 404, 409))
def image(request: Request, views: SharedViews, _: Looking, grid_id: GridId, year: Year) -> Response:
    """A composite in the colours that the network sees."""
    grid_year, store = GridYear(grid_id, year), views.pipeline.store
    return _picture(
        request,
        store.image_record(grid_year),
        f"{grid_year}: no composite is stored.",
        lambda: picture_of_image(store, grid_year, views.pipeline.settings),
    )


@router.get("/{grid_id}/masks/{before}-{after}.png", response_class=Response, responses=PNG | told(401, 404, 409))
def mask(request: Request, views: SharedViews, _: Looking, grid_id: GridId, before: Year, after: Year) -> Response:
    """Changed pixels red, unseen ones grey, the rest transparent."""
    pair, store = YearPair(grid_id, before, after), views.pipeline.store
    return _picture(
        request, store.mask_record(pair), f"{pair}: no mask is stored.", lambda: picture_of_mask(store, pair)
    )


@router.get("/{grid_id}/probability/{before}-{after}.png", response_class=Response, responses=PNG | told(401, 404, 409))
def probability(
    request: Request, views: SharedViews, _: Looking, grid_id: GridId, before: Year, after: Year
) -> Response:
    """Probability of change, from transparent to yellow; unseen pixels grey."""
    pair, store = YearPair(grid_id, before, after), views.pipeline.store
    return _picture(
        request, store.mask_record(pair), f"{pair}: no mask is stored.", lambda: picture_of_probability(store, pair)
    )


def _picture(request: Request, record: Record | None, lacking: str, draw: Callable[[], bytes]) -> Response:
    """A PNG, or the word that the browser has it already."""
    if record is None:
        raise HTTPException(404, lacking)
    what = f"{request.url.path}:{record.get('sha256')}:{record.get('made_at')}"
    tag = f'"{hashlib.sha256(what.encode()).hexdigest()[:20]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(draw(), media_type="image/png", headers=headers)
