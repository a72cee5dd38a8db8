"""Real steps in processes that kill or freeze themselves between two of them, where a plan in files says so.

Under ``KILL_DIR`` each planned blow is a card, a file with a place and a way in it. An order that passes its first
place draws the next card, and at the card's place the process strikes itself, each after an atomic move of the card::

    deck/<number>      →  dealt/<order id>      →  struck/<order id>
"""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from eo_tasks.sources.openeo import transfer
from eo_tasks.sources.openeo.jobs import Jobs
from eo_tasks.state.accounts import Accounts
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.order import Order, OrderState, read_title
from eo_tasks.state.orders import ORDER_OF, Admission, Orders
from eo_tasks.tasks.context import orders, state_redis
from eo_tasks.tasks.ordering import fetch
from eo_tasks.units import Stage, Unit

P = ParamSpec("P")
T = TypeVar("T")

PIECE = 1000  # bytes of a result that are written at once, so that there is a middle


class Place(StrEnum):
    """Between which two steps of an order: right after what the name says."""

    INTENDED = "intent written"
    ASKING = "about to ask for the job"
    MADE = "job made"
    KNOWN = "job's id written"
    STARTED = "job started"
    SEEN = "seen to be finished"
    READY = "ready written"
    SENDING = "try counted, fetch not sent"
    PARTLY = "result partly here"
    HERE = "result here"
    STAGED = "composite staged"
    FINISHED = "unit finished"
    CUT = "all cells cut"
    CLEARED = "result deleted"
    TAKEN = "job taken over"


class Way(StrEnum):
    """What a process does to itself."""

    CHILD = "child"  # SIGKILL; its worker replaces it
    GROUP = "group"  # SIGKILL, with its whole worker
    FREEZE = "freeze"  # SIGSTOP, with its whole worker


