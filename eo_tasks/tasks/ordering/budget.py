"""What a run may cost, and what an order is likely to."""

from collections.abc import Iterable

from eo_tasks.settings import current_settings
from eo_tasks.state.order import Order, OrderState
from eo_tasks.state.runs import Run
from eo_tasks.tasks.context import accounts

SYNCHRONOUS_CREDITS = 7.0  # the Copernicus Data Space charges a synchronous request flat
FIRST_JOB_CREDITS = 7.0  # assumed of the first job, until it tells its costs


def estimate(order: Order) -> float:
    """Credits that an order is likely to cost."""
    if not order.is_batch:
        return SYNCHRONOUS_CREDITS
    return accounts().price(order.account).of(len(order.cells)) or FIRST_JOB_CREDITS


def allows(run: Run, order: Order, others: Iterable[Order]) -> bool:
    """Whether an order may be begun now.

    While nothing is known of what jobs cost, one is made at a time.

    Args:
        run: Who pays.
        order: What for.
        others: All open orders; those that are at work are reckoned in.
    """
    if current_settings().openeo_max_credits is None or not order.is_batch or accounts().price(order.account).cells:
        return True
    return not any(_is_at_work(other, run, order) for other in others)


def refusal(run: Run, order: Order, others: Iterable[Order]) -> str | None:
    """Why an order would cost more than the run may; ``None`` if it would not."""
    limit = current_settings().openeo_max_credits
    if limit is None:
        return None
    spent = accounts().spent(run.id)
    at_work = sum(estimate(other) for other in others if _is_at_work(other, run, order))
    if spent + at_work + estimate(order) <= limit:
        return None
    return (
        f"{spent:.1f} credits are spent and {at_work:.1f} at work; the next request would exceed OPENEO_MAX_CREDITS="
        f"{limit:g} with about {estimate(order):.1f} more. Raise it, restart the workers, then: "
        f"eo-tasks runs resume {run.id}"
    )


def _is_at_work(other: Order, run: Run, order: Order) -> bool:
    """Whether another order of the run is begun and has not told its costs."""
    is_begun = other.state is not OrderState.WAITING and other.credits is None
    return is_begun and other.run == run.id and other.id != order.id
