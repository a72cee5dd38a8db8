"""Alerts from their beginning to their end, on a real Redis."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import time

import pytest
from click.testing import CliRunner
from redis import Redis

from eo_tasks.alerts import NotTakenError, read_alerts, watch
from eo_tasks.alerts.channels import Notice
from eo_tasks.alerts.watch import note, tell
from eo_tasks.cli.alerts import alerts
from eo_tasks.errors import BrokerError
from eo_tasks.grid import GridYear
from eo_tasks.local.redis_server import free_port
from eo_tasks.overview.known import Known
from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges
from eo_tasks.settings import Settings
from eo_tasks.state.accounts import Standing
from eo_tasks.state.alerts import KEPT, Alert, Alerts
from eo_tasks.state.entry import Limits
from eo_tasks.state.history import Sample
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.runs import Run, RunState
from eo_tasks.state.workers import SILENT_S, WorkerReport, Workers
from eo_tasks.units import Stage
from tests.letterbox import Hook, hook
from tests.system import CPU, system, this_process, wait_for

pytestmark = pytest.mark.integration

DISK = Alert("disk", "a", "Host a: 1 GB free.")
QUEUE = Alert("queue", "btc", "Queue btc: 2 messages.", after_s=60)
REPEAT_S = 3600.0
START = 1_700_000_000.0
RUN = Run(Wanted(Ranges.of([463, 464]), (2021, 2022)), created_at=START)


@dataclass
class Kept:
    """A channel that keeps what it is told."""

    name: str = "kept"
    is_broken: bool = False
    notices: list[Notice] = field(default_factory=list)

    def send(self, notice: Notice) -> None:
        if self.is_broken:
            raise NotTakenError("kept: broken. Mend it.")
        self.notices.append(notice)

    @property
    def words(self) -> list[tuple[str, str]]:
        return [(notice.rule, str(notice.state)) for notice in self.notices]


@dataclass
class Looks:
    """Looks at made-up findings, minute by minute."""

    alerts: Alerts
    channels: list[Kept]
    now: float = START

    def look(self, *found: Alert, after_s: float = 30, is_late: bool = False) -> Mapping[str, int]:
        self.now += after_s
        done = note(self.alerts, found, self.now)
        done.update(tell(self.alerts, self.channels, REPEAT_S, self.now, lambda: is_late))
        return done


@pytest.fixture
def looks(redis: Redis) -> Looks:
    return Looks(Alerts(redis), [Kept()])


def test_alert_is_told_once_then_once_a_repeat_and_once_when_it_ends(looks: Looks) -> None:
    channel = looks.channels[0]
    assert looks.look(DISK) == {"begun": 1, "sent": 1}
    for _ in range(119):  # an hour less half a minute
        assert looks.look(replace(DISK, message="Host a: 0.9 GB free.")) == {"lasting": 1}
    assert looks.look(replace(DISK, message="Host a: 0.8 GB free.")) == {"lasting": 1, "sent": 1}
    assert looks.look() == {"ended": 1, "sent": 1}
    assert looks.look() == {}
    assert channel.words == [("disk", "firing"), ("disk", "firing"), ("disk", "resolved")]
    assert [notice.since for notice in channel.notices] == [START + 30] * 3
    assert channel.notices[1].message == "Host a: 0.8 GB free."
    assert channel.notices[2].text == "eo-tasks: Resolved after 60 min: Host a: 0.8 GB free."


def test_alert_that_comes_and_goes_is_told_no_more_often(looks: Looks) -> None:
    for _ in range(50):
        looks.look(DISK)
        looks.look()
    assert looks.channels[0].words == [("disk", "firing"), ("disk", "resolved")]
    looks.look(DISK, after_s=REPEAT_S)
    assert looks.channels[0].words[2:] == [("disk", "firing")]


def test_each_alert_has_a_limit_of_its_own(looks: Looks) -> None:
    looks.look(DISK)
    looks.look(DISK, replace(DISK, target="b"))
    assert [notice.target for notice in looks.channels[0].notices] == ["a", "b"]


def test_alert_that_has_to_last_is_told_when_it_has(looks: Looks, redis: Redis) -> None:
    looks.look(QUEUE)
    looks.look(QUEUE)
    assert looks.channels[0].words == []
    assert read_alerts(redis).active == []
    looks.look(QUEUE)
    assert looks.channels[0].words == [("queue", "firing")]
    assert read_alerts(redis).active[0]["since"] == START + 30


def test_alert_that_did_not_last_is_never_told_nor_remembered(looks: Looks, redis: Redis) -> None:
    looks.look(QUEUE)
    looks.look()
    looks.look(QUEUE)
    assert looks.channels[0].words == []
    assert read_alerts(redis).recent == []


def test_channel_that_fails_is_tried_again_next_time_and_holds_up_no_other(
    looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    broken, good = Kept("broken", is_broken=True), looks.channels[0]
    looks.channels.insert(0, broken)
    with caplog.at_level(logging.WARNING, "eo_tasks.alerts"):
        assert looks.look(DISK, QUEUE) == {"begun": 2, "not taken": 1, "sent": 1}
    told = [record for record in caplog.records if record.getMessage() == "alert not sent"]
    assert [(record.channel, record.error) for record in told] == [("broken", "kept: broken. Mend it.")]
    broken.is_broken = False
    looks.look(DISK)
    assert (broken.words, good.words) == ([("disk", "firing")], [("disk", "firing")])


def test_end_is_told_later_to_a_channel_that_failed_in_between(looks: Looks, redis: Redis) -> None:
    channel = looks.channels[0]
    looks.look(DISK)
    channel.is_broken = True
    looks.look()
    looks.look(after_s=2 * REPEAT_S)
    channel.is_broken = False
    looks.look()
    assert channel.words == [("disk", "firing"), ("disk", "resolved")]
    assert Alerts(redis).all() == []


def test_alert_that_ended_before_a_channel_could_be_told_is_not_told(looks: Looks, redis: Redis) -> None:
    looks.channels[0].is_broken = True
    looks.look(DISK)
    looks.look()
    looks.channels[0].is_broken = False
    looks.look()
    assert looks.channels[0].words == []
    assert Alerts(redis).all() == []
    assert len(read_alerts(redis).recent) == 1


def test_nothing_is_sent_when_it_is_late_and_all_of_it_next_time(looks: Looks) -> None:
    assert looks.look(DISK, is_late=True) == {"begun": 1}
    assert looks.look(DISK) == {"lasting": 1, "sent": 1}


def test_without_channels_alerts_are_kept_for_those_who_look(looks: Looks, redis: Redis) -> None:
    looks.channels.clear()
    looks.look(DISK)
    shown = {"rule": "disk", "target": "a", "message": "Host a: 1 GB free.", "since": START + 30}
    assert read_alerts(redis).active == [shown]
    looks.look()
    assert read_alerts(redis).active == []
    assert read_alerts(redis).recent == [shown | {"until": START + 60}]


def test_the_last_hundred_alerts_are_remembered(looks: Looks, redis: Redis) -> None:
    for number in range(KEPT + 5):
        looks.look(replace(DISK, target=str(number)))
    looks.look()
    recent = read_alerts(redis).recent
    assert [one["target"] for one in (recent[0], recent[-1])] == [str(KEPT + 4), "5"]
    assert len(recent) == KEPT


# What is looked at


@pytest.fixture
def known(redis: Redis, broker: Redis) -> Known:
    return Known.of(redis, broker)


def look(known: Known, now: float, **settings: object) -> dict[tuple[str, str], str]:
    """One look at what Redis holds; gives what lasts."""
    watch(known, Settings(**settings), lambda: False, lambda: now)
    active = read_alerts(known.ledger.redis).active
    return {(one["rule"], one["target"]): one["message"] for one in active}


def test_run_is_stalled_when_no_unit_ends_and_no_more_when_one_does(known: Known, redis: Redis) -> None:
    clock = [START]
    ledger = Ledger(redis, Limits(), lambda: clock[0])
    known.runs.add(RUN)
    units = [GridYear(463, year).download for year in RUN.wanted.years]
    ledger.make_ready(units, RUN.id)
    ledger.take(Stage.DOWNLOAD, RUN.id, 2)
    assert look(known, START + 60) == {}
    assert look(known, START + 1800) == {}
    ((key, told),) = look(known, START + 1900).items()
    assert key == ("stalled", RUN.id)
    assert "no unit ended for 31 min; 2 enqueued" in told

    lease = ledger.begin(units[0], "me", "cpu@a")
    ledger.find_empty(lease, "EmptyCompositeError: no imagery")  # that is an end, too
    assert look(known, START + 1930) == {}
    assert ("stalled", RUN.id) in look(known, START + 1930 + 1801)
    known.runs.change(known.runs.get(RUN.id), RunState.STOPPED)
    assert look(known, START + 4000) == {}


def test_everything_is_read_from_where_the_system_keeps_it(known: Known, redis: Redis, broker: Redis) -> None:
    now = time()
    known.runs.add(replace(RUN, created_at=now))
    known.accounts.learn("acc", "job-1", RUN.id, 95.0, 10)
    known.accounts.note("acc", Standing(out_until=now + 60, reason="CreditsExhaustedError: none left"))
    known.history.add(Sample(now - 100, {Stage.BTC: 0}, {}))
    known.history.add(Sample(now, {Stage.BTC: 5}, {Stage.BTC: 5}))
    known.workers.put(report("cpu@a", now, disk_free_gb=1.0))
    known.workers.put(report("gpu@b", now - SILENT_S - 1, queues=("btc",), host="b"))
    broker.rpush("btc", "message")
    limits = {"openeo_max_credits": 100, "alert_credits": 10}
    expected = {("account", "acc"), ("credits", RUN.id), ("disk", "a"), ("failures", "btc"), ("worker", "gpu@b")}
    assert look(known, now, **limits).keys() == expected
    assert look(known, now + 15, **limits).keys() == expected
    known.runs.change(known.runs.get(RUN.id), RunState.PAUSED, "no credits")
    known.workers.put(report("cpu@a", now + 70, disk_free_gb=1.0))
    assert look(known, now + 70, **limits).keys() == expected | {("queue", "btc"), ("paused", RUN.id)}


def report(name: str, at: float, **given: object) -> WorkerReport:
    values: dict[str, object] = {
        "name": name, "host": "a", "pid": 1, "queues": ("stores", "downloads"), "processes": 2, "units": (),
        "started_at": START, "at": at, "cpu": 0.5, "cores": 2, "memory_gb": 1.0, "memory_total_gb": 4.0,
        "worker_memory_gb": 0.5, "disk_free_gb": 50.0, "disk_total_gb": 100.0,
    }  # fmt: skip
    return WorkerReport(**values | given)


# Real processes


@pytest.fixture
def webhook() -> Iterator[Hook]:
    with hook() as kept:
        yield kept


def test_killed_worker_becomes_an_alert_and_its_successor_ends_it(
    sample_environment: dict[str, str],
    redis: Redis,
    tmp_path: Path,
    webhook: Hook,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from eo_tasks.tasks import context

    environment = sample_environment | {"ALERT_WEBHOOK_URL": webhook.url, "ALERT_FREE_GB": "0"}
    workers = Workers(redis)

    def is_heard_since(at: float) -> bool:
        return any(one.name.startswith("cpu@") and one.started_at > at for one in workers.all())

    with system(environment, tmp_path / "logs") as running, this_process(environment, monkeypatch):
        settings = Settings()

        def look(ahead_s: float = 0) -> None:
            watch(context.known(), settings, lambda: False, lambda: time() + ahead_s)

        running.start("cpu", CPU)
        wait_for(redis, lambda: is_heard_since(0), 60, running.logs)
        look()
        assert webhook.posts == []
        running.kill("cpu")
        killed_at = time()
        look(ahead_s=SILENT_S + 1)
        assert [(post["rule"], post["state"]) for post in webhook.posts] == [("worker", "firing")]
        assert webhook.posts[0]["target"].startswith("cpu@")
        look(ahead_s=SILENT_S + 2)
        assert len(webhook.posts) == 1

        running.start("cpu", CPU)
        wait_for(redis, lambda: is_heard_since(killed_at), 60, running.logs)
        look()
        assert [(post["rule"], post["state"]) for post in webhook.posts[1:]] == [("worker", "resolved")]


def test_ticks_keep_samples_and_look_for_alerts(
    environment: dict[str, str], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with this_process(environment | {"ALERT_FREE_GB": "10"}, monkeypatch) as ledger:
        from beat.ticks import SCHEDULE
        from eo_tasks.tasks import context

        unit = GridYear(463, 2021).store
        ledger.make_ready([unit], "test")
        ledger.take(Stage.STORE, "test", 1)
        ledger.fail(ledger.begin(unit, "me", "cpu@a"), "StorageError: broken")
        Workers(redis).put(report("cpu@a", time(), disk_free_gb=9.0))
        ticks = {tick.name: tick for tick in SCHEDULE}
        assert ticks["beat.sample"].run() == {"completed": 0, "failed": 1}
        assert ticks["beat.alerts"].run() == {"begun": 1}
        (sample,) = context.known().history.since(0)
        assert (sample.done, sample.failed) == ({Stage.STORE: 0}, {Stage.STORE: 1})
        assert [one["rule"] for one in read_alerts(redis).active] == ["disk"]


# The command


def test_command_shows_what_lasts_and_what_ended(
    environment: dict[str, str], looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    with this_process(environment, monkeypatch):
        assert CliRunner().invoke(alerts, []).output == "No alerts.\n"
        looks.look(DISK, replace(DISK, target="b"))
        looks.look(DISK)
        shown = json.loads(CliRunner().invoke(alerts, ["--json"]).output)
        assert [one["target"] for one in shown["active"]] == ["a"]
        assert [(one["target"], one["until"]) for one in shown["recent"]] == [("b", START + 60)]
        table = CliRunner().invoke(alerts, []).output
    assert table.index("lasts") < table.index("2023-11-14 22:14 UTC", table.index("lasts"))
    assert "Host a: 1 GB free." in table


def test_command_without_redis_says_so(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with this_process(environment | {"REDIS_RESULT_URL": f"redis://127.0.0.1:{free_port()}/1"}, monkeypatch):
        ended = CliRunner().invoke(alerts, [])
    assert isinstance(ended.exception, BrokerError)
