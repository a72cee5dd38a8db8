"""What a run may cost, and what an order is likely to."""

from eo_tasks.grid import GridYear
from eo_tasks.settings import current_settings
from eo_tasks.state.order import Order, OrderState
from eo_tasks.state.runs import Run
from eo_tasks.tasks.context import accounts, ledger, orders

CHUNK = 5000  # cells looked at in one step
SYNCHRONOUS_CREDITS = 7.0  # the Copernicus Data Space charges a synchronous request flat
FIRST_JOB_CREDITS = 7.0  # assumed of the first job, until it tells its costs


def estimate(order: Order) -> float:
    """Credits that an order is likely to cost."""
    if not order.is_batch:
        return SYNCHRONOUS_CREDITS
    return accounts().price(order.account).of(len(order.cells)) or FIRST_JOB_CREDITS


def is_known(run: Run, order: Order) -> bool:
    """Whether enough is known of what a job costs to begin another one: the first one tells."""
    if current_settings().openeo_max_credits is None or not order.is_batch or accounts().price(order.account).cells:
        return True
    return not _at_work(run, order)


def refusal(run: Run, order: Order) -> str | None:
    """Why an order would cost more than the run may; ``None`` if it would not."""
    limit = current_settings().openeo_max_credits
    if limit is None:
        return None
    spent, at_work = accounts().spent(run.id), sum(map(estimate, _at_work(run, order)))
    if spent + at_work + estimate(order) <= limit:
        return None
    return (
        f"{spent:.1f} credits are spent and {at_work:.1f} at work; the next request would exceed OPENEO_MAX_CREDITS="
        f"{limit:g} with about {estimate(order):.1f} more. {left(run)} composites are left to do. Raise it, "
        f"restart the workers, then: eo-tasks runs resume {run.id}"
    )


def left(run: Run) -> int:
    """How many composites of a run are neither made nor known to be impossible."""
    number = 0
    for start in range(0, len(run.wanted.grid_ids), CHUNK):
        part = run.wanted.part(start, CHUNK)
        units = (GridYear(grid_id, year).download for grid_id in part.grid_ids for year in part.years)
        number += sum(not entry.state.is_settled for entry in ledger().entries(units).values())
    return number


def _at_work(run: Run, order: Order) -> list[Order]:
    """Other orders of the run that are begun and have not told their costs."""
    return [
        other
        for other in orders().all()
        if other.run == run.id
        and other.id != order.id
        and other.state is not OrderState.WAITING
        and other.credits is None
    ]
