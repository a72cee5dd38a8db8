"""A report as CSV and as JSON."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, astuple, fields
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from eo_tasks.report.make import Report
from eo_tasks.report.rows import Row
from eo_tasks.report.tally import PairChanges

LINES = 1000  # of a part
MOST_ROWS = 20_000  # of a JSON, which is read as one; a CSV has all
RISKY = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet takes text that begins so for a formula


def as_csv(report: Report) -> Iterator[str]:
    """The rows of a report, a header first, in parts."""
    yield _lines([[field.name for field in fields(Row)]])
    rows = report.rows()
    while part := list(islice(rows, LINES)):
        yield _lines([[_cell(value) for value in astuple(row)] for row in part])


def as_json(report: Report) -> str:
    """The tables of a report and its rows; where there are more rows than a JSON should have, the first ones."""
    rows = report.rows()
    shown = [asdict(row) for row in islice(rows, MOST_ROWS)]
    told: dict[str, Any] = {
        "run": None if report.run is None else report.run.id,
        "made_at": datetime.fromtimestamp(report.made_at, UTC).isoformat(timespec="seconds"),
        "cells": report.cells,
        "cells_counted": report.cells_counted,
        "progress": {stage: [asdict(one) for one in periods] for stage, periods in report.progress.items()},
        "images": [asdict(one) for one in report.images],
        "changes": [_changes(one) for one in report.changes],
        "runs": [asdict(run) for run in report.runs],
        "failures": [asdict(group) for group in report.failures],
        "workers": [asdict(worker) for worker in report.workers],
        "versions": report.versions,
        "settings": report.settings,
        "rows": shown,
        "has_more_rows": next(rows, None) is not None,
    }
    return json.dumps(told, indent=2, ensure_ascii=False)


def _changes(one: PairChanges) -> dict[str, Any]:
    return asdict(one) | {"changed_share": one.changed_share}


def _lines(rows: list[list[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(RISKY) else value
