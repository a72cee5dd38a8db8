"""One look at everything: what begins, what lasts, what ended, and who is told."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from time import time
from typing import Any

from redis import Redis

from eo_tasks.alerts.channels import Channel, Notice, NotTakenError, open_channels
from eo_tasks.alerts.rules import find_alerts
from eo_tasks.alerts.situation import Limits, read_situation
from eo_tasks.overview.known import Known
from eo_tasks.settings import Settings
from eo_tasks.state.alerts import Alert, AlertRecord, Alerts, Word

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Read:
    """What a screen shows of alerts.

    Attributes:
        active: Those that last, the oldest first: rule, target, message, since.
        recent: The last hundred that ended, the latest first: the same, and until.
    """

    active: Sequence[dict[str, Any]]
    recent: Sequence[dict[str, Any]]


def read_alerts(redis: Redis) -> Read:
    """What lasts, and what ended lately."""
    alerts = Alerts(redis)
    return Read(
        [_shown(record) for record in alerts.all() if record.is_active],
        [_shown(record) | {"until": record.until} for record in alerts.recent()],
    )


def watch(
    known: Known, settings: Settings, is_late: Callable[[], bool], clock: Callable[[], float] = time
) -> Counter[str]:
    """Look at everything, and tell of it by the channels that are set.

    Args:
        known: What to look at.
        settings: Limits and channels.
        is_late: Whether nothing more may be sent this time.
        clock: Seconds since 1970.

    Returns:
        How many alerts began, lasted and ended, and how many notices were sent or not taken.
    """
    alerts, now = Alerts(known.ledger.redis), clock()
    found = find_alerts(read_situation(known, alerts, now), Limits.of(settings))
    done = note(alerts, found, now)
    done.update(tell(alerts, open_channels(settings), settings.alert_repeat_s, now, is_late))
    return done


def note(alerts: Alerts, found: Sequence[Alert], now: float) -> Counter[str]:
    """Write down what begins, lasts, and has ended."""
    done: Counter[str] = Counter()
    kept = {record.alert.key: record for record in alerts.all()}
    for alert in found:
        record = kept.pop(alert.key, None)
        lasts = record is not None and not record.until
        since = record.since if record is not None and lasts else now
        changed = AlertRecord(alert, since, 0, now - since >= alert.after_s, {} if record is None else record.told)
        alerts.put(changed)
        if changed.is_active and not (record is not None and record.is_active):
            log.warning("alert begins", extra={"rule": alert.rule, "target": alert.target, "told": alert.message})
        done["lasting" if lasts else "begun"] += 1
    for record in kept.values():
        if record.until:
            continue
        ended = replace(record, until=now)
        alerts.put(ended)
        if ended.counts:
            alerts.end(ended)
            log.info("alert ended", extra={"rule": ended.alert.rule, "target": ended.alert.target})
        done["ended"] += 1
    return done


def tell(
    alerts: Alerts, channels: Sequence[Channel], repeat_s: float, now: float, is_late: Callable[[], bool]
) -> Counter[str]:
    """Tell each channel what it does not know; one that does not take a notice is tried again next time."""
    done: Counter[str] = Counter()
    for channel in channels:
        for record in alerts.all():
            word = record.due(channel.name, now, repeat_s)
            if word is None:
                continue
            if is_late():
                return done
            try:
                channel.send(Notice.of(record, word))
            except NotTakenError as error:
                log.warning("alert not sent", extra={"channel": channel.name, "error": str(error)})
                done["not taken"] += 1
                break
            alerts.put(record.having_told(channel.name, word, now))
            done["sent"] += 1
    for record in alerts.all():
        is_owed = any(record.due(channel.name, now, repeat_s) is not None for channel in channels)
        if not is_owed and record.is_over(now, repeat_s):
            alerts.drop(record)
    return done


def try_channel(channel: Channel, now: float) -> None:
    """Send a notice that says that it is a test.

    Raises:
        NotTakenError: It was not taken.
    """
    alert = Alert("test", "channels", "this is a test of the alerts' channels; nothing is wrong")
    channel.send(Notice.of(AlertRecord(alert, now), Word.FIRING))


def _shown(record: AlertRecord) -> dict[str, Any]:
    shown = asdict(record.alert) | {"since": record.since}
    shown.pop("after_s")
    return shown
