"""Orders under blows, with real workers and real steps: killed workers, lost answers, a wiped Redis, a frozen worker.

What the backend itself holds and wrote down is the evidence. ``CHAOS=long`` is the whole length, for ``make chaos``.
"""

import os
import random
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import psutil
import pytest
from redis import Redis

from eo_tasks.state.accounts import Accounts
from eo_tasks.state.entry import Limits
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.order import Order, OrderState
from eo_tasks.state.orders import Orders
from eo_tasks.state.runs import Runs, RunState
from eo_tasks.steps import clear_scratch
from eo_tasks.units import Stage, Unit
from tests.chaos.harness import REPOSITORY, Progress, Supervisor, enqueue, supervised, until, write_figures
from tests.openeo_backend.faulty import JOBS, RESULTS, Fault, FaultyBackend
from tests.ordering import SIDE_M, check_images, ordering
from tests.stubs.killing import Place, Way, deal, left, struck

pytestmark = [pytest.mark.integration, pytest.mark.chaos, pytest.mark.timeout(3600)]

YEAR = 2023
ROWS = 2  # of cells: a row of blocks, each of 2 × 2
PLACES = [place for place in Place if place not in (Place.ASKING, Place.TAKEN)]
SOON_MADE_GOOD = {Place.INTENDED, Place.MADE, Place.KNOWN, Place.STARTED, Place.SEEN, Place.READY}  # without a grace
LOST = [(path, answer) for path in (JOBS, RESULTS) for answer in ("commit_then_drop", "commit_then_502", "drop")]
BEAT = ("-A", "tests.stubs.killing_control", "beat", "--pidfile=")


def control(name: str) -> tuple[str, ...]:
    return ("-A", "tests.stubs.killing_control", "worker", "-n", f"{name}@%h")


def cpu(name: str) -> tuple[str, ...]:
    return ("-A", "tests.stubs.killing_cpu", "worker", "-n", f"{name}@%h")


CONTROLS = {"control1": control("control1"), "control2": control("control2")}
CPUS = {"cpu1": cpu("cpu1"), "cpu2": cpu("cpu2")}


@dataclass(frozen=True)
class Size:
    """How often each blow is dealt."""

    times: int
    freezes: int
    deadline_s: float


@pytest.fixture
def size() -> Size:
    return Size(20, 3, 2400) if os.environ.get("CHAOS") == "long" else Size(2, 1, 300)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[FaultyBackend]:
    with FaultyBackend(tmp_path / "backend", job_s=0.1, page_size=3, max_active=1000) as running:
        yield running


@dataclass(frozen=True)
class Country:
    """Blocks of four cells in a row, and the workers' environment."""

    environment: dict[str, str]
    backend: FaultyBackend
    folder: Path
    redis: Redis
    blocks: int
    years: tuple[int, ...]

    @property
    def cells(self) -> int:
        """Number of cells."""
        return 4 * self.blocks

    @property
    def kills(self) -> Path:
        """Where the blows are planned."""
        return Path(self.environment["KILL_DIR"])

    @property
    def data_dir(self) -> Path:
        """The archive."""
        return Path(self.environment["DATA_DIR"])

    def enqueue(self, *years: int) -> None:
        """Ask for these years or all, each as a run of its own: no two of them make a pair."""
        for year in years or self.years:
            enqueue(self.environment, self.folder, (year,))

    def open_orders(self) -> list[Order]:
        """Orders that something is still to be done with."""
        return Orders(self.redis, Limits()).all()

    def is_complete(self, *years: int) -> bool:
        """Everything of these years or all is stored, every run has ended, and no order is open."""
        stages, years = (Stage.DOWNLOAD, Stage.STORE), years or self.years
        units = [Unit(stage, cell, (year,)) for stage in stages for cell in range(self.cells) for year in years]
        states = [run.state for run in Runs(self.redis).all()]
        have_ended = len(states) >= len(years) and set(states) == {RunState.COMPLETE}
        return have_ended and Progress(Ledger(self.redis, Limits()), units).is_complete() and not self.open_orders()


