"""The look at all open orders: each is moved on by one short request at a time.

Whatever a process is doing when it is killed, the next look continues: what was about to be asked for is written down
first, a job carries its order's name in its title, and is looked for there before another one is made.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from time import monotonic, time

from eo_tasks.celery import DOWNLOADS, app
from eo_tasks.errors import (
    AccountError,
    EOTasksError,
    JobFailedError,
    NoSuchJobError,
    SourceBusyError,
    SourceError,
    SourceUnavailableError,
)
from eo_tasks.settings import ImagerySource, current_settings
from eo_tasks.sources.openeo.backend import Backend
from eo_tasks.sources.openeo.job import Job, JobStatus
from eo_tasks.sources.openeo.jobs import Jobs
from eo_tasks.state.entry import State
from eo_tasks.state.order import Order, OrderState, read_title
from eo_tasks.state.orders import TICK, Admission
from eo_tasks.state.queues import queued_ids
from eo_tasks.state.runs import Run
from eo_tasks.tasks.context import accounts, broker_redis, heartbeat, ledger, orders, pipeline, runs
from eo_tasks.tasks.ordering import budget, ends
from eo_tasks.tasks.ordering.fetch import forget_file, request_of
from eo_tasks.units import Unit

log = logging.getLogger(__name__)

ADOPTED_S = 7 * 24 * 3600  # results older than this are gone at some backends
PROGRESS = tuple(reversed(OrderState))  # what is nearly done first


def look_after(until: float, owner: str) -> dict[str, int]:
    """Move every open order on, until that time (of the monotonic clock); one process does so at a time.

    Returns:
        How many orders are in which state now.
    """
    if not orders().are_open():
        return {}
    lease = heartbeat().take(lambda: orders().lease(TICK, owner))
    if lease is None:
        return {}
    try:
        known = orders().all()
        for order in known:
            if not _is_ours(order):
                _let_go(order)
        for backend in pipeline().backends.values():
            mine = [order for order in known if order.account == backend.account and _is_ours(order)]
            if mine:
                _look_after(backend, mine, until)
    finally:
        heartbeat().drop(lease)
        orders().release(lease)
    return dict(Counter(str(order.state) for order in orders().all()))


def _look_after(backend: Backend, mine: Sequence[Order], until: float) -> None:
    ready = [order for order in mine if order.state is OrderState.READY]
    others = sorted((order for order in mine if order not in ready), key=lambda order: PROGRESS.index(order.state))
    _send_again(ready)
    standing = accounts().standing(backend.account)
    if standing.out_until > time():
        ends.pass_over(backend, others)  # also what was put on order while it was found out
        others = [] if standing.is_closed else [order for order in others if order.state is OrderState.STARTED]
    if not others:
        return
    try:
        with backend.connected() as jobs:
            look = _Look(backend, jobs)
            for order in others:
                if monotonic() >= until:
                    break
                look.move_on(order)
            if look.has_heard:
                ends.answered(backend)
    except (AccountError, SourceUnavailableError) as error:
        ends.account_failed(backend, error)


class _Look:
    """One look at the orders of an account, over one connection.

    Attributes:
        has_heard: Whether the backend has answered anything.
    """

    def __init__(self, backend: Backend, jobs: Jobs) -> None:
        self.has_heard = False
        self._backend, self._jobs = backend, jobs
        self._has_room = accounts().standing(backend.account).busy_until <= time()
        self._listed: tuple[float, list[Job]] | None = None

    def move_on(self, order: Order) -> None:
        """Do what is next for an order.

        Raises:
            AccountError, SourceUnavailableError: No other order of the account will do better now.
        """
        if order.due > time():
            return
        try:
            match order.state:
                case OrderState.WAITING if self._has_room:
                    self._begin(order)
                case OrderState.CREATING:
                    self._find(order)
                case OrderState.CREATED:
                    self._resume(order)
                case OrderState.STARTED:
                    self._see(order, self._told(order.job_id))
        except SourceBusyError as error:
            self._has_room = False
            ends.account_failed(self._backend, error)
        except NoSuchJobError as error:
            now = orders().get(order.id) or order
            if time() < now.since + self._backend.answer_s:  # it may take the backend a moment to know its own job
                orders().move(now, replace(now, due=time() + ends.UNANSWERED_S))
            else:
                ends.failed(now, error)
        except (AccountError, SourceUnavailableError):
            raise
        except EOTasksError as error:
            ends.failed(orders().get(order.id) or order, error)

    def _begin(self, order: Order) -> None:
        """Ask for the first thing, if the account has room and the run has credits for it."""
        units = orders().open_units(order)
        run = _payer(units)
        if run is None or not units:
            _let_go(order)
            return
        if len(units) < len(order.cells):
            fewer = replace(order, cells=tuple(unit.grid_id for unit in units))
            if not orders().move(order, fewer):
                return
            order = fewer
        if order.is_batch and self._adopt(order):
            return
        if not budget.is_known(run, order):
            return
        if (reason := budget.refusal(run, order)) is not None:
            ends.pause(run, reason)
            return
        settings = current_settings()
        state = OrderState.CREATING if order.is_batch else OrderState.READY
        changed = replace(order, state=state, since=round(time(), 3), run=run.id)
        most = settings.openeo_max_jobs if order.is_batch else settings.openeo_max_requests
        match orders().admit(order, changed, most=most, most_a_minute=settings.openeo_starts_per_minute):
            case Admission.FULL | Admission.FAST:
                self._has_room = False
            case Admission.ADMITTED if order.is_batch:
                self._create(changed)
            case Admission.ADMITTED:
                _send(changed)

    def _create(self, order: Order) -> None:
        """Make the job; its order says so already, so that whoever comes next looks for it."""
        try:
            job_id = self._jobs.create(order.title, request_of(order))
            self.has_heard = True
        except AccountError:
            orders().move(order, replace(order, state=OrderState.WAITING))  # a refusal: nothing was made
            raise
        except SourceUnavailableError as error:  # made or not: the job list will tell
            tried = replace(order, since=round(time(), 3), attempts=order.attempts + 1, error=str(error))
            orders().move(order, tried)
            raise
        created = replace(order, state=OrderState.CREATED, job_id=job_id, since=round(time(), 3))
        if not orders().move(order, created):  # this process was frozen, and another one went on in its place
            now = orders().get(order.id)
            if now is None or now.job_id != job_id:  # else the other one found this very job by its title
                self._jobs.delete(job_id)
            return
        self._start(created)

    def _find(self, order: Order) -> None:
        """Look for the job of an order whose process ended, or got no answer, while it made it."""
        if time() < order.since + self._backend.answer_s:
            return  # the request may still be on its way
        found = [job for job in self._all_jobs(order.since) if _is_of(job, order) and job.id not in order.ignored]
        if not found and order.attempts >= ledger().limits.max_attempts:
            ends.give_up(
                order, SourceUnavailableError(f"no job could be made in {order.attempts} tries: {order.error}")
            )
            return
        if not found:
            again = replace(order, since=round(time(), 3))
            if orders().move(order, again):
                self._create(again)
            return
        best, *spare = sorted(found, key=_by_progress)
        for job in spare:
            log.warning("second job of an order deleted", extra={"order": order.id, "job": job.id})
            self._jobs.delete(job.id)
        created = replace(order, state=OrderState.CREATED, job_id=best.id, since=round(time(), 3))
        if orders().move(order, created):
            self._see(created, best)

    def _adopt(self, order: Order) -> bool:
        """Take over a job that makes what the order asks for, and that no open order knows: it is paid for."""
        if not accounts().is_listed(self._backend.account):
            self._keep_unknown()
        orphans = accounts().orphans(self._backend.account)
        taken = {other.job_id for other in orders().all(self._backend.account)} if orphans else set()
        for job_id, text in orphans.items():
            title, created_at = json.loads(text)
            titled = read_title(title)
            is_young = created_at >= max(order.not_before, time() - ADOPTED_S)
            if titled is None or not titled.makes(order) or not is_young or job_id in order.ignored:
                continue
            if job_id in taken:
                return True  # another order cuts its cells out of it; this one's turn comes
            adopted = replace(order, state=OrderState.CREATED, job_id=job_id, since=round(time(), 3))
            if orders().move(order, adopted):  # before the job is an orphan no more: this process may end in between
                if titled.cells == set(order.cells):
                    accounts().adopt(self._backend.account, job_id)
                log.info("job adopted", extra={"order": order.id, "job": job_id})
                self._see(adopted, self._told(job_id))
            return True
        return False

    def _keep_unknown(self) -> None:
        """Look through the account's jobs for those that no open order knows, as after the loss of Redis."""
        mine = orders().all(self._backend.account)
        known = {order.job_id for order in mine}
        waiting = {order.id for order in mine if order.state is OrderState.CREATING}
        unknown = {}
        for job in self._all_jobs(float("-inf")):
            titled = read_title(job.title)
            is_useful = job.status not in (JobStatus.ERROR, JobStatus.CANCELED)
            if titled is not None and is_useful and job.id not in known and titled.order_id not in waiting:
                unknown[job.id] = json.dumps([job.title, job.created_at or 0])
        accounts().keep_orphans(self._backend.account, unknown)

    def _resume(self, order: Order) -> None:
        """Start a job that is there; a process may have ended between the two."""
        if not orders().open_units(order):
            self._jobs.delete(order.job_id)
            orders().drop(order)
            return
        if _payer(order.units) is not None:
            self._see(order, self._told(order.job_id))

    def _start(self, order: Order) -> None:
        self._jobs.start(order.job_id)
        orders().move(order, replace(order, state=OrderState.STARTED, since=round(time(), 3)))

    def _see(self, order: Order, job: Job) -> None:
        """Take in how a job stands."""
        if order.state is OrderState.STARTED and not orders().open_units(order):
            self._jobs.stop(order.job_id)
            orders().drop(order)
            return
        if job.credits is not None:
            accounts().learn(order.account, job.id, order.run, job.credits, len(order.cells))
        match job.status:
            case JobStatus.CREATED:
                self._start(order)
            case JobStatus.QUEUED | JobStatus.RUNNING:
                self._wait(order, job)
            case JobStatus.FINISHED:
                ready = replace(order, state=OrderState.READY, since=round(time(), 3), credits=job.credits, attempts=0)
                if orders().move(order, ready):
                    _send(ready)
            case JobStatus.ERROR:
                ends.failed(order, self._jobs.failure(job.id))
            case JobStatus.CANCELED:
                canceled = f"openEO job {job.id} at {self._backend.login} was canceled there. Retry the cells."
                ends.failed(order, SourceError(canceled))

    def _wait(self, order: Order, job: Job) -> None:
        begun_at = order.begun_at or (round(time(), 3) if job.status is JobStatus.RUNNING else 0.0)
        if begun_at and time() - begun_at > self._backend.timeout_s:
            self._jobs.stop(job.id)
            late = f"openEO job {job.id} ran longer than OPENEO_TIMEOUT_S={self._backend.timeout_s:g} and was stopped."
            ends.failed(order, JobFailedError(late))
        elif (OrderState.STARTED, begun_at) != (order.state, order.begun_at):
            orders().move(order, replace(order, state=OrderState.STARTED, begun_at=begun_at))

    def _told(self, job_id: str) -> Job:
        """What the backend says of a job."""
        job = self._jobs.look(job_id)
        self.has_heard = True
        return job

    def _all_jobs(self, since: float) -> list[Job]:
        """The account's jobs, as they were listed at that time or later."""
        if self._listed is None or self._listed[0] < since + self._backend.answer_s:
            self._listed = time(), list(self._jobs.all())
            self.has_heard = True
        return self._listed[1]


