"""The feeder's rate, the memory of what waits and of what is done, and how long it takes to count units."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, time
from typing import Any, TypeVar

from redis import Redis
from redis.client import Pipeline

from benchmarks.orchestration.bare import BROKER_DB, RESULT_DB, STEPS, chained
from benchmarks.orchestration.bare import app as bare_app
from benchmarks.orchestration.chain import BARE_APP, MANY, YEARS
from benchmarks.orchestration.system import (
    Watch,
    client,
    command_s,
    environment_of,
    slope,
    used_bytes,
    workers,
)
from eo_tasks.celery import UNIT_QUEUES
from eo_tasks.local.redis_server import RedisServer
from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges
from eo_tasks.settings import override_environment
from eo_tasks.state.entry import Entry, Followers, State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.queues import queue_lengths
from eo_tasks.state.runs import Run
from eo_tasks.tasks import context
from eo_tasks.tasks.send import publish, signature_of
from eo_tasks.units import Stage, Unit

T = TypeVar("T")

NAME_LENGTHS = (12, 40)
DONE_AT_ONCE = 1000


class _LaterError(Exception):
    """The answer is not there yet."""


class BulkLedger(Ledger):
    """A ledger whose calls for many units travel together: as many workers, in the time of one.

    Each call is made twice: its script is sent with the others, and then the call goes on with the answer.
    """

    _pipe: Pipeline | None = None
    _answers: Iterator[Any] | None = None

    def together(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """Make calls that run one script each; gives what they return."""
        self._pipe = self.redis.pipeline(transaction=False)
        for call in calls:
            with suppress(_LaterError):
                call()
        assert len(self._pipe) == len(calls), "a call that runs not one script"
        pipe, self._pipe = self._pipe, None
        self._answers = iter(pipe.execute())
        try:
            return [call() for call in calls]
        finally:
            self._answers = None

    def _call(self, script: Callable[..., Any], *args: str | int | float) -> Any:
        if self._answers is not None:
            return next(self._answers)
        if self._pipe is None:
            return super()._call(script, *args)
        script(args=[round(self._clock(), 3), *args], client=self._pipe)
        raise _LaterError


def bulk_ledger() -> BulkLedger:
    """One of this process's Redis and limits."""
    return BulkLedger(context.state_redis(), context.ledger().limits)


def work_off(
    ledger: BulkLedger, units: Sequence[Unit], worker: str, follow: Callable[[Unit], Followers | None] = lambda _: None
) -> list[Unit]:
    """Begin and finish enqueued units as workers do; gives the pairs that are enqueued thereby."""
    pairs: list[Unit] = []
    for start in range(0, len(units), DONE_AT_ONCE):
        part = units[start : start + DONE_AT_ONCE]
        leases = ledger.together(
            [partial(ledger.begin, unit, f"{worker}/{number:012x}", worker) for number, unit in enumerate(part)]
        )
        held = [lease for lease in leases if lease is not None]
        assert len(held) == len(part), "a unit could not be leased"
        closed = ledger.together(
            [partial(ledger.finish, lease, is_skipped=False, followers=follow(lease.unit)) for lease in held]
        )
        for one in closed:
            assert one is not None, "a lease was lost"
            pairs += one.enqueued
    return pairs


def new_run(cells: int, years: tuple[int, ...] = YEARS) -> Run:
    """A run of the first cells, kept."""
    now = time()
    return context.runs().add(Run(Wanted(Ranges.of(range(cells)), years), now, since=now))


def empty(server: RedisServer) -> None:
    """Forget what was sent and done; which exchange has which queue is kept."""
    for database in (0, BROKER_DB):
        client(server, database).delete(*UNIT_QUEUES)
    for database in (1, RESULT_DB):
        client(server, database).flushdb()


