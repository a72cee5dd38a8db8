"""One stage alone, in the process that asks: no queue, no Redis, no worker.

    from eo_tasks import BTCProcessor, ImageStore, SentinelDownloader

    SentinelDownloader().process_year(2023)
    ImageStore().process_year(2023)
    BTCProcessor().process_year(2022)  # the masks named 2022: from 2022 to 2023

Cells are worked on one after the other; what is there already is skipped, so that a second call goes on where the first
one ended. For many cells at once there are the queues.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

from eo_tasks.errors import (
    AccountError,
    CheckpointError,
    DeviceError,
    EmptyCompositeError,
    SettingsError,
    SourceBusyError,
    SourceUnavailableError,
    StorageFullError,
    StoreUnavailableError,
)
from eo_tasks.grid import Cell, GridYear, YearPair
from eo_tasks.plan import Wanted
from eo_tasks.settings import ImagerySource, OpenEOMode, Settings, load_settings
from eo_tasks.steps.images import download, store
from eo_tasks.steps.masks import infer_all
from eo_tasks.steps.pipeline import Outcome, Pipeline
from eo_tasks.units import Stage, Unit

# What is wrong for every cell ends the call; the same call goes on later.
FOR_ALL = (
    AccountError,
    CheckpointError,
    DeviceError,
    SettingsError,
    StorageFullError,
    StoreUnavailableError,
)
PAUSES_S = (5.0, 30.0)  # before a cell is tried again whose source did not answer
BUSY_S = 30.0  # where a busy source does not say when to come back
PART_CELLS = 500

Ending = Outcome | Exception
Follow = Callable[[Unit, Ending], None]
Wait = Callable[[float], None]


@dataclass(frozen=True)
class Processed:
    """How the units of one call ended.

    Attributes:
        done: Made now.
        skipped: There already.
        empty: Had nothing to work on: no imagery, nothing staged, or not both composites.
        failures: Those that failed, and why.
    """

    stage: Stage
    done: int
    skipped: int
    empty: int
    failures: Mapping[Unit, Exception] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """How many failed."""
        return len(self.failures)

    @property
    def total(self) -> int:
        """All of them."""
        return self.done + self.skipped + self.empty + self.failed


def nobody(unit: Unit, ending: Ending) -> None:
    """Tell nobody how a unit ended."""


class _Alone:
    """A stage of one process.

    Args:
        settings: Those of the environment if not given.
        follow: Is told of every unit, and how it ended, as soon as it has.
    """

    def __init__(self, settings: Settings | None = None, follow: Follow = nobody) -> None:
        self.pipeline = Pipeline(settings or load_settings())
        self.follow = follow

    def _wanted(self, years: Collection[int], grid_ids: Iterable[int | str] | None) -> tuple[Wanted, Sequence[Cell]]:
        cells = self.pipeline.grid.select(grid_ids)
        wanted = Wanted.of([cell.grid_id for cell in cells], years, datetime.now(UTC).year)
        self.pipeline.store.check()
        return wanted, cells

    def _gathered(self, stage: Stage, endings: Iterable[tuple[Unit, Ending]]) -> Processed:
        """Count how units end, as they do.

        Raises:
            EOTasksError: What is wrong is wrong for all of them.
        """
        counts: Counter[str] = Counter()
        failures: dict[Unit, Exception] = {}
        for unit, ending in endings:
            if isinstance(ending, FOR_ALL):
                raise ending
            self.follow(unit, ending)
            if isinstance(ending, Outcome):
                counts["skipped" if ending.is_skipped else "done"] += 1
            elif isinstance(ending, EmptyCompositeError):
                counts["empty"] += 1
            else:
                failures[unit] = ending
        return Processed(stage, counts["done"], counts["skipped"], counts["empty"], failures)


class SentinelDownloader(_Alone):
    """Makes composites and stages them for the store.

    Args:
        settings: Those of the environment if not given.
        follow: Is told of every unit, and how it ended, as soon as it has.
        wait: How time passes before a source is asked again that did not answer.
    """

    def __init__(self, settings: Settings | None = None, follow: Follow = nobody, wait: Wait = time.sleep) -> None:
        super().__init__(settings, follow)
        self._wait = wait

    def process_year(self, year: int, grid_ids: Iterable[int | str] | None = None) -> Processed:
        """Make the composites of one year; see ``process``."""
        return self.process((year,), grid_ids)

    def process(self, years: Collection[int], grid_ids: Iterable[int | str] | None = None) -> Processed:
        """Make the composites of cells × years that are neither stored nor staged.

        Args:
            years: Which.
            grid_ids: Ids or labels of cells; the whole grid if not given.

        Raises:
            SettingsError: The source takes orders only, which a running system looks after.
            EOTasksError: Something is wrong that concerns every cell, such as the account or a full disk.
        """
        wanted, _ = self._wanted(years, grid_ids)
        check_waiting_source(self.pipeline.settings)
        grid_years = (GridYear(grid_id, year) for grid_id in wanted.grid_ids for year in wanted.years)
        return self._gathered(Stage.DOWNLOAD, ((one.download, self._try(one)) for one in grid_years))

    def _try(self, grid_year: GridYear) -> Ending:
        """Download, again if the source did not answer."""
        for pause_s in (*PAUSES_S, None):
            ending = _ending(lambda: download(self.pipeline, grid_year))
            if not isinstance(ending, SourceUnavailableError) or pause_s is None:
                break
            self._wait((ending.retry_after_s or BUSY_S) if isinstance(ending, SourceBusyError) else pause_s)
        return ending


class ImageStore(_Alone):
    """Inserts staged composites into the store."""

    def process_year(self, year: int, grid_ids: Iterable[int | str] | None = None) -> Processed:
        """Store the staged composites of one year; see ``process``."""
        return self.process((year,), grid_ids)

    def process(self, years: Collection[int], grid_ids: Iterable[int | str] | None = None) -> Processed:
        """Store what is staged of cells × years; a cell with nothing staged and nothing stored counts as empty.

        Args:
            years: Which.
            grid_ids: Ids or labels of cells; the whole grid if not given.

        Raises:
            EOTasksError: Something is wrong that concerns every cell, such as a database that does not answer.
        """
        wanted, cells = self._wanted(years, grid_ids)
        self.pipeline.store.put_cells(cells)
        grid_years = (GridYear(grid_id, year) for grid_id in wanted.grid_ids for year in wanted.years)
        return self._gathered(Stage.STORE, ((one.store, self._store(one)) for one in grid_years))

    def _store(self, grid_year: GridYear) -> Ending:
        if self.pipeline.staging.record(grid_year) is None and not self.pipeline.store.has_image(grid_year):
            return EmptyCompositeError(f"{grid_year}: nothing is staged and nothing is stored. Download it first.")
        return _ending(lambda: store(self.pipeline, grid_year))


class BTCProcessor(_Alone):
    """Infers change masks of stored composites."""

    def process_year(self, year: int, grid_ids: Iterable[int | str] | None = None) -> Processed:
        """Make the masks from one year to the next; the archive names a mask after its earlier year, and so does this.

        ``process_year(2022)`` compares 2022 with 2023, and makes the masks that are named 2022.
        """
        return self.process((year, year + 1), grid_ids)

    def process(self, years: Collection[int], grid_ids: Iterable[int | str] | None = None) -> Processed:
        """Make the masks of consecutive years; a cell without both composites in the store counts as empty.

        Args:
            years: Two or more; change is mapped between each and the next of them.
            grid_ids: Ids or labels of cells; the whole grid if not given.

        Raises:
            CheckpointError: The network cannot be loaded.
            Exception: The network itself failed.
        """
        wanted, _ = self._wanted(years, grid_ids)
        return self._gathered(Stage.BTC, self._endings(wanted))

    def _endings(self, wanted: Wanted) -> Iterator[tuple[Unit, Ending]]:
        for start in range(0, len(wanted.grid_ids), PART_CELLS):
            part = wanted.part(start, PART_CELLS)
            stored = {year: self.pipeline.store.image_ids(year, part.grid_ids) for year in part.years}
            cells = [[YearPair(grid_id, *years) for years in part.year_pairs] for grid_id in part.grid_ids]
            groups = []
            for pairs in cells:
                lacking = [pair for pair in pairs if any(pair.grid_id not in stored[year] for year in _years(pair))]
                yield from ((pair.btc, _lacks(pair)) for pair in lacking)
                groups.append([pair for pair in pairs if pair not in lacking])
            with closing(infer_all(self.pipeline, filter(None, groups))) as decided:
                yield from ((pair.btc, ending) for pair, ending in decided)


def check_waiting_source(settings: Settings) -> None:
    """Check that a composite can be made while one waits.

    Raises:
        SettingsError: ``IMAGERY_SOURCE`` has batch jobs only: they are started, looked after and found again by a
            running system.
    """
    chosen = settings.imagery_source
    is_synchronous = ImagerySource.OPENEO in chosen and settings.openeo_mode is OpenEOMode.SYNCHRONOUS
    if ImagerySource.STAC not in chosen and not is_synchronous:
        raise SettingsError(
            f"IMAGERY_SOURCE={','.join(map(str, chosen))}: batch jobs take a running system that looks after them: "
            "eo-tasks run or eo-tasks enqueue. To download alone, one request a cell, set OPENEO_MODE=synchronous, or "
            "IMAGERY_SOURCE=stac."
        )


def _ending(step: Callable[[], Outcome]) -> Ending:
    """What a step gave or raised; a cell that fails leaves the others alone."""
    try:
        return step()
    except Exception as error:
        return error


def _years(pair: YearPair) -> tuple[int, int]:
    return pair.before, pair.after


def _lacks(pair: YearPair) -> EmptyCompositeError:
    return EmptyCompositeError(f"{pair}: not both composites are stored. Download and store them first.")
