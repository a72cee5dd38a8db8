"""Everything in numbers for Prometheus: read when asked for, in a few round trips, whatever the number of units."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from time import time

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from eo_tasks.errors import PermanentError
from eo_tasks.overview.known import Known
from eo_tasks.overview.letters import WAITING
from eo_tasks.overview.summary import Summary, read_summary
from eo_tasks.state.alerts import Alerts
from eo_tasks.state.durations import Durations
from eo_tasks.state.entry import State
from eo_tasks.state.order import OrderState
from eo_tasks.state.queues import next_ids
from eo_tasks.state.runs import RunState
from eo_tasks.state.workers import Gpu, WorkerReport
from eo_tasks.units import Stage, Unit

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LOOKED_AT = 50  # messages at the head of a queue; of the first ones some may be done in another's batch
TICKS = ("beat.feed", "beat.sweep", "beat.orders", "beat.export", "beat.sample", "beat.alerts", "beat.tidy")
GB = 1e9

Samples = Iterable[tuple[Sequence[str], float]]


def exposition(known: Known) -> bytes:
    """The text of ``/metrics``."""
    registry = CollectorRegistry()
    registry.register(_Numbers(known))
    return generate_latest(registry)


class _Numbers(Collector):
    """Reads when it is asked."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def describe(self) -> Iterable[Metric]:
        """Nothing: being registered must not read anything."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        known, now = self._known, time()
        summary = read_summary(known, now)
        yield from _units(summary)
        yield from _durations(known)
        yield from _queues(known, summary, now)
        yield from _runs(known, summary)
        yield from _workers(known.workers.all(), now)
        yield from _watching(known)


def _units(summary: Summary) -> Iterator[Metric]:
    states = [*map(str, State), WAITING]
    yield _gauge(
        "eo_tasks_units",
        "Units by stage and state.",
        ("stage", "state"),
        (((str(one.stage), state), one.states.get(state, 0)) for one in summary.stages for state in states),
    )
    yield _gauge(
        "eo_tasks_left_seconds",
        "Time that a stage still needs at its rate of late.",
        ("stage",),
        (((str(one.stage),), one.left_s) for one in summary.stages if one.left_s is not None),
    )


def _durations(known: Known) -> Iterator[Metric]:
    took = HistogramMetricFamily(
        "eo_tasks_unit_seconds", "Time from the begin to the end of completed units.", labels=["stage"]
    )
    pixels = CounterMetricFamily("eo_tasks_pixels", "Pixels of composites and masks made.", labels=["stage"])
    for stage, one in Durations(known.ledger.redis).all().items():
        buckets = [(str(bucket), float(number)) for bucket, number in one.up_to.items()]
        took.add_metric([str(stage)], [*buckets, ("+Inf", float(one.count))], one.seconds)
        if stage is not Stage.STORE:  # it makes none
            pixels.add_metric([str(stage)], one.pixels)
    yield took
    yield pixels


def _queues(known: Known, summary: Summary, now: float) -> Iterator[Metric]:
    lengths = summary.queues.items()
    yield _gauge(
        "eo_tasks_queue_length", "Messages that wait.", ("queue",), (((name,), held) for name, held in lengths)
    )
    ages = (((name,), _age_s(known, name, now) if held else 0) for name, held in lengths if name != "control")
    yield _gauge(
        "eo_tasks_queue_age_seconds", "How long the unit has waited that is next, or those after it.", ("queue",), ages
    )


def _age_s(known: Known, queue: str, now: float) -> float:
    """Age of the oldest unit at the head of a queue."""
    units = [unit for one in islice(next_ids(known.broker, queue), LOOKED_AT) if (unit := _unit(one)) is not None]
    entries = known.ledger.entries(units).values()
    return max((now - entry.since for entry in entries if entry.state is State.ENQUEUED), default=0)


def _runs(known: Known, summary: Summary) -> Iterator[Metric]:
    runs = Counter(run.state for run in summary.runs)
    yield _gauge("eo_tasks_runs", "Runs by state.", ("state",), (((str(state),), runs[state]) for state in RunState))
    orders = summary.orders
    yield _gauge(
        "eo_tasks_orders",
        "Open orders at remote sources by state.",
        ("state",),
        (((str(state),), orders.get(state, 0)) for state in OrderState),
    )
    spent = CounterMetricFamily("eo_tasks_credits", "Credits that finished jobs did cost.", labels=["account"])
    for account, price in known.accounts.prices().items():
        spent.add_metric([account], price.credits)
    yield spent


def _workers(workers: Sequence[WorkerReport], now: float) -> Iterator[Metric]:
    alive = [worker for worker in workers if worker.is_alive(now)]
    names = {worker.name for worker in alive}
    kinds = Counter((worker.name.partition("@")[0], str(worker.name in names).lower()) for worker in workers)
    yield _gauge("eo_tasks_workers", "Workers by kind, and whether they are alive.", ("kind", "alive"), kinds.items())
    yield _gauge(
        "eo_tasks_worker_units",
        "Tasks that a worker is at.",
        ("worker",),
        (((worker.name,), len(worker.units)) for worker in alive),
    )
    yield _gauge(
        "eo_tasks_worker_memory_bytes",
        "Memory of a worker and its processes.",
        ("worker",),
        (((worker.name,), worker.worker_memory_gb * GB) for worker in alive),
    )
    hosts = {worker.host: worker for worker in alive}.items()
    for name, meaning, value in _HOST:
        yield _gauge(name, meaning, ("host",), (((host,), value(worker)) for host, worker in hosts))
    cards = {
        (worker.host, str(index), card.name): card for worker in alive for index, card in enumerate(worker.gpus)
    }.items()
    for name, meaning, of in _GPU:
        yield _gauge(name, meaning, ("host", "gpu", "name"), ((labels, of(card)) for labels, card in cards))


_HOST: Sequence[tuple[str, str, Callable[[WorkerReport], float]]] = (
    ("eo_tasks_host_cpu_ratio", "Share of a host's cores in use.", lambda worker: worker.cpu),
    ("eo_tasks_host_memory_bytes", "Memory of a host in use.", lambda worker: worker.memory_gb * GB),
    ("eo_tasks_host_memory_total_bytes", "Memory of a host.", lambda worker: worker.memory_total_gb * GB),
    ("eo_tasks_host_disk_free_bytes", "Room where DATA_DIR is.", lambda worker: worker.disk_free_gb * GB),
    ("eo_tasks_host_disk_total_bytes", "Size of the disk where DATA_DIR is.", lambda worker: worker.disk_total_gb * GB),
)
_GPU: Sequence[tuple[str, str, Callable[[Gpu], float]]] = (
    ("eo_tasks_gpu_load_ratio", "Share of the time that a GPU was at work.", lambda card: card.load),
    ("eo_tasks_gpu_memory_bytes", "Memory of a GPU in use.", lambda card: card.memory_gb * GB),
    ("eo_tasks_gpu_memory_total_bytes", "Memory of a GPU.", lambda card: card.memory_total_gb * GB),
)


def _watching(known: Known) -> Iterator[Metric]:
    redis = known.ledger.redis
    active = Counter((record.alert.rule,) for record in Alerts(redis).all() if record.is_active)
    yield _gauge("eo_tasks_alerts", "Alerts that last, by rule.", ("rule",), active.items())
    ended = redis.mget([f"eo-tasks:tick-ended:{tick}" for tick in TICKS])
    yield _gauge(
        "eo_tasks_tick_ended_timestamp_seconds",
        "When a tick ended last, seconds since 1970.",
        ("tick",),
        (((tick,), float(at)) for tick, at in zip(TICKS, ended, strict=True) if at is not None),
    )


def _gauge(name: str, meaning: str, labels: Sequence[str], samples: Samples) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _unit(unit_id: str) -> Unit | None:
    try:
        return Unit.parse(unit_id)
    except PermanentError:  # a message that is no unit's
        return None
