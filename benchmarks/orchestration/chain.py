"""Throughput of steps that do nothing: our chain against Celery's alone, on the same Redis, in turns."""

import pstats
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import time
from typing import Any

from benchmarks.orchestration.bare import BROKER_DB, RESULT_DB, STEPS, chained
from benchmarks.orchestration.bare import app as bare_app
from benchmarks.orchestration.system import (
    Commands,
    Cost,
    Watch,
    Workers,
    client,
    environment_of,
    ratio,
    workers,
)
from eo_tasks.celery import BTC, DOWNLOADS, STORES, UNIT_QUEUES
from eo_tasks.local.redis_server import RedisServer
from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges
from eo_tasks.settings import override_environment
from eo_tasks.state.entry import State
from eo_tasks.state.runs import Run
from eo_tasks.tasks import context
from eo_tasks.tasks.send import dispatch
from eo_tasks.units import Stage, Unit

YEARS = (2018, 2019, 2020, 2021, 2022)
STEPS_PER_CELL = 3 * len(YEARS) - 1
OURS = "ours"
BARE_CHAIN = {True: "bare chain of 3, stored", False: "bare chain of 3, ignored"}
BARE_TASK = {True: "bare task, stored", False: "bare task, ignored"}
MANY = "10000000"  # of MAX_IN_FLIGHT: all that a round has to do is queued before it begins
TOPOLOGIES: dict[str, tuple[tuple[str, ...], ...]] = {
    "one worker, 2 processes": (("-c", "2"),),
    "two workers, 2 + 1 processes": (("-c", "2", "-Q", f"{STORES},{DOWNLOADS}"), ("-c", "1", "-Q", BTC)),
}
OUR_APP, BARE_APP = "benchmarks.orchestration.steps", "benchmarks.orchestration.bare"

# Where a worker's time goes: file and function, in the order of the table; times include what they call.
PARTS = {
    "ours: begin": ("state/ledger.py", "begin"),
    "ours: claim": ("state/ledger.py", "claim"),
    "ours: close": ("state/ledger.py", "_end"),
    "ours: confirm": ("state/heartbeat.py", "confirm"),
    "ours: which runs are active": ("state/runs.py", "active"),
    "ours: dispatch of pairs": ("tasks/send.py", "dispatch"),
    "ours: look at the queue": ("tasks/batch.py", "_look"),
    "ours: entries read": ("state/ledger.py", "entry"),
    "Celery: sends the chain's next step": ("celery/canvas.py", "apply_async"),
    "Celery: receives a message": ("worker/strategy.py", "task_message_handler"),
    "Celery: acknowledges": ("kombu/message.py", "ack"),
    "Celery: sends events": ("events/dispatcher.py", "send"),
    "Celery: flushes events": ("events/dispatcher.py", "flush"),
    "Celery: stores results": ("backends/base.py", "mark_as_done"),
    "the tasks in all": ("celery/app/trace.py", "trace_task"),
}


@dataclass(frozen=True)
class Candidate:
    """One way of doing steps.

    Attributes:
        turn: Its workers.
        watch: Sees when they are done.
        fill: Queues so many steps at least; gives how many.
        check: Raises if not so many were done.
    """

    turn: Workers
    watch: Watch
    fill: Callable[[int], int]
    check: Callable[[int], None]


