"""Inferring change masks: groups of year pairs in, their outcomes out as soon as each is stored."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eo_tasks.errors import EOTasksError, InferenceError, RasterError
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.products.mask import MaskFiles, MaskWriter, mask_tags
from eo_tasks.raster import CompositeRows, PixelGrid
from eo_tasks.steps.pipeline import Outcome, Pipeline
from eo_tasks.steps.records import mask_record
from eo_tasks.steps.scratch import MASK_PREFIX
from eo_tasks.storage import fingerprint_of

if TYPE_CHECKING:
    from eo_tasks.btc.series import Series

WRITES_BEHIND = 2  # masks on their way to the store while the next ones are computed

Decided = tuple[YearPair, Outcome | Exception]
Origins = dict[YearPair, tuple[str | None, ...]]  # fingerprints of the composites that a pair's mask is made of


def infer(pipeline: Pipeline, pair: YearPair) -> Outcome:
    """Run BTC on one year pair and store its mask.

    Raises:
        StorageError: A composite is missing or broken.
        RasterError: The two composites lie on different pixel grids.
        CheckpointError: The network cannot be loaded.
    """
    ((_, outcome),) = infer_all(pipeline, [[pair]])
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def infer_all(pipeline: Pipeline, groups: Iterable[Sequence[YearPair]]) -> Generator[Decided, None, None]:
    """Run BTC on groups of year pairs, one cell a group, and store their masks.

    Reading, computing and writing overlap: a thread takes the next group and reads it while this one is computed,
    another publishes the masks of the last one. A year is read and encoded once for all pairs of its group. A pair that
    cannot be read or written is told of and disturbs no other.

    Returns:
        Each pair once, when its mask is stored, was stored before, or cannot be made. If the network cannot be loaded,
        no further group is taken.

    Raises:
        Exception: The network itself failed; nothing is known of the pairs that were not given yet.
    """
    decided: SimpleQueue[Decided] = SimpleQueue()
    origins: Origins = {}
    prepared = _prepared(pipeline, groups, decided, origins)
    first = next(prepared, None)
    yield from _drained(decided)
    if first is None:
        return
    try:
        _ = pipeline.model
    except EOTasksError as error:
        yield from ((pair, _told(pair, error)) for series in first for pair in _pairs(series))
        return
    yield from _stored(pipeline, chain.from_iterable(chain([first], prepared)), decided, origins)
    yield from _drained(decided)


def _stored(
    pipeline: Pipeline, series: Iterable["Series"], decided: SimpleQueue[Decided], origins: Origins
) -> Iterator[Decided]:
    """Compute the series and store each pair's mask when its last strip has come."""
    from eo_tasks.btc.detect import Tiling, detect
    from eo_tasks.btc.series import Failure

    tiling = Tiling(pipeline.settings.btc_window_px, pipeline.settings.btc_stride_px)
    masks: dict[YearPair, _Mask] = {}
    writes: deque[tuple[YearPair, Future[Outcome]]] = deque()
    with ExitStack() as cleanup, ThreadPoolExecutor(1, "masks") as disk:
        cleanup.callback(_drop, masks)
        for part in detect(pipeline.model.engine, series, tiling):
            yield from _drained(decided)
            pair = YearPair(part.series.key, *part.pair)
            if isinstance(part, Failure):
                origins.pop(pair, None)
                if pair in masks:
                    masks.pop(pair).drop()
                yield pair, _told(pair, part.error) if isinstance(part.error, InferenceError) else part.error
                continue
            if pair not in masks:
                masks[pair] = _Mask(pipeline, pair, _pixels(part.series, pair), origins.pop(pair, ()))
            masks[pair].add(part.first, part.probability)
            if part.is_last:
                writes.append((pair, disk.submit(masks.pop(pair).publish)))
            while writes and (len(writes) > WRITES_BEHIND or writes[0][1].done()):
                yield _written(*writes.popleft())
        while writes:
            yield _written(*writes.popleft())


