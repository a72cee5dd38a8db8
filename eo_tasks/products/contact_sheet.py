"""A cell in all its years, side by side, and below each later year what changed until then."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eo_tasks.products.lettering import PAPER, label
from eo_tasks.products.quicklook import UNSEEN_COLOUR, outlined, sheet
from eo_tasks.raster import Rgb


@dataclass(frozen=True, eq=False)
class Change:
    """The change between two years.

    Attributes:
        classes: 0 unchanged, 1 changed, 255 not seen; shape (y, x) of the pictures.
    """

    before: int
    after: int
    classes: NDArray[np.uint8] = field(repr=False)


def draw_contact_sheet(pictures: Mapping[int, Rgb], changes: Sequence[Change]) -> Rgb:
    """Draw a cell's years in a row, and below each one its change since an earlier year, outlined.

    Args:
        pictures: Composites by year, all of one size, shape (y, x, 3).
        changes: Of several that end in one year the shortest is shown.

    Returns:
        A picture with the years written over each.
    """
    years = sorted({*pictures, *(change.after for change in changes), *(change.before for change in changes)})
    shown = {change.after: change for change in sorted(changes, key=lambda change: change.before)}
    shape = next(iter(pictures.values())).shape if pictures else (*changes[0].classes.shape, 3)
    absent = np.full(shape, UNSEEN_COLOUR, np.uint8)
    rows = [[_labelled(pictures.get(year, absent), str(year)) for year in years]]
    if shown:
        rows.append([_below(pictures.get(year, absent), shown.get(year)) for year in years])
    return sheet(rows)


def _below(picture: Rgb, change: Change | None) -> Rgb:
    if change is None:
        return _labelled(np.full_like(picture, PAPER), "")
    return _labelled(outlined(picture, change.classes), f"{change.before}–{change.after}")


def _labelled(picture: Rgb, text: str) -> Rgb:
    return np.concatenate([label(text, picture.shape[1]), picture])