def measure_enqueue(server: RedisServer, folder: Path, units: int, rounds: int) -> dict[str, Any]:
    """Units enqueued per second: in bulk as the feeder does, against one by one."""
    override_environment({"MAX_IN_FLIGHT": MANY})
    context.reopen()
    few = max(units // 10, 1)
    parts: dict[str, list[float]] = {"make_ready": [], "take": [], "publish": []}

    def in_bulk() -> int:
        run = new_run(units, (2020,))
        wanted = [Unit(Stage.DOWNLOAD, cell, (2020,)) for cell in range(units)]
        times = [perf_counter()]
        context.ledger().make_ready(wanted, run.id)
        times.append(perf_counter())
        taken = [context.ledger().take(Stage.DOWNLOAD, run.id, 1000) for _ in range(-(-units // 1000))]
        times.append(perf_counter())
        for some in taken:
            publish(some)
        times.append(perf_counter())
        for name, start, end in zip(parts, times, times[1:], strict=False):
            parts[name].append(1e6 * (end - start) / units)
        return units

    def our_chain() -> int:
        for cell in range(few):
            both = [signature_of(Unit(stage, cell, (2020,))) for stage in (Stage.DOWNLOAD, Stage.STORE)]
            (both[0].set(ignore_result=True) | both[1]).apply_async()
        return few

    def bare_chain(is_stored: bool) -> Callable[[], int]:
        def run() -> int:
            for cell in range(few):
                chained(cell, 2020, is_stored=is_stored).apply_async()
            return few

        return run

    def bare_task(is_stored: bool) -> Callable[[], int]:
        def run() -> int:
            for cell in range(few):
                STEPS[is_stored][0].apply_async((cell, 2020))
            return few

        return run

    candidates: dict[str, Callable[[], int]] = {
        "ours: ready, taken, published": in_bulk,
        "our chain by apply_async": our_chain,
        "bare task by apply_async, ignored": bare_task(False),
        "bare task by apply_async, stored": bare_task(True),
        "bare chain of 3 by apply_async, ignored": bare_chain(False),
        "bare chain of 3 by apply_async, stored": bare_chain(True),
    }
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, run in candidates.items():
            empty(server)
            start = perf_counter()
            number = run()
            rate = number / (perf_counter() - start)
            if turn:  # the first warms up
                rates[name].append(rate)
    ours = rates["ours: ready, taken, published"]
    return {
        "units": units,
        "rows": {
            name: {"per_s": median(found), "ours_against_it": median(a / b for a, b in zip(ours, found, strict=True))}
            for name, found in rates.items()
        },
        "us_per_unit": {name: median(found[1:]) for name, found in parts.items()},
    }


def measure_memory(server: RedisServer, folder: Path, units: int) -> dict[str, Any]:
    """Bytes of Redis per unit that waits, is queued, or is done; and of a chain of Celery's with its results."""
    override_environment({"MAX_IN_FLIGHT": MANY})
    context.reopen()
    redis, ledger = client(server), bulk_ledger()

    def grown(does: Callable[[], object], number: int = units) -> float:
        before = used_bytes(redis)
        does()
        return (used_bytes(redis) - before) / number

    result: dict[str, Any] = {"units": units}
    empty(server)
    run = new_run(units, (2020, 2021))
    downloads = [Unit(Stage.DOWNLOAD, cell, (2020,)) for cell in range(units)]
    ready = grown(lambda: ledger.make_ready(downloads, run.id))
    taken: list[Unit] = []
    in_flight = ready + grown(lambda: taken.extend(ledger.take(Stage.DOWNLOAD, run.id, units)))
    message = grown(lambda: publish(taken))
    pairs = [Unit(Stage.BTC, cell, (2020, 2021)) for cell in range(units)]
    result["waiting"] = {
        "grid-year ready": ready,
        "grid-year enqueued, ledger": in_flight,
        "grid-year enqueued, message": message,
        "grid-year enqueued, in all": in_flight + message,
        "pair ready": grown(lambda: ledger.make_ready(pairs, run.id)),
    }
    result["done"] = {
        str(stage): {
            str(length): _done(server, ledger, stage, units, "cpu@" + "n" * (length - 4), grown)
            for length in NAME_LENGTHS
        }
        for stage in Stage
    }
    result["bare chain"] = _bare_memory(server, folder, min(units // 5, 3000), grown)
    return result


def _done(
    server: RedisServer, ledger: BulkLedger, stage: Stage, units: int, worker: str, grown: Callable[..., float]
) -> float:
    empty(server)
    years = (2020, 2021) if stage is Stage.BTC else (2020,)
    run = new_run(units, (2020, 2021))

    def do() -> None:
        ledger.make_ready((Unit(stage, cell, years) for cell in range(units)), run.id)
        work_off(ledger, ledger.take(stage, run.id, units), worker)

    used = grown(do)
    assert ledger.counts(stage, "_".join(map(str, years))) == {State.COMPLETED: units}
    return used


def _bare_memory(server: RedisServer, folder: Path, chains: int, grown: Callable[..., float]) -> dict[str, float]:
    empty(server)
    environment = environment_of(server, folder, MAX_IN_FLIGHT=MANY)
    with workers(environment, folder / "memory") as turn:
        turn.start(BARE_APP, "-c", "2")
        turn.freeze()
        watch = Watch(server, BROKER_DB, UNIT_QUEUES)
        STEPS[True][0].apply_async((0, 2020), ignore_result=True)  # which declares the queue
        watch.run(turn)

        def send() -> None:
            for cell in range(chains):
                chained(cell, 2020, is_stored=True).apply_async()
            bare_app.backend.result_consumer.stop()  # its subscription to each result takes memory too

        queued = grown(send, chains)
        both = queued + grown(lambda: watch.run(turn), chains)
    return {"queued": queued, "done, results stored": both}


def measure_status(server: RedisServer, folder: Path, sizes: Iterable[int], calls: int) -> dict[str, Any]:
    """Milliseconds of counting all units by state, and of all that ``eo-tasks status`` asks."""
    context.reopen()
    ledger, redis, broker = context.ledger(), context.state_redis(), client(server)
    places = [(stage, str(year)) for stage in (Stage.DOWNLOAD, Stage.STORE) for year in YEARS]
    places += [(Stage.BTC, f"{year}_{year + 1}") for year in YEARS[:-1]]
    questions: dict[str, Callable[[], object]] = {
        "all_counts": ledger.all_counts,
        "eo-tasks status": lambda: (
            ledger.all_counts(),
            queue_lengths(broker, UNIT_QUEUES),
            ledger.waiting_for_a_person(most=20),
            context.runs().all(),
        ),
    }
    rows: dict[str, Any] = {}
    empty(server)
    filled = 0
    for size in sizes:
        each = -(-size // len(places))
        now = time()
        for stage, period in places:
            cells = range(filled, each)
            for start in range(0, len(cells), 10_000):
                entry = Entry(State.COMPLETED, 1, 0, now, now, 0, "cpu@worker-1")
                failed = Entry(State.FAILED, 1, 0, now, now, 0, "cpu@worker-1", "SourceError: no", "0123456789")
                some = cells[start : start + 10_000]
                ledger.restore(stage, period, {cell: failed if cell % 1000 == 0 else entry for cell in some})
        filled = each
        rows[str(size)] = {name: _asked(redis, question, calls) for name, question in questions.items()}
        assert sum(n for counts in ledger.all_counts().values() for n in counts.values()) == each * len(places)
    exponents = {
        name: {
            what: slope([float(size) for size in rows], [row[name][what] for row in rows.values()])
            for what in ("ms", "redis_ms")
        }
        for name in questions
    }
    return {"calls": calls, "rows": rows, "growth_exponent": exponents}


def _asked(redis: Redis, question: Callable[[], object], calls: int) -> dict[str, float]:
    question()
    before, times = command_s(redis), []
    for _ in range(calls):
        start = perf_counter()
        question()
        times.append(perf_counter() - start)
    return {"ms": 1e3 * median(times), "redis_ms": 1e3 * (command_s(redis) - before) / calls}