def country(
    environment: dict[str, str],
    backend: FaultyBackend,
    folder: Path,
    redis: Redis,
    blocks: int,
    years: tuple[int, ...] = (YEAR,),
) -> Country:
    """So many blocks of 2 × 2 cells, and workers that are quick to see that one of them is dead."""
    made = ordering(environment, backend, folder, 2 * blocks, ROWS) | {
        "PYTHONPATH": str(REPOSITORY),
        "KILL_DIR": str(folder / "kills"),
        "OPENEO_BLOCK_KM": str(2 * SIDE_M / 1000),
        "OPENEO_POLL_S": "0.3",
        "OPENEO_ANSWER_S": "1.5",
        "OPENEO_MAX_JOBS": "8",
        "OPENEO_STARTS_PER_MINUTE": "100000",
        "LEASE_S": "1",
        "SWEEP_S": "1",
        "MAX_WORKERS": "1",  # a whole worker that is killed takes no other order's fetch with it
        "MAX_DEATHS": "1000",  # the units are not to blame
        "MAX_ATTEMPTS": "1000",
    }
    deal(folder / "kills", ())
    return Country(made, backend, folder, redis, blocks, years)


@dataclass(frozen=True)
class Books:
    """What the backend wrote down, by title.

    Attributes:
        created: Jobs ever made.
        started: Jobs ever started.
        unstarted: Jobs that were deleted before they were started.
        left: Jobs that it holds in the end.
    """

    created: Counter[str]
    started: Counter[str]
    unstarted: Counter[str]
    left: Counter[str]

    @classmethod
    def of(cls, backend: FaultyBackend) -> "Books":
        """Read them."""
        started = {each["id"] for each in backend.audit("started")}
        return cls(
            created=Counter(each["title"] for each in backend.audit("created")),
            started=Counter(each["title"] for each in backend.audit("started")),
            unstarted=Counter(each["title"] for each in backend.audit("deleted") if each["id"] not in started),
            left=Counter(job["title"] for job in backend.jobs()),
        )

    def figures(self) -> dict[str, int]:
        """Their totals."""
        return {
            "titles": len(self.created),
            "jobs_created": self.created.total(),
            "jobs_started": self.started.total(),
            "unstarted_deleted": self.unstarted.total(),
        }


def check_nothing_is_left(made: Country) -> None:
    """Every composite is stored whole, every job paid once, and nothing lies about."""
    redis, data_dir = made.redis, made.data_dir
    check_images(data_dir, made.cells, 2 * made.blocks, made.years)
    clear_scratch(data_dir / "staging", older_than_s=0)  # a process killed while it wrote leaves a hidden folder
    assert not [path for name in ("orders", "staging") for path in (data_dir / name).rglob("*") if path.is_file()]
    assert not redis.hlen("eo-tasks:orders")
    assert not redis.hlen("eo-tasks:order-of")
    assert not redis.keys("eo-tasks:order-slots:*")
    assert not any(redis.zcard(f"eo-tasks:active:{stage}") for stage in Stage)
    jobs = made.backend.jobs()
    (account,) = (str(key).rpartition(":")[2] for key in redis.keys("eo-tasks:paid:*"))
    spent = sum(Accounts(redis).spent(run.id) for run in Runs(redis).all())
    assert spent == pytest.approx(sum(job["costs"] for job in jobs))
    price = Accounts(redis).price(account)
    assert (price.jobs, price.cells) == (len(jobs), made.cells * len(made.years))