class _Mask:
    """One mask on its way into the store. What fails on the way is raised when it is published."""

    def __init__(self, pipeline: Pipeline, pair: YearPair, pixels: PixelGrid, images: Sequence[str | None]) -> None:
        self._pipeline, self._pair, self._pixels, self._images = pipeline, pair, pixels, images
        self._open = ExitStack()
        self._writer: MaskWriter | None = None
        self._error: Exception | None = None

    def add(self, first: int, probability: NDArray[np.float32]) -> None:
        """Take some rows."""
        try:
            if self._writer is None and self._error is None:
                self._writer = self._start()
            if self._writer is not None:
                self._writer.write(first, probability)
        except Exception as error:  # this pair's alone; publish raises it
            self._error = error
            self.drop()

    def publish(self) -> Outcome:
        """Finish the files and put them into the store."""
        with self._open:
            if self._error is not None:
                raise self._error
            if self._writer is None:
                raise RasterError(f"{self._pair}: the composites have no rows.")
            self._writer.finish()
            record = mask_record(self._pipeline, self._pair, self._pixels, self._images, self._writer, self._files)
            self._pipeline.confirm(self._pair.btc)
            self._pipeline.store.put_mask(self._pair, self._files, record)
        return Outcome(False, {"changed_ha": record["changed_ha"], "pixels": record["width"] * record["height"]})

    def drop(self) -> None:
        """Leave nothing behind."""
        self._writer = None
        self._open.close()

    def _start(self) -> MaskWriter:
        chosen = self._pipeline.settings
        scratch = self._open.enter_context(self._pipeline.scratch(MASK_PREFIX))
        self._files = MaskFiles.beside(scratch / f"{self._pair.btc.id}.png")
        tags = mask_tags(self._pair.before, self._pair.after)
        return self._open.enter_context(MaskWriter(self._files, self._pixels.frame, chosen.btc_threshold, tags))


def _drop(masks: Mapping[YearPair, "_Mask"]) -> None:
    for mask in masks.values():
        mask.drop()


def _prepared(
    pipeline: Pipeline, groups: Iterable[Sequence[YearPair]], decided: SimpleQueue[Decided], origins: Origins
) -> Iterator[list["Series"]]:
    """Open the composites of each group, until the next group is asked for.

    Returns:
        The series of each group in which there is something to do: one, unless its pairs lie in different places. What
        needs no work or cannot be opened is decided at once.
    """
    from eo_tasks.btc.pictures import CompositePicture
    from eo_tasks.btc.series import Series

    for group in groups:
        with ExitStack() as opened:
            by_place: dict[PixelGrid, list[YearPair]] = {}
            images: dict[GridYear, CompositeRows] = {}
            fingerprints: dict[GridYear, str | None] = {}
            for pair in group:
                if pipeline.store.has_mask(pair, pipeline.recipe, pipeline.not_before(pair.btc)):
                    decided.put((pair, Outcome(True, {})))
                    continue
                try:
                    for grid_year in pair.grid_years:
                        if grid_year not in images:  # its fingerprint first: a later file makes the mask stale
                            record = pipeline.store.image_record(grid_year) or {}
                            fingerprints[grid_year] = fingerprint_of(record)
                            images[grid_year] = opened.enter_context(pipeline.store.open_image(grid_year))
                    place = _common_place(pair, images)
                except EOTasksError as error:
                    decided.put((pair, error))
                else:
                    by_place.setdefault(place, []).append(pair)
                    origins[pair] = tuple(fingerprints[grid_year] for grid_year in pair.grid_years)
            series = []
            for pairs in by_place.values():
                pictures = {
                    grid_year.year: CompositePicture(images[grid_year], pipeline.settings.btc_stretch)
                    for pair in pairs
                    for grid_year in pair.grid_years
                }
                series.append(Series(pairs[0].grid_id, pictures, tuple((pair.before, pair.after) for pair in pairs)))
            if series:
                yield series


def _common_place(pair: YearPair, images: Mapping[GridYear, CompositeRows]) -> PixelGrid:
    before, after = (images[grid_year].pixels for grid_year in pair.grid_years)
    if before != after:
        raise RasterError(f"{pair}: the two years lie on different pixel grids: {before}; {after}.")
    return before


def _pixels(series: "Series", pair: YearPair) -> PixelGrid:
    pixels: PixelGrid = series.pictures[pair.before].composite.pixels  # type: ignore[attr-defined]  # made above
    return pixels


def _pairs(series: "Series") -> list[YearPair]:
    return [YearPair(series.key, *pair) for pair in series.pairs]


def _told(pair: YearPair, error: EOTasksError) -> EOTasksError:
    told = type(error)(f"{pair}: {error}")
    told.__cause__ = error
    return told


def _drained(decided: SimpleQueue[Decided]) -> Iterator[Decided]:
    while not decided.empty():
        yield decided.get()


def _written(pair: YearPair, write: Future[Outcome]) -> Decided:
    error = write.exception()
    return (pair, error if isinstance(error, Exception) else write.result())
