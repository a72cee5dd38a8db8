"""The states that screens show: read from a real ledger, and told as they change."""

from collections.abc import Iterator

import numpy as np
import pytest
from redis import Redis

from eo_tasks.overview import states as overview_states
from eo_tasks.overview.known import Known
from eo_tasks.overview.matrix import read_matrix
from eo_tasks.overview.states import States
from eo_tasks.overview.summary import read_summary
from eo_tasks.plan import Wanted
from eo_tasks.ranges import Ranges
from eo_tasks.state.audit import Audit, Deed
from eo_tasks.state.entry import Limits, State
from eo_tasks.state.history import History, Sample, rate_per_s
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.runs import Run, RunState
from eo_tasks.units import Stage, Unit

pytestmark = pytest.mark.integration

CELLS = range(5)


@pytest.fixture
def ledger(redis: Redis) -> Ledger:
    return Ledger(redis, Limits())


@pytest.fixture
def known(redis: Redis, broker: Redis, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Known]:
    """What is read is read again at once."""
    monkeypatch.setattr(overview_states, "REST", 0)
    return Known.of(redis, broker)


def ask(known: Known, cells: range = CELLS, years: tuple[int, ...] = (2022, 2023)) -> Run:
    return known.runs.add(Run(Wanted(Ranges.of(cells), years), 1.0, since=1.0))


def states_of(known: Known, cells: range = CELLS) -> States:
    return States(known, np.array(cells, np.int64))


def download(cell: int, year: int = 2022) -> Unit:
    return Unit(Stage.DOWNLOAD, cell, (year,))


def letters(states: States, stage: str, period: str) -> str:
    columns = {(str(one.stage), one.period): one.states for one in read_matrix(states, {}).columns}
    return columns[stage, period]


def test_what_a_run_wants_is_waiting_until_something_is_known(known: Known, ledger: Ledger) -> None:
    ask(known)
    ledger.adopt([download(0), download(3)], State.SKIPPED)
    states = states_of(known, range(7))
    assert states.refresh() is None
    assert letters(states, "download", "2022") == "kwwkw"  # cells 5 and 6 are wanted by nobody, and left out
    assert letters(states, "btc", "2022_2023") == "wwwww"


def test_changes_are_told_one_by_one(known: Known, ledger: Ledger) -> None:
    run = ask(known)
    states = states_of(known)
    states.refresh()
    assert states.refresh() == []
    ledger.adopt([download(1), download(4, 2023)], State.SKIPPED)
    ledger.make_ready([download(2)], run.id)
    assert states.refresh() == [
        (Stage.DOWNLOAD, "2022", 1, "k"), (Stage.DOWNLOAD, "2022", 2, "p"), (Stage.DOWNLOAD, "2023", 4, "k"),
    ]  # fmt: skip


def test_what_another_has_read_meanwhile_is_still_told(known: Known, ledger: Ledger) -> None:
    ask(known)
    states = states_of(known)
    states.refresh()
    for cell in (1, 2):
        ledger.adopt([download(cell)], State.SKIPPED)
        states.refresh_if_older(0)
    states.refresh_if_older(60)
    assert letters(states, "download", "2022") == "wkkww"
    assert states.refresh() == [(Stage.DOWNLOAD, "2022", 1, "k"), (Stage.DOWNLOAD, "2022", 2, "k")]
    assert states.refresh() == []


def test_what_was_read_a_moment_ago_is_not_read_again(known: Known, ledger: Ledger) -> None:
    ask(known)
    states = states_of(known)
    states.refresh_if_older(60)
    ledger.adopt([download(1)], State.SKIPPED)
    states.refresh_if_older(60)
    assert letters(states, "download", "2022") == "wwwww"
    states.refresh_if_older(0)
    assert letters(states, "download", "2022") == "wkwww"


def test_many_changes_are_told_as_one(known: Known, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview_states, "MOST_CHANGES", 2)
    ask(known)
    states = states_of(known)
    states.refresh()
    ledger.adopt(map(download, range(3)), State.SKIPPED)
    assert states.refresh() is None


def test_a_canceled_run_wants_nothing(known: Known) -> None:
    run = ask(known)
    states = states_of(known)
    states.refresh()
    known.runs.change(run, RunState.CANCELED)
    assert states.refresh() is None
    assert states.places() == []


def test_what_was_read_rests(known: Known, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(known)
    states = states_of(known)
    states.refresh()
    monkeypatch.setattr(overview_states, "REST", 1e9)
    ledger.adopt([download(1)], State.SKIPPED)
    assert states.refresh() == []


def test_many_cells_are_shown_in_groups_that_open(known: Known, ledger: Ledger) -> None:
    cells = range(2500)
    ask(known, cells, (2022,))
    ledger.adopt(map(download, range(3)), State.SKIPPED)
    states = states_of(known, cells)
    states.refresh()
    matrix = read_matrix(states, {})
    assert (matrix.cells, matrix.cells_per_row, matrix.total_rows, len(matrix.rows)) == (2500, 3, 834, 834)
    first = matrix.columns[0]
    assert (first.states[:2], first.done[:2] if first.done else None) == ("kw", [1.0, 0.0])
    assert [(row.first_id, row.last_id, row.cells) for row in (matrix.rows[0], matrix.rows[-1])] == [
        (0, 2, 3), (2499, 2499, 1),
    ]  # fmt: skip
    opened = read_matrix(states, {}, of=(3, 5))
    assert [row.first_id for row in opened.rows] == [3, 4, 5]
    assert opened.columns[0].states == "www"


def test_the_summary_counts_what_two_runs_want_once(known: Known, ledger: Ledger) -> None:
    ask(known, range(3))
    ask(known, range(2, 5), (2022,))
    ledger.adopt([download(0), download(2)], State.SKIPPED)
    known.history.add(Sample(100.0, {Stage.DOWNLOAD: 10}, {}))
    known.history.add(Sample(160.0, {Stage.DOWNLOAD: 40}, {}))
    summary = read_summary(known, now=161.0)
    downloads = summary.stages[0]
    assert {one.period: one.total for one in downloads.periods} == {"2022": 5, "2023": 3}
    assert downloads.states == {"skipped": 2, "waiting": 6}
    assert (downloads.rate_per_hour, downloads.left_s) == (1800.0, 12.0)
    assert summary.left_s is None  # nothing is known of the other stages' pace


def test_a_count_that_fell_begins_anew() -> None:
    counts = (100, 110, 0, 20)
    samples = [Sample(60.0 * n, {Stage.BTC: count}, {}) for n, count in enumerate(counts)]
    assert rate_per_s(samples, Stage.BTC) == 30 / 180
    assert rate_per_s(samples[:1], Stage.BTC) is None


def test_samples_are_kept_for_a_day_and_read_from_their_end(redis: Redis) -> None:
    history = History(redis)
    for at in range(250):
        history.add(Sample(float(at), {Stage.STORE: at}, {Stage.STORE: 1}))
    assert [sample.at for sample in history.since(245)] == [245, 246, 247, 248, 249]
    assert len(history.since(0)) == 250


def test_deeds_are_told_the_latest_first(redis: Redis) -> None:
    audit = Audit(redis)
    deeds = [Deed(float(at), "operator", "pause", f"run {at}", "done") for at in range(3)]
    for deed in deeds:
        audit.add(deed)
    assert audit.latest(2) == [deeds[2], deeds[1]]