def test_each_order_is_one_job_wherever_its_worker_is_killed(
    environment: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path, size: Size
) -> None:
    cards = deck(size.times)
    made = country(environment, backend, tmp_path, redis, len(cards))
    deal(made.kills, cards)
    begun = monotonic()
    with supervised(made.environment, tmp_path / "logs") as workers:
        workers.start(beat=BEAT, **CONTROLS, **CPUS)
        made.enqueue()
        until(made.is_complete, size.deadline_s, lambda: explain(made, workers))
        seconds = round(monotonic() - begun, 1)
    books, blows = Books.of(backend), struck(made.kills)
    by_place = {place: sum(number for (where, _), number in blows.items() if where == place) for place in PLACES}
    by_way = {way: sum(number for (_, how), number in blows.items() if how == way) for way in (Way.CHILD, Way.GROUP)}
    pages = backend.audit("listed")
    write_figures(
        "orders, workers killed", seconds=seconds, kills=by_way, by_place=by_place, **books.figures(),
        composites=made.cells, lists=len([page for page in pages if page["below"] is None]), pages=len(pages),
    )  # fmt: skip
    assert not left(made.kills)
    assert set(by_place.values()) == {size.times}
    assert set(books.created.values()) == {1}, books.created - books.left
    assert books.created == books.started == books.left
    assert len(books.created) == made.blocks
    check_nothing_is_left(made)


def deck(times: int) -> list[tuple[Place, Way]]:
    """Every place so often, in both ways by turns, shuffled; last come some after which there is not long to wait."""
    cards = [(place, (Way.CHILD, Way.GROUP)[number % 2]) for place in PLACES for number in range(times)]
    rng = random.Random(20261125)  # noqa: S311
    rng.shuffle(cards)
    last = [card for card in cards if card[0] in SOON_MADE_GOOD][-12:]
    for card in last:
        cards.remove(card)
    return cards + last


def explain(made: Country, workers: Supervisor) -> str:
    """What a failing drill wants to see."""
    return f"cards left: {left(made.kills)}\nopen: {made.open_orders()}\n{workers.explain()}"


def test_each_order_is_one_job_whichever_answers_are_lost(
    environment: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path, size: Size
) -> None:
    made = country(environment, backend, tmp_path, redis, 4 * size.times)
    backend.set_faults(*(Fault("POST", path, answer, times=size.times, every=2) for path, answer in LOST))
    begun = monotonic()
    with supervised(made.environment, tmp_path / "logs") as workers:
        workers.start(beat=BEAT, **CONTROLS, **CPUS)
        made.enqueue()
        until(made.is_complete, size.deadline_s, lambda: explain(made, workers))
        seconds = round(monotonic() - begun, 1)
    books = Books.of(backend)
    lost = Counter(
        f"{fault['answer']} of {'start' if fault['path'].endswith('results') else 'creation'}"
        for fault in backend.audit("fault")
    )
    write_figures("orders, answers lost", seconds=seconds, lost=dict(lost), **books.figures(), composites=made.cells)
    assert len(lost) == len(LOST)
    assert set(lost.values()) == {size.times}
    assert set(books.created.values()) == {1}, books.created - books.left
    assert books.created == books.started == books.left
    assert len(books.created) == made.blocks
    check_nothing_is_left(made)