def _send(order: Order) -> None:
    """Have a worker fetch a result, now or as soon as there is one."""
    sent = replace(order, sent=order.sent + 1, due=round(time() + ledger().limits.grace_s, 3))
    if order.sent >= ledger().limits.max_attempts:  # each time its worker was lost with it
        ends.failed(order, JobFailedError(f"its result could not be fetched in {order.sent} tries"))
    elif orders().move(order, sent):
        app.send_task("eo_tasks.fetch", (order.id,), task_id=_fetch_id(order), queue=DOWNLOADS)


def _send_again(ready: Iterable[Order]) -> None:
    """Have results fetched whose message or worker is gone, or whose time has come."""
    due = [order for order in ready if order.due <= time() and not orders().is_leased(order)]
    queued = queued_ids(broker_redis(), [DOWNLOADS]) if due else set()
    for order in due:
        if _fetch_id(order) in queued:
            continue
        units = orders().open_units(order)
        if not units:
            if any(entry.state is State.CANCELED for entry in ledger().entries(order.units).values()):
                ends.keep_job(order)
            forget_file(order)
            orders().drop(order)
        elif any(entry.state is State.ORDERED for entry in ledger().entries(units).values()):
            _send(order)


def _let_go(order: Order) -> None:
    """Close an order that nobody wants, or that no setting knows a source for; what is not begun is taken back."""
    units = orders().open_units(order)
    orders().drop(order)
    ledger().withdraw(units, is_canceled=False, is_ordered=True)


def _is_ours(order: Order) -> bool:
    """Whether the settings know the order's account."""
    backend = pipeline().backends.get(ImagerySource(order.source))
    return backend is not None and backend.account == order.account


def _payer(units: Iterable[Unit]) -> Run | None:
    """The oldest active run that wants any of these."""
    wanted = list(units)
    return next((run for run in runs().active() if any(map(run.wants, wanted))), None)


def _is_of(job: Job, order: Order) -> bool:
    titled = read_title(job.title)
    return titled is not None and titled.order_id == order.id


def _by_progress(job: Job) -> tuple[int, float]:
    order = (JobStatus.FINISHED, JobStatus.RUNNING, JobStatus.QUEUED, JobStatus.CREATED)
    return order.index(job.status) if job.status in order else len(order), job.created_at or 0


def _fetch_id(order: Order) -> str:
    return f"fetch_{order.id}"
