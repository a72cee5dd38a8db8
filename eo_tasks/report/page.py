"""A report as one HTML file that needs nothing else: style, bars and pictures are in it."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from eo_tasks.overview.letters import WAITING
from eo_tasks.overview.summary import PeriodNumbers
from eo_tasks.ranges import write_ranges
from eo_tasks.report.make import Report
from eo_tasks.state.entry import State

TEMPLATE = Path(__file__).with_name("page.html")
MOST_ROWS = 200
BAR_PX = 300

# What is drawn in one colour, in the order of a bar; the name is the style's class too.
KINDS: Mapping[str, tuple[str, ...]] = {
    "done": (State.COMPLETED, State.SKIPPED),
    "empty": (State.EMPTY,),
    "running": (State.ENQUEUED, State.ORDERED, State.STARTED, State.RETRYING),
    "failed": (State.FAILED, State.QUARANTINED),
    "canceled": (State.CANCELED,),
    "waiting": (WAITING, State.PENDING),
}


@dataclass(frozen=True)
class Segment:
    """A part of a bar, in pixels of it."""

    kind: str
    x: float
    width: float
    number: int


def as_html(report: Report) -> str:
    """The page."""
    rows = list(islice(report.rows(), MOST_ROWS + 1))
    return _template().render(report=report, rows=rows[:MOST_ROWS], has_more_rows=len(rows) > MOST_ROWS)


def segments(period: PeriodNumbers) -> Iterator[Segment]:
    """The bar of a stage and period, as wide as ``BAR_PX`` in all."""
    x = 0.0
    for kind, states in KINDS.items():
        number = sum(period.states.get(state, 0) for state in states)
        width = BAR_PX * number / max(period.total, 1)
        if number:
            yield Segment(kind, round(x, 2), round(width, 2), number)
        x += width


@lru_cache(maxsize=1)
def _template() -> Template:
    page = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page.globals.update(segments=segments, kinds=KINDS, bar_px=BAR_PX)
    page.filters.update(
        moment=_moment, duration=_duration, ranges=write_ranges, share=_share, hectares=_hectares, data_uri=_data_uri
    )
    return page.get_template(TEMPLATE.name)


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _duration(seconds: float | None) -> str:
    return "–" if seconds is None else str(timedelta(seconds=round(seconds)))


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _hectares(area: float | None) -> str:
    return "–" if area is None else f"{area:,.2f}"


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode('ascii')}"