def deal(folder: Path, cards: Iterable[tuple[Place, Way]]) -> None:
    """Lay out a deck, drawn from in this order."""
    for name in ("deck", "dealt", "struck"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, (place, way) in enumerate(cards):
        (folder / "deck" / f"{number:04}").write_text(f"{way} {place}", encoding="utf-8")


def left(folder: Path) -> list[str]:
    """Cards that nothing came of yet."""
    return [card.read_text(encoding="utf-8") for name in ("deck", "dealt") for card in (folder / name).iterdir()]


def struck(folder: Path) -> Counter[tuple[str, str]]:
    """How often each blow, by place and way, was dealt."""
    ways = (card.read_text(encoding="utf-8").split(" ", 1) for card in (folder / "struck").iterdir())
    return Counter((place, way) for way, place in ways)


def install() -> None:
    """Put places between the real steps, for this process."""
    Orders.admit = _then(Orders.admit, _intended)  # type: ignore[method-assign]
    Orders.move = _around_move(Orders.move)  # type: ignore[method-assign]
    Jobs.create = _around_create(Jobs.create)  # type: ignore[method-assign]
    Jobs.start = _then(Jobs.start, lambda _, __, job_id: pass_by(Place.STARTED, _order_of_job(job_id)))  # type: ignore[method-assign]
    Jobs.fetch = _then(Jobs.fetch, lambda _, __, ___, target: pass_by(Place.HERE, target.stem))  # type: ignore[method-assign]
    Accounts.adopt = _then(Accounts.adopt, lambda _, __, ___, job_id: pass_by(Place.TAKEN, _order_of_job(job_id)))  # type: ignore[method-assign]
    Ledger.finish = _around_finish(Ledger.finish)  # type: ignore[method-assign]
    fetch.stage = _then(fetch.stage, _staged)
    fetch.forget_file = _around_forget(fetch.forget_file)
    transfer._write = _in_pieces(transfer._write)


def pass_by(place: Place, order_id: str | None) -> None:
    """Be struck here, if this order's card says so."""
    if order_id is None:
        return
    folder = Path(os.environ["KILL_DIR"])
    card = folder / "dealt" / order_id
    if not card.exists() and not (folder / "struck" / order_id).exists():
        _draw(folder, card)
    try:
        way, _, where = card.read_text(encoding="utf-8").partition(" ")
        if where != place:
            return
        card.rename(folder / "struck" / order_id)  # of two processes, one
    except FileNotFoundError:
        return
    match Way(way):
        case Way.CHILD:
            os.kill(os.getpid(), signal.SIGKILL)
        case Way.GROUP:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        case Way.FREEZE:
            os.killpg(os.getpgrp(), signal.SIGSTOP)


def _draw(folder: Path, card: Path) -> None:
    for top in sorted((folder / "deck").iterdir()):
        with suppress(FileNotFoundError):  # another order drew it
            top.rename(card)
            return


def _then(real: Callable[P, T], after: Callable[..., None]) -> Callable[P, T]:
    """A step, and what is called after it with its answer and its arguments."""

    @wraps(real)
    def step(*args: P.args, **kwargs: P.kwargs) -> T:
        answer = real(*args, **kwargs)
        after(answer, *args, **kwargs)
        return answer

    return step


def _intended(admission: Admission, _: Orders, order: Order, *__: Any, **___: Any) -> None:
    if admission is Admission.ADMITTED:
        pass_by(Place.INTENDED, order.id)


def _around_move(real: Callable[..., bool]) -> Callable[..., bool]:
    @wraps(real)
    def move(self: Orders, order: Order, changed: Order) -> bool:
        is_ready_now = changed.state is OrderState.READY and order.state is not OrderState.READY
        if is_ready_now:
            pass_by(Place.SEEN, order.id)
        if not real(self, order, changed):
            return False
        if is_ready_now:
            pass_by(Place.READY, order.id)
        elif changed.sent > order.sent:
            pass_by(Place.SENDING, order.id)
        elif changed.state is OrderState.CREATED:
            pass_by(Place.KNOWN, order.id)
        return True

    return move


def _around_create(real: Callable[..., str]) -> Callable[..., str]:
    @wraps(real)
    def create(self: Jobs, title: str, request: Any) -> str:
        titled = read_title(title)
        assert titled is not None
        pass_by(Place.ASKING, titled.order_id)
        job_id = real(self, title, request)
        pass_by(Place.MADE, titled.order_id)
        return job_id

    return create


def _around_finish(real: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(real)
    def finish(self: Ledger, lease: Any, **given: Any) -> Any:
        order_id = _order_of_unit(lease.unit) if lease.unit.stage is Stage.DOWNLOAD else None
        closed = real(self, lease, **given)
        if closed is not None:
            pass_by(Place.FINISHED, order_id)
        return closed

    return finish


def _around_forget(real: Callable[[Order], None]) -> Callable[[Order], None]:
    @wraps(real)
    def forget_file(order: Order) -> None:
        is_made = not orders().open_units(order)
        if is_made:
            pass_by(Place.CUT, order.id)
        real(order)
        if is_made:
            pass_by(Place.CLEARED, order.id)

    return forget_file


def _in_pieces(real: Callable[..., int]) -> Callable[..., int]:
    @wraps(real)
    def write(response: Any, file: Any, hashed: Any) -> int:
        return real(response, _Pieces(file), hashed)

    return write


class _Pieces:
    """A file that takes little at a time."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, data: memoryview) -> int:
        """Write the beginning; gives how much that was."""
        written = int(self._file.write(data[:PIECE]))
        pass_by(Place.PARTLY, Path(self._file.name).name.split(".")[1])  # .<order id>.tiff.part
        return written


def _staged(_: Any, __: Any, cell: Any, request: Any, *___: Any) -> None:
    pass_by(Place.STAGED, _order_of_unit(Unit(Stage.DOWNLOAD, cell.grid_id, (request.year,))))


def _order_of_job(job_id: str) -> str | None:
    return next((order.id for order in orders().all() if order.job_id == job_id), None)


def _order_of_unit(unit: Unit) -> str | None:
    order_id = state_redis().hget(ORDER_OF, unit.id)
    return None if order_id is None else str(order_id)
