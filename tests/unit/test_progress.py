"""How far a run is, from what was missing and what a ledger says."""

from collections.abc import Iterable

from eo_tasks.grid import GridYear, YearPair
from eo_tasks.plan import Inventory, Wanted, plan
from eo_tasks.progress import StageProgress, read_progress
from eo_tasks.state.entry import Entry, State
from eo_tasks.units import Stage, Unit

YEARS = (2021, 2022, 2023)
CHANGED_AT = 1000.0  # when every unit came into its state


class MemoryLedger:
    """The part of a ledger that is looked at."""

    def __init__(self, states: dict[str, State]) -> None:
        self.states = {Unit.parse(name): state for name, state in states.items()}

    def entries(self, units: Iterable[Unit]) -> dict[Unit, Entry]:
        return {unit: Entry(self.states.get(unit, State.PENDING), since=CHANGED_AT) for unit in units}


def progress(states: dict[str, State], inventory: Inventory | None = None, grid_ids=(1, 2), started_at=CHANGED_AT):
    wanted = Wanted(grid_ids, YEARS)
    todo = plan(wanted, inventory or Inventory({}, {}, {}))
    return read_progress(MemoryLedger(states), wanted, todo, started_at)


def everything(state: State, stage: Stage, grid_ids=(1, 2)) -> dict[str, State]:
    grid_years = [GridYear(grid_id, year) for grid_id in grid_ids for year in YEARS]
    pairs = [YearPair(cell, *years) for cell in grid_ids for years in ((2021, 2022), (2022, 2023))]
    units = {
        Stage.DOWNLOAD: [grid_year.download for grid_year in grid_years],
        Stage.STORE: [grid_year.store for grid_year in grid_years],
        Stage.BTC: [pair.btc for pair in pairs],
    }
    return {unit.id: state for unit in units[stage]}


def test_a_run_that_has_just_begun_counts_all_units_as_waiting():
    now = progress({})
    assert now.stages[Stage.DOWNLOAD] == StageProgress(total=6, was_done=0, done=0, running=0, failed=0, blocked=0)
    assert now.stages[Stage.STORE].total == 6
    assert now.stages[Stage.BTC].total == 4
    assert not now.is_settled


def test_what_was_stored_before_counts_as_done():
    stored = Inventory({2021: {1, 2}, 2022: {1}}, {2022: {2}}, {(2021, 2022): {1}})
    now = progress({}, stored)
    assert (now.stages[Stage.DOWNLOAD].was_done, now.stages[Stage.DOWNLOAD].done) == (
        4,
        4,
    )  # a staged one is downloaded
    assert now.stages[Stage.STORE].was_done == 3
    assert now.stages[Stage.BTC].was_done == 1


def test_a_unit_that_was_done_before_the_run_and_is_missing_now_is_not_done():
    states = {unit: State.COMPLETED for stage in Stage for unit in everything(State.COMPLETED, stage)}
    assert progress(states).is_settled
    now = progress(states, started_at=CHANGED_AT + 1)
    assert [stage.done for stage in now.stages.values()] == [0, 0, 0]
    assert not now.is_settled


def test_completed_and_skipped_are_done_and_started_runs():
    now = progress(
        {
            "download_1_2021": State.COMPLETED,
            "download_1_2022": State.SKIPPED,
            "download_1_2023": State.STARTED,
            "download_2_2021": State.ENQUEUED,
            "download_2_2022": State.RETRYING,
        }
    )
    assert now.stages[Stage.DOWNLOAD] == StageProgress(total=6, was_done=0, done=2, running=1, failed=0, blocked=0)


def test_a_failed_download_blocks_its_store_and_both_its_pairs():
    now = progress({"download_1_2022": State.FAILED})
    assert now.stages[Stage.DOWNLOAD].failed == 1
    assert (now.stages[Stage.STORE].failed, now.stages[Stage.STORE].blocked) == (0, 1)
    assert (now.stages[Stage.BTC].failed, now.stages[Stage.BTC].blocked) == (0, 2)
    assert list(now.failures) == [GridYear(1, 2022).download]


def test_a_quarantined_store_blocks_the_one_pair_at_the_end_of_the_years():
    now = progress({"store_1_2021": State.QUARANTINED})
    assert now.stages[Stage.STORE].failed == 1
    assert now.stages[Stage.BTC].blocked == 1
    assert now.stages[Stage.DOWNLOAD].failed == now.stages[Stage.DOWNLOAD].blocked == 0


def test_a_pair_that_failed_itself_is_failed_and_not_blocked_too():
    now = progress({"btc_1_2021_2022": State.FAILED, "download_1_2021": State.CANCELED})
    assert (now.stages[Stage.BTC].failed, now.stages[Stage.BTC].blocked) == (1, 0)


def test_a_run_is_settled_when_all_is_done_failed_or_blocked():
    states = {}
    for stage in Stage:
        states |= everything(State.COMPLETED, stage)
    assert progress(states).is_settled
    states |= {"download_1_2021": State.FAILED, "store_1_2021": State.PENDING, "btc_1_2021_2022": State.PENDING}
    assert progress(states).is_settled
    states["btc_2_2021_2022"] = State.RETRYING
    assert not progress(states).is_settled


def test_a_run_with_one_year_is_settled_without_any_pair():
    wanted = Wanted((1,), (2021,))
    ledger = MemoryLedger({"download_1_2021": State.COMPLETED, "store_1_2021": State.COMPLETED})
    now = read_progress(ledger, wanted, plan(wanted, Inventory({}, {}, {})), CHANGED_AT)
    assert now.stages[Stage.BTC].total == 0
    assert now.is_settled
