"""Where everything stands, drawn for a terminal: what ``status`` shows, once or again and again."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from eo_tasks.overview.summary import StageNumbers, Summary
from eo_tasks.state.entry import State
from eo_tasks.state.workers import WorkerReport

BAR_WIDTH = 24
SHOWN_UNITS = 3
IN_FLIGHT = [str(state) for state in State if state.is_in_flight]
STUCK = [str(state) for state in State if state.needs_a_person]


def board(summary: Summary, workers: Sequence[WorkerReport]) -> RenderableType:
    """Stages with their rate and the time left, runs, queues, workers, and what is wrong."""
    lines = (Text.assemble((f"{what}: ", "bold"), told) for what, told in _lines(summary, workers))
    return Group(_headline(summary), _stages(summary.stages), *lines)


def duration(seconds: float | None) -> str:
    """A time that is left, to the second; a dash where it cannot be said."""
    return "–" if seconds is None else str(timedelta(seconds=round(seconds)))


def _headline(summary: Summary) -> Text:
    share = summary.ended / summary.total if summary.total else 0
    told = [f"{summary.ended} of {summary.total} units ended ({share:.0%})"]
    if summary.ended < summary.total and summary.left_s is not None:
        told.append(f"about {duration(summary.left_s)} left")
    if summary.stuck:
        told.append(f"{summary.stuck} wait for you: eo-tasks errors")
    return Text(", ".join(told), "bold red" if summary.stuck else "bold")


def _stages(stages: Sequence[StageNumbers]) -> Table:
    columns = [Column(name, justify="right") for name in ("Ended", "In flight", "Failed", "An hour", "Time left")]
    table = Table("Stage", Column("", width=BAR_WIDTH), *columns, box=None, pad_edge=False)
    for stage in stages:
        table.add_row(
            str(stage.stage),
            ProgressBar(max(stage.total, 1), stage.ended, BAR_WIDTH),
            f"{stage.ended}/{stage.total}",
            str(_number(stage.states, IN_FLIGHT)),
            str(_number(stage.states, STUCK)),
            "–" if stage.rate_per_hour is None else f"{stage.rate_per_hour:,.0f}",
            duration(stage.left_s),
        )
    return table


def _lines(summary: Summary, workers: Sequence[WorkerReport]) -> Iterator[tuple[str, str]]:
    yield "Queued", _listed(summary.queues)
    alive = [worker for worker in workers if worker.is_alive(summary.at)]
    if workers:
        silent = [worker.name for worker in workers if worker not in alive]
        told = f"{len(alive)} of {len(workers)} alive" + (f"; silent: {', '.join(silent)}" if silent else "")
        yield "Workers", told
    for worker in alive:
        at_work = ", ".join(worker.units[:SHOWN_UNITS]) or "idle"
        more = f" and {len(worker.units) - SHOWN_UNITS} more" if len(worker.units) > SHOWN_UNITS else ""
        yield f"  {worker.name}", at_work + more
    if summary.runs:
        yield "Runs", ", ".join(f"{run.id} {run.state}" for run in summary.runs)
    for run in summary.runs:
        if run.note:
            yield f"Run {run.id}", run.note
    if summary.orders:
        yield "Orders", _listed(summary.orders)
    if any(run.credits for run in summary.runs):
        yield "Credits", ", ".join(f"run {run.id} {run.credits:.1f}" for run in summary.runs if run.credits)
    for account, reason in summary.accounts.items():
        yield f"Account {account}", reason


def _number(states: Mapping[str, int], among: Sequence[str]) -> int:
    return sum(states.get(state, 0) for state in among)


def _listed(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in numbers.items())
