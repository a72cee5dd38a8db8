"""Checkpoint files: the ledger as JSON, one file per stage and year, for people, other programs and a lost Redis.

The file of year pairs is named after the earlier year, as masks are. Times are UTC.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from eo_tasks.errors import PermanentError
from eo_tasks.files import read_json, written_aside
from eo_tasks.fingerprint import fingerprint
from eo_tasks.state.entry import Entry, State
from eo_tasks.units import Stage, Unit

log = logging.getLogger(__name__)


def checkpoint_file(stage: Stage, period: str) -> Path:
    """The file that holds the units of a stage and period, from the top of ``DATA_DIR``."""
    return Path("checkpoints") / f"{stage}_{period.partition('_')[0]}.json"


def write_checkpoint(path: Path, stage: Stage, year: int, wanted: int, entries: Iterable[tuple[Unit, Entry]]) -> None:
    """Write units into a checkpoint file, in one atomic move, without holding them all in memory.

    Args:
        path: The file.
        stage: Whose units.
        year: Their year, the earlier one of pairs.
        wanted: How many units are wanted in all; those without an entry are pending.
        entries: The units with an entry.
    """
    counted: Counter[State] = Counter()
    with written_aside(path) as aside:
        tasks = aside.with_name(f"{aside.name}.tasks")
        try:
            with tasks.open("w", encoding="utf-8") as lines:
                for number, (unit, entry) in enumerate(entries):
                    counted[entry.state] += 1
                    comma = ",\n" if number else ""
                    lines.write(f"{comma}    {json.dumps(unit.id)}: {json.dumps(_task(entry), ensure_ascii=False)}")
            head = {
                "stage_name": str(stage),
                "year": year,
                "total_tasks": max(wanted, counted.total()),
                "completed_tasks": counted[State.COMPLETED],
                "failed_tasks": counted[State.FAILED] + counted[State.QUARANTINED],
                "skipped_tasks": counted[State.SKIPPED] + counted[State.EMPTY],
                "exported_at": _time(datetime.now(UTC).timestamp()),
            }
            with aside.open("w", encoding="utf-8") as file, tasks.open(encoding="utf-8") as lines:
                file.write(json.dumps(head, indent=2).removesuffix("\n}") + ',\n  "tasks": {\n')
                file.writelines(lines)
                file.write("\n  }\n}\n")
        finally:
            tasks.unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, dict[int, Entry]]:
    """The units of a checkpoint file that had ended, by period and cell; nothing where there is no such file.

    Units that were in flight are left out: whoever had them is gone. A file that is not one of ours is told of in the
    log and ignored: the store has what counts.
    """
    record = read_json(path)
    found: dict[str, dict[int, Entry]] = {}
    tasks = (record or {}).get("tasks")
    if not isinstance(tasks, Mapping):
        if path.exists():
            log.warning("checkpoint file ignored: not in the format of one", extra={"path": str(path)})
        return found
    for unit_id, task in tasks.items():
        with suppress(PermanentError, LookupError, ValueError, TypeError, AttributeError):
            unit, entry = Unit.parse(unit_id), _entry(task)
            if entry.state.is_settled or entry.state is State.CANCELED:
                found.setdefault(unit.period, {})[unit.grid_id] = entry
    return found


def _task(entry: Entry) -> dict[str, Any]:
    task: dict[str, Any] = {"status": str(entry.state)}
    if entry.started_at:
        task["started_at"] = _time(entry.started_at)
    if entry.state.is_settled or entry.state is State.CANCELED:
        task["completed_at"] = _time(entry.since)
    details = {"attempts": entry.attempts, "deaths": entry.deaths, "worker": entry.worker, "error": entry.error}
    return task | {name: value for name, value in details.items() if value}


def _entry(task: Mapping[str, Any]) -> Entry:
    state, error = State(task["status"]), str(task.get("error", ""))
    since = _seconds(task.get("completed_at"))
    kind = fingerprint(error).id if state.needs_a_person else ""
    numbers = (int(task.get("attempts", 0)), int(task.get("deaths", 0)), since, _seconds(task.get("started_at")))
    return Entry(state, *numbers, 0, str(task.get("worker", "")), error, kind)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat(timespec="seconds")


def _seconds(text: str | None) -> float:
    return 0 if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
