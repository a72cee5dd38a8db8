"""A dry run: what a request would do, what it would skip and why, and what that is likely to cost."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from eo_tasks.errors import SettingsError
from eo_tasks.grid import GridYear
from eo_tasks.plan import Wanted
from eo_tasks.settings import ImagerySource, OpenEOMode, Settings
from eo_tasks.sources.openeo.backend import Backend
from eo_tasks.state.entry import State
from eo_tasks.state.runs import Run
from eo_tasks.tasks.context import accounts, ledger, pipeline
from eo_tasks.tasks.ordering.budget import SYNCHRONOUS_CREDITS
from eo_tasks.tasks.survey import survey
from eo_tasks.units import Stage, Unit

PART_CELLS = 500
SAMPLE = 500  # records and entries that estimates are made of


@dataclass
class Forecast:
    """What a request would do; counts are units.

    Attributes:
        counts: By ``stage.what``: todo, done, in_flight, stuck, empty, blocked.
        stale_masks: Masks that would be made anew because model, settings or composites changed.
        requests: Requests that the downloads take, where several are made by one; ``None`` where each is its own.
        credits: Likely cost of the downloads; ``None`` if unknown.
        busy_s: Likely time that each stage needs with the workers as they were; ``None`` if unknown.
    """

    counts: Counter[str] = field(default_factory=Counter)
    stale_masks: int = 0
    requests: int | None = None
    credits: float | None = None
    busy_s: dict[Stage, float | None] = field(default_factory=dict)

    def number(self, stage: Stage, what: str) -> int:
        """Units of a stage that are so."""
        return self.counts[f"{stage}.{what}"]


def forecast(run: Run) -> Forecast:
    """Look at every cell of a request and change nothing."""
    made = Forecast()
    wanted, cells = run.wanted, len(run.wanted.grid_ids)
    blocks: set[tuple[str, int]] = set()
    backends = _backends()
    for start in range(0, cells, PART_CELLS):
        part = wanted.part(start, PART_CELLS)
        found = survey(part, run.not_before)
        made.counts.update({f"{stage}.done": number for stage, number in found.done.items()})
        kinds = {
            "todo": (*found.sendable, *found.waiting),
            "in_flight": found.in_flight,
            "stuck": found.stuck,
            "empty": found.empty,
            "blocked": found.blocked,
        }
        for what, units in kinds.items():
            made.counts.update(f"{unit.stage}.{what}" for unit in units)
        made.stale_masks += _stale_masks(part)
        if backends:
            blocks |= {_block_of(unit) for unit in found.sendable if unit.stage is Stage.DOWNLOAD}
    downloads = made.number(Stage.DOWNLOAD, "todo")
    made.requests = len(blocks) if backends else None
    made.credits = _credits(pipeline().settings, wanted, downloads, len(blocks))
    for stage in Stage:
        todo, pace_s = made.number(stage, "todo"), seconds_each(stage)
        made.busy_s[stage] = 0 if not todo else None if pace_s is None else todo * pace_s
    return made


def _credits(settings: Settings, wanted: Wanted, downloads: int, requests: int) -> float | None:
    """Credits of so many downloads: by finished jobs, else stored composites, else the service's price."""
    first = settings.imagery_source[0]
    backend = _backends().get(first)
    if first is ImagerySource.STAC or not downloads:
        return 0
    if backend is None:
        return None
    if backend.mode is OpenEOMode.SYNCHRONOUS:
        return SYNCHRONOUS_CREDITS * requests
    learned = accounts().price(backend.account).of(downloads)
    if learned is not None:
        return learned
    paid = [cost for cost in islice(_costs(wanted), SAMPLE) if cost is not None]
    return downloads * sum(paid) / len(paid) if paid else None


def _backends() -> Mapping[ImagerySource, Backend]:
    """Those that this process can log in to: it need not be one of those that order."""
    try:
        return pipeline().backends
    except SettingsError:
        return {}


def _block_of(unit: Unit) -> tuple[str, int]:
    """The request that a download is made by."""
    made = pipeline()
    return made.blocks.name(made.grid.cell(unit.grid_id)), unit.years[0]


def seconds_each(stage: Stage) -> float | None:
    """Seconds per unit, with as many at work at once as there were: the time in which some worked, by their number."""
    spans: list[tuple[float, float]] = []
    for known, period in reversed(ledger().periods()):
        if known is stage and len(spans) < SAMPLE:
            entries = (entry for _, entry in islice(ledger().all_entries(stage, period), 4 * SAMPLE))
            spans += [(e.started_at, e.since) for e in entries if e.state is State.COMPLETED and e.started_at]
    return covered(spans) / len(spans) if spans else None


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, until = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(end - max(start, until), 0)
        until = max(until, end)
    return total


def _costs(wanted: Wanted) -> Iterator[float | None]:
    """What stored composites did cost, where their records say so."""
    for year in wanted.years:
        for grid_id in wanted.grid_ids[:SAMPLE]:
            record = pipeline().store.image_record(GridYear(grid_id, year))
            cost = (record or {}).get("details", {}).get("credits")
            yield float(cost) if cost is not None else None


def _stale_masks(wanted: Wanted) -> int:
    store, recipe = pipeline().store, pipeline().recipe
    return sum(len(store.stale_mask_ids(*years, recipe, wanted.grid_ids)) for years in wanted.year_pairs)