class OurSide:
    """Our chain's producer."""

    def fill(self, steps: int) -> int:
        """Make a run of new cells, and send all of its downloads; the workers send the rest."""
        context.state_redis().flushdb()
        cells = range(-(-steps // STEPS_PER_CELL))
        now = time()
        run = context.runs().add(Run(Wanted(Ranges.of(cells), YEARS), now, since=now))
        units = [Unit(Stage.DOWNLOAD, cell, (year,)) for cell in cells for year in YEARS]
        context.ledger().make_ready(units, run.id)
        assert len(dispatch(Stage.DOWNLOAD, [run])) == len(units)
        return len(cells) * STEPS_PER_CELL

    def check(self, steps: int) -> None:
        """See in the ledger that all were done."""
        counts = context.ledger().all_counts()
        done = sum(numbers.get(State.COMPLETED, 0) for numbers in counts.values())
        assert done == steps, (done, steps, counts)


class BareSide:
    """Celery's own producer."""

    def __init__(self, server: RedisServer, *, is_stored: bool, is_chain: bool) -> None:
        self._results = client(server, RESULT_DB)
        self._is_stored, self._is_chain = is_stored, is_chain

    def fill(self, steps: int) -> int:
        """Send chains, or the same number of steps as tasks alone."""
        self._results.flushdb()
        chains = -(-steps // 3)
        steps_of = STEPS[self._is_stored]
        with bare_app.producer_or_acquire() as producer, producer.batch():
            for cell in range(chains):
                if self._is_chain:
                    chained(cell, 2020, is_stored=self._is_stored).apply_async(producer=producer)
                else:
                    for step in steps_of:
                        step.apply_async((cell, 2020), producer=producer)
        return 3 * chains

    def check(self, steps: int) -> None:
        """See from the results, where there are any, that all were done."""
        found = self._results.dbsize()
        assert found == (steps if self._is_stored else 0), (found, steps)


def measure_chain(server: RedisServer, folder: Path, steps: int, rounds: int) -> dict[str, Any]:
    """Steps per second, processor time and commands of every candidate, in both topologies."""
    override_environment({"MAX_IN_FLIGHT": MANY})
    context.reopen()
    return {
        name: _measure(server, folder / f"chain-{len(arguments)}", arguments, steps, rounds)
        for name, arguments in TOPOLOGIES.items()
    }


def _measure(
    server: RedisServer, folder: Path, arguments: tuple[tuple[str, ...], ...], steps: int, rounds: int
) -> dict[str, Any]:
    environment = environment_of(server, folder, MAX_IN_FLIGHT=MANY)
    with ExitStack() as stack:
        ours = stack.enter_context(workers(environment, folder / "ours"))
        bare = stack.enter_context(workers(environment, folder / "bare"))
        for given in arguments:
            ours.start(OUR_APP, *given)
            bare.start(BARE_APP, *given)
        candidates = _candidates(server, ours, bare)
        for turn in (ours, bare):
            turn.freeze()
        for candidate in candidates.values():  # warm up
            _round(candidate, steps // 4)
        counted = {name: _commands(candidate, min(steps, 300)) for name, candidate in candidates.items()}
        costs: dict[str, list[tuple[int, Cost]]] = {name: [] for name in candidates}
        for turn_number in range(rounds):
            for name in list(candidates)[:: 1 if turn_number % 2 else -1]:  # there and back, against drift
                costs[name].append(_round(candidates[name], steps))
    rates = {name: [number / cost.seconds for number, cost in found] for name, found in costs.items()}
    cpu_s = {name: [cost.cpu_s / number for number, cost in found] for name, found in costs.items()}
    return {
        name: {
            "steps_per_s": median(rates[name]),
            "worker_cpu_ms_per_step": 1e3 * median(cost.worker_cpu_s / number for number, cost in found),
            "redis_cpu_ms_per_step": 1e3 * median(cost.redis_cpu_s / number for number, cost in found),
            **counted[name],
            "ours_against_it": ratio(rates[OURS], rates[name]),
            "ours_against_it_by_cpu": ratio(cpu_s[name], cpu_s[OURS]),
            "steps_per_s_by_round": [round(rate, 1) for rate in rates[name]],
        }
        for name, found in costs.items()
    }


def _candidates(server: RedisServer, ours: Workers, bare: Workers) -> dict[str, Candidate]:
    our_watch, bare_watch = Watch(server, 0, UNIT_QUEUES), Watch(server, BROKER_DB, UNIT_QUEUES)
    our_side = OurSide()
    found = {OURS: Candidate(ours, our_watch, our_side.fill, our_side.check)}
    for is_chain, names in ((True, BARE_CHAIN), (False, BARE_TASK)):
        for is_stored, name in names.items():
            side = BareSide(server, is_stored=is_stored, is_chain=is_chain)
            found[name] = Candidate(bare, bare_watch, side.fill, side.check)
    return found


def _round(candidate: Candidate, steps: int) -> tuple[int, Cost]:
    number = candidate.fill(steps)
    cost = candidate.watch.run(candidate.turn)
    candidate.check(number)
    return number, cost


def _commands(candidate: Candidate, steps: int) -> dict[str, Any]:
    """What workers ask of Redis per step, in a round of its own that is not timed."""
    number = candidate.fill(steps)
    commands = Commands(candidate.watch)
    with commands.counting():
        candidate.watch.run(candidate.turn)
    candidate.check(number)
    return {
        "round_trips_per_step": commands.round_trips / number,
        "commands_per_step": {name: round(count / number, 2) for name, count in commands.by_client.most_common()},
        "in_scripts_per_step": {name: round(count / number, 2) for name, count in commands.in_scripts.most_common()},
    }


def measure_profile(server: RedisServer, folder: Path, steps: int) -> dict[str, Any]:
    """Where the time of our chain goes, in a solo worker under cProfile, beside the bare chain's."""
    override_environment({"MAX_IN_FLIGHT": MANY})
    context.reopen()
    sides: Mapping[str, tuple[str, int, Any]] = {
        OURS: (OUR_APP, 0, OurSide()),
        **{
            name: (BARE_APP, BROKER_DB, BareSide(server, is_stored=is_stored, is_chain=True))
            for is_stored, name in BARE_CHAIN.items()
        },
    }
    result: dict[str, Any] = {}
    for number, (name, (module, database, side)) in enumerate(sides.items()):
        place = folder / f"profile-{number}"
        with workers(environment_of(server, place, MAX_IN_FLIGHT=MANY), place) as turn:
            turn.start(module, "-P", "solo", BENCHMARK_PROFILE=str(place / "profile"))
            turn.freeze()
            candidate = Candidate(turn, Watch(server, database, UNIT_QUEUES), side.fill, side.check)
            done, cost = _round(candidate, steps)
            turn.quit()
        result[name] = _parts(place / "profile", done, cost)
    return result


def _parts(path: Path, steps: int, cost: Cost) -> dict[str, Any]:
    stats: Mapping[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(str(path)).stats  # type: ignore[attr-defined]
    parts = {}
    for name, (file, function) in PARTS.items():
        found = [figures for where, figures in stats.items() if where[0].endswith(file) and where[2] == function]
        if found:
            parts[name] = {
                "calls_per_step": round(sum(figures[0] for figures in found) / steps, 2),
                "ms_per_step": round(1e3 * max(figures[3] for figures in found) / steps, 3),
            }
    return {"ms_per_step": 1e3 * cost.seconds / steps, "parts": parts}


def measure_workers(server: RedisServer, folder: Path, cells: int, rounds: int) -> dict[str, Any]:
    """Steps per second with more and more processes, where each step waits as a download waits for its service."""
    override_environment({"MAX_IN_FLIGHT": MANY})
    context.reopen()
    step_s, numbers = 0.05, (1, 2, 4)
    rates: dict[int, list[float]] = {number: [] for number in numbers}
    side, watch = OurSide(), Watch(server, 0, UNIT_QUEUES)
    for turn_number in range(rounds):
        for number in numbers:  # started anew: a frozen worker is still given the message that it asked for last
            place = folder / f"workers-{number}-{turn_number}"
            with workers(environment_of(server, place, MAX_IN_FLIGHT=MANY), place) as turn:
                turn.start(OUR_APP, "-c", str(number), BENCHMARK_STEP_S=str(step_s))
                turn.freeze()
                done, cost = _round(Candidate(turn, watch, side.fill, side.check), cells * STEPS_PER_CELL)
            rates[number].append(done / cost.seconds)
    return {
        "step_s": step_s,
        "rows": {
            str(number): {
                "steps_per_s": median(rates[number]),
                "speed_up": ratio(rates[number], rates[1]),
                "of_waiting_alone": median(rates[number]) * step_s / number,
            }
            for number in numbers
        },
    }