def test_jobs_that_are_paid_for_are_taken_over_after_redis_lost_everything(
    environment: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path, size: Size
) -> None:
    finished, running, queued = years = (2021, 2022, 2023)
    made = country(environment, backend, tmp_path, redis, 2, years)
    backend.set_faults(Fault("GET", RESULTS, {"status": 503}, times=-1))  # nothing is fetched
    begun = monotonic()
    with supervised(made.environment, tmp_path / "logs") as workers:
        workers.start(beat=BEAT, **CONTROLS, **CPUS)
        for year, status, job_s in ((finished, "finished", 0.1), (running, "running", 16), (queued, "queued", 16)):
            backend.set(job_s=job_s)
            made.enqueue(year)
            until(
                lambda year=year, status=status: (
                    [job["status"] for job in backend.jobs() if job["year"] == year] == [status] * made.blocks
                ),
                size.deadline_s,
                lambda: explain(made, workers),
            )
        before = backend.jobs()
        redis.flushall()
        backend.set_faults()
        deal(made.kills, [(place, way) for place in (Place.KNOWN, Place.TAKEN) for way in (Way.CHILD, Way.GROUP)])
        made.enqueue()
        until(made.is_complete, size.deadline_s, lambda: explain(made, workers))
        seconds = round(monotonic() - begun, 1)
    books = Books.of(backend)
    statuses = Counter(job["status"] for job in before)
    write_figures(
        "orders, Redis wiped", seconds=seconds, jobs_before=dict(statuses), kills=sum(struck(made.kills).values()),
        **books.figures(), composites=made.cells * len(years),
    )  # fmt: skip
    assert statuses == {"finished": 2, "running": 2, "queued": 2}
    assert not left(made.kills)
    assert [job["id"] for job in backend.jobs()] == [job["id"] for job in before]
    assert set(books.created.values()) == set(books.started.values()) == {1}
    assert books.created == books.started == books.left
    check_nothing_is_left(made)


def test_worker_that_wakes_up_after_another_took_its_order_over_leaves_one_job(
    environment: dict[str, str], backend: FaultyBackend, redis: Redis, tmp_path: Path, size: Size
) -> None:
    backend.set(job_s=5)  # that of the other worker is still at work when the first one wakes up
    years = tuple(range(2024 - 2 * size.freezes, 2024))
    places = dict(zip(years, size.freezes * (Place.ASKING, Place.MADE), strict=True))
    made = country(environment, backend, tmp_path, redis, 2, years)
    slept_s: list[float] = []
    begun = monotonic()
    with supervised(made.environment, tmp_path / "logs") as workers:

        def wait(condition: Callable[[], bool]) -> None:
            until(condition, size.deadline_s, lambda: explain(made, workers))

        workers.start(beat=BEAT, **CONTROLS, **CPUS)
        for year, place in places.items():
            deal(made.kills, [(place, Way.FREEZE)])
            made.enqueue(year)
            wait(lambda: bool(frozen(workers)))
            asleep, (sleeper,) = monotonic(), frozen(workers)
            wait(lambda year=year: [order.state for order in made.open_orders()] == made.blocks * [OrderState.STARTED])
            log = tmp_path / "logs" / f"{sleeper}.log"
            slept_s.append(monotonic() - asleep)
            already = log.stat().st_size
            workers.signal(sleeper, signal.SIGCONT)
            wait(lambda log=log, already=already: longest_look_s(log, already) > slept_s[-1])
            wait(lambda year=year: made.is_complete(year))
        seconds = round(monotonic() - begun, 1)
    books, blows = Books.of(backend), struck(made.kills)
    write_figures(
        "orders, worker frozen", seconds=seconds, slept_s=[round(each, 1) for each in slept_s],
        by_place={place: number for (place, _), number in blows.items()}, **books.figures(),
        composites=made.cells * len(years),
    )  # fmt: skip
    assert min(slept_s) > float(made.environment["LEASE_S"])
    assert set(books.started.values()) == set(books.left.values()) == {1}
    assert books.started == books.left == books.created - books.unstarted
    assert books.unstarted.total() <= size.freezes  # what was asked for too late; who asks deletes it
    assert len(books.created) == made.blocks * len(years)
    check_nothing_is_left(made)


def frozen(workers: Supervisor) -> list[str]:
    """Control workers that are stopped, with all their processes."""
    return [
        name for name in CONTROLS if {process.status() for process in workers.children(name)} == {psutil.STATUS_STOPPED}
    ]


def longest_look_s(log: Path, already: int) -> float:
    """How long the longest look at the orders took that a worker has ended, by its log after so many bytes."""
    told = log.read_bytes()[already:].decode()
    return max(map(float, re.findall(r"beat\.orders\[\S+\] succeeded in (\S+)s", told)), default=0)
