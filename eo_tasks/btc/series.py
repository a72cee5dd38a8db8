"""A cell's years cut into windows, so that each year's window is encoded once for all its pairs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eo_tasks.btc.pictures import Picture
from eo_tasks.btc.windows import window_starts
from eo_tasks.errors import EOTasksError
from eo_tasks.raster import Rgb

Years = tuple[int, int]  # the earlier and the later one


@dataclass(frozen=True, eq=False)
class Series:
    """One place in several years, and the pairs of years to compare.

    Attributes:
        key: Whatever tells the caller which place it is.
        pictures: The place in each year, all of one size.
    """

    key: Any
    pictures: Mapping[int, Picture]
    pairs: tuple[Years, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return next(iter(self.pictures.values())).shape


@dataclass(frozen=True, eq=False)
class Site:
    """One window of a series.

    Attributes:
        origin: Its first row and column.
        images: The different images that the network must see, shape (window_px, window_px, 3).
        pairs: For each pair with common data here, the keys of its earlier and its later image.
    """

    series: Series
    origin: tuple[int, int]
    images: Mapping[Any, Rgb]
    pairs: Mapping[Years, tuple[Any, Any]]


@dataclass(frozen=True, eq=False)
class RowsDone:
    """All windows over the rows before ``stop`` have been given.

    Attributes:
        seen: For each pair, where the rows since the last time hold data in both years, shape (row, x).
    """

    series: Series
    stop: int
    seen: Mapping[Years, NDArray[np.bool_]]


@dataclass(frozen=True)
class Failure:
    """A pair that cannot be computed, because one of its years cannot be read."""

    series: Series
    pair: Years
    error: EOTasksError


def sites(series: Series, window_px: int, stride_px: int) -> Iterator[Site | RowsDone | Failure]:
    """Cut a series into windows, row by row; every row of every year is read once.

    A year is shown without what its pair's other year does not show: that would look like change. Where both show the
    same, which is nearly everywhere, the year's image is one for all its pairs.
    """
    height, width = series.shape
    starts = window_starts(height, window_px, stride_px)
    pairs = list(series.pairs)
    strips = {year: _Strip(series.pictures[year], window_px) for pair in pairs for year in pair}
    for row, following in zip(starts, [*starts[1:], height], strict=True):
        for year in sorted({year for pair in pairs for year in pair}):
            try:
                strips[year].advance(row)
            except EOTasksError as error:
                yield from (Failure(series, pair, error) for pair in pairs if year in pair)
                pairs = [pair for pair in pairs if year not in pair]
        if not pairs:
            return
        for column in window_starts(width, window_px, stride_px):
            yield _site(series, pairs, strips, (row, column), window_px)
        done = following - row
        seen = {(a, b): (strips[a].valid & strips[b].valid)[:done, :width] for a, b in pairs}
        yield RowsDone(series, following, seen)


def _site(
    series: Series, pairs: list[Years], strips: Mapping[int, "_Strip"], origin: tuple[int, int], window_px: int
) -> Site:
    place = np.s_[:, origin[1] : origin[1] + window_px]
    images: dict[Any, Rgb] = {}
    keys: dict[Years, tuple[Any, Any]] = {}
    for pair in pairs:
        before, after = (strips[year].valid[place] for year in pair)
        seen = before & after
        if not seen.any():
            continue
        keys[pair] = tuple(  # type: ignore[assignment]  # two years, two keys
            year if np.array_equal(valid, seen) else (year, pair)
            for year, valid in zip(pair, (before, after), strict=True)
        )
        for year, key in zip(pair, keys[pair], strict=True):
            if key not in images:
                images[key] = np.where(seen[..., None], strips[year].rgb[place], np.uint8(0))
    return Site(series, origin, images, keys)


@dataclass(eq=False)
class _Strip:
    """The rows of one year under one row of windows; moves down and reads only what is new."""

    picture: Picture
    window_px: int
    rgb: Rgb = field(init=False)
    valid: NDArray[np.bool_] = field(init=False)
    read: int = 0

    def __post_init__(self) -> None:
        width = max(self.picture.shape[1], self.window_px)
        self.rgb = np.zeros((self.window_px, width, 3), np.uint8)
        self.valid = np.zeros((self.window_px, width), bool)

    def advance(self, row: int) -> None:
        """Hold the rows from ``row`` on; beyond the image there are zeros without data."""
        height, width = self.picture.shape
        stop = min(row + self.window_px, height)
        kept, new = max(self.read - row, 0), stop - self.read
        fresh, valid = self.picture.rows(self.read, stop)
        for held, rows in ((self.rgb, fresh), (self.valid, valid)):
            moved = held[len(held) - kept :].copy() if kept else held[:0]
            held[:kept] = moved
            held[kept:] = 0
            held[kept : kept + new, :width] = rows
        self.read = stop
