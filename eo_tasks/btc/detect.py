"""From series of images to strips of change probability: windows packed into batches, inferred, blended back."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from eo_tasks.btc.engine import Engine
from eo_tasks.btc.series import Failure, RowsDone, Series, Site, Years, sites
from eo_tasks.btc.windows import Blend
from eo_tasks.errors import InferenceError, SettingsError
from eo_tasks.overlap import ahead
from eo_tasks.raster import Rgb

PACKS_AHEAD = 2  # prepared while one is computed
NOT_A_NUMBER = (
    "the network's answer is not a number: its weights are damaged, or its values too large for float16. "
    "Set BTC_PRECISION=float32, or check them with eo-tasks btc verify."
)


@dataclass(frozen=True)
class Tiling:
    """How windows lie over an image.

    Attributes:
        window_px: Side of a window.
        stride_px: Distance of windows.

    Raises:
        SettingsError: Windows would leave gaps.
    """

    window_px: int = 96
    stride_px: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.stride_px <= self.window_px:
            raise SettingsError(
                f"windows of {self.window_px} px every {self.stride_px} px leave gaps: "
                f"the stride is 1 to {self.window_px}."
            )


@dataclass(frozen=True, eq=False)
class Strip:
    """Some rows of a pair's answer; a pair's strips come from top to bottom.

    Attributes:
        first: The first row.
        probability: Probability of change, shape (row, x); NaN where either year has no data.
        is_last: Nothing more comes of this pair.
    """

    series: Series
    pair: Years
    first: int
    probability: NDArray[np.float32]
    is_last: bool


@dataclass(frozen=True, eq=False)
class Pack:
    """Windows for one batch, and what lies between them.

    Attributes:
        items: Sites and what was said of rows and pairs, in their order.
        windows: The sites' images, shape (image, y, x, 3).
        pairs: Positions of the earlier and the later image of each pair, in order of the sites; shape (pair, 2).
    """

    items: list[Site | RowsDone | Failure]
    windows: NDArray[np.uint8]
    pairs: NDArray[np.int64]


def detect(engine: Engine, series: Iterable[Series], tiling: Tiling) -> Iterator[Strip | Failure]:
    """Infer all pairs of all series.

    While a batch is computed, a thread reads and prepares the next ones, and the caller handles the strips of the last.
    The series are taken one by one, when there is room for their windows.
    """
    blends = _Blends(tiling)
    with ahead(packs(series, tiling, engine.batch_size), PACKS_AHEAD) as prepared:
        in_work: deque[tuple[Pack, Tensor | None]] = deque()
        for pack in prepared:
            in_work.append((pack, engine.infer(pack.windows, pack.pairs) if len(pack.pairs) else None))
            if len(in_work) > 1:  # a GPU works on the newest while the oldest is fetched and blended
                yield from _blended(engine, *in_work.popleft(), blends)
        while in_work:
            yield from _blended(engine, *in_work.popleft(), blends)


def packs(series: Iterable[Series], tiling: Tiling, size: int) -> Iterator[Pack]:
    """Put sites together until a batch is full; sites of several series may share one."""
    items: list[Site | RowsDone | Failure] = []
    images = 0
    for item in (item for one in series for item in sites(one, tiling.window_px, tiling.stride_px)):
        more = len(item.images) if isinstance(item, Site) else 0
        if images and images + more > size:
            yield _packed(items, tiling.window_px)
            items, images = [], 0
        items.append(item)
        images += more
    if items:
        yield _packed(items, tiling.window_px)


def _packed(items: list[Site | RowsDone | Failure], window_px: int) -> Pack:
    windows: list[Rgb] = []
    pairs: list[list[int]] = []
    for site in items:
        if isinstance(site, Site):
            position = {key: len(windows) + number for number, key in enumerate(site.images)}
            windows += site.images.values()
            pairs += [[position[before], position[after]] for before, after in site.pairs.values()]
    stacked = np.stack(windows) if windows else np.zeros((0, window_px, window_px, 3), np.uint8)
    return Pack(items, stacked, np.array(pairs, np.int64).reshape(-1, 2))


class _Blends:
    """The pairs in work, each with the windows over its next rows."""

    def __init__(self, tiling: Tiling) -> None:
        self._window_px = tiling.window_px
        self._blends: dict[tuple[Series, Years], Blend | None] = {}  # None for a pair that was given up

    def add(self, site: Site, pair: Years, values: NDArray[np.float32]) -> None:
        """Add a window's answer."""
        if (blend := self._of(site.series, pair)) is not None:
            blend.add(site.origin[1], values)

    def take(self, done: RowsDone, pair: Years) -> Strip | Failure | None:
        """The rows that are done; ``None`` for a pair that was given up."""
        blend, seen, is_last = self._of(done.series, pair), done.seen[pair], done.stop == done.series.shape[0]
        if is_last:
            del self._blends[done.series, pair]
        if blend is None:
            return None
        rows = blend.take(done.stop)
        if np.isnan(rows[seen]).any():
            self.give_up(done.series, pair, is_last=is_last)
            return Failure(done.series, pair, InferenceError(NOT_A_NUMBER))
        rows[~seen] = np.nan
        return Strip(done.series, pair, done.stop - len(rows), rows, is_last)

    def give_up(self, series: Series, pair: Years, *, is_last: bool) -> bool:
        """Take no more of a pair; ``is_last`` if nothing more comes.

        Returns:
            Whether it was not given up before.
        """
        was_in_work = self._blends.pop((series, pair), True) is not None
        if not is_last:
            self._blends[series, pair] = None
        return was_in_work

    def _of(self, series: Series, pair: Years) -> Blend | None:
        if (series, pair) not in self._blends:
            self._blends[series, pair] = Blend(series.shape[1], self._window_px)
        return self._blends[series, pair]


def _blended(engine: Engine, pack: Pack, answers: Tensor | None, blends: _Blends) -> Iterator[Strip | Failure]:
    values = iter(() if answers is None else engine.fetch(answers))
    for item in pack.items:
        if isinstance(item, Failure):
            if blends.give_up(item.series, item.pair, is_last=True):
                yield item
        elif isinstance(item, Site):
            for pair in item.pairs:
                blends.add(item, pair, next(values))
        else:
            for pair in item.seen:
                if (part := blends.take(item, pair)) is not None:
                    yield part
