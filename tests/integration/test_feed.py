"""The feeder on a country of thousands of cells, against a real Redis: bounded queues, passes, shares, and their end.

What is stored is kept in memory; the tasks are the real ones, run in this process with steps that take no time.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import monotonic, time

import geopandas
import pytest
from redis import Redis
from shapely.geometry import box

from eo_tasks import steps
from eo_tasks.errors import EmptyCompositeError
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.plan import Inventory, Wanted
from eo_tasks.settings import current_settings
from eo_tasks.state.entry import State
from eo_tasks.state.ledger import Ledger
from eo_tasks.state.queues import queued_ids
from eo_tasks.state.runs import Position, Run, RunState
from eo_tasks.steps import Outcome
from eo_tasks.tasks import checkpoints, context, control, feed
from eo_tasks.tasks.context import runs
from eo_tasks.units import Stage, Unit
from tests.system import this_process

pytestmark = pytest.mark.integration

CELLS, COLUMNS, SIDE_M = 5000, 100, 1000
YEARS = (2021, 2022, 2023)
PAIRS = ((2021, 2022), (2022, 2023))
ROOM = 50  # MAX_IN_FLIGHT
PART = feed.PART_UNITS // (3 * len(YEARS))  # cells looked at in one step
QUEUES = {"downloads": Stage.DOWNLOAD, "stores": Stage.STORE, "btc": Stage.BTC}


class Stored:
    """What is stored, and when it was made: in memory."""

    def __init__(self) -> None:
        self.images: dict[tuple[int, int], float] = {}
        self.staged: dict[tuple[int, int], float] = {}
        self.masks: dict[tuple[int, int, int], float] = {}
        self.looked_at = 0

    def add_all(self, cells: Iterable[int], years: Iterable[int], pairs: Iterable[tuple[int, int]] = ()) -> None:
        """Have images and masks of many cells."""
        for cell in cells:
            self.images.update({(cell, year): 1.0 for year in years})
            self.masks.update({(cell, *pair): 1.0 for pair in pairs})

    def inventory(self, _: object, wanted: Wanted, not_before: float = 0) -> Inventory:
        """``steps.take_inventory``."""
        cells = wanted.grid_ids
        self.looked_at += len(cells)

        def of(found: dict[tuple[int, ...], float], *rest: int) -> set[int]:
            return {cell for cell in cells if found.get((cell, *rest), -1) >= not_before}

        return Inventory(
            {year: of(self.images, year) for year in wanted.years},
            {year: of(self.staged, year) for year in wanted.years},
            {pair: of(self.masks, *pair) for pair in wanted.year_pairs},
        )

    def download(self, _: object, grid_year: GridYear) -> Outcome:
        """``steps.download``."""
        self.staged[grid_year.grid_id, grid_year.year] = time()
        return Outcome(False, {})

    def store(self, _: object, grid_year: GridYear) -> Outcome:
        """``steps.store``."""
        place = grid_year.grid_id, grid_year.year
        self.images[place] = self.staged.pop(place)
        return Outcome(False, {})

    def infer_all(self, _: object, groups: Iterable[list[YearPair]]) -> Iterator[tuple[YearPair, Outcome]]:
        """``steps.infer_all``."""
        for group in groups:
            for pair in group:
                assert {(pair.grid_id, pair.before), (pair.grid_id, pair.after)} <= self.images.keys()
                self.masks[pair.grid_id, pair.before, pair.after] = time()
                yield pair, Outcome(False, {})


@pytest.fixture(scope="module")
def grid_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A country of thousands of cells."""
    corners = [(500_000 + SIDE_M * (n % COLUMNS), 5_000_000 + SIDE_M * (n // COLUMNS)) for n in range(CELLS)]
    squares = [box(x, y, x + SIDE_M, y + SIDE_M) for x, y in corners]
    path = tmp_path_factory.mktemp("country") / "grid.gpkg"
    geopandas.GeoDataFrame(geometry=squares, crs=32633).to_file(path)
    return path


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Stored:
    """Nothing is stored yet; steps take no time."""
    made = Stored()
    monkeypatch.setattr(steps, "take_inventory", made.inventory)
    monkeypatch.setattr(steps, "download", made.download)
    monkeypatch.setattr(steps, "store", made.store)
    monkeypatch.setattr(steps, "infer_all", made.infer_all)
    return made


@pytest.fixture
def ledger(
    environment: dict[str, str], grid_file: Path, redis: Redis, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ledger]:
    """The ledger of this process, which is pointed at the test's Redis and the country."""
    chosen = {"GRID_FILE": str(grid_file), "MAX_IN_FLIGHT": str(ROOM), "IMAGERY_SOURCE": "stac"}
    with this_process(environment | chosen, monkeypatch) as made:
        yield made


def enqueue(years: Iterable[int] = YEARS, cells: Iterable[int] | None = None, **how: bool) -> dict[str, object]:
    from eo_tasks.tasks.enqueue import enqueue_years

    return dict(enqueue_years(list(years), None if cells is None else list(cells), **how))


def the_run(answer: dict[str, object]) -> Run:
    run = runs().get(str(answer["run"]))
    assert run is not None
    return run


def go_on() -> dict[Stage, int]:
    """What the feeder does in its time."""
    return feed.feed(monotonic() + 30)


def look_at_all(run: Run) -> RunState:
    """Look at every cell of a run again, however many ticks that takes."""
    runs().rewind(run)
    for _ in range(CELLS):
        go_on()
        if the_state(run) is not RunState.ACTIVE or runs().position(run).passes:
            return the_state(run)
    raise AssertionError("a pass without an end")


def the_state(run: Run) -> RunState:
    found = runs().get(run.id)
    assert found is not None
    return found.state


def messages(broker: Redis, queue: str) -> list[Unit]:
    """Take the messages out of a queue, next to be delivered first."""
    texts = broker.lrange(queue, 0, -1)
    broker.delete(queue)
    return [Unit.parse(json.loads(text)["headers"]["id"]) for text in reversed(texts)]


def work(broker: Redis, *queues: str) -> list[Unit]:
    """Be the workers of some queues until they are empty; gives what was delivered."""
    from eo_tasks import tasks

    done: list[Unit] = []
    while any(broker.llen(queue) for queue in queues):
        for queue in queues:
            while broker.llen(queue):
                unit = Unit.parse(json.loads(str(broker.rpop(queue)))["headers"]["id"])
                args = (unit.grid_id, *unit.years)
                result = getattr(tasks, unit.stage).apply(args=args, task_id=unit.id)
                assert result.state in ("SUCCESS", "IGNORED"), result.traceback
                done.append(unit)
                is_made = result.state == "SUCCESS" and result.result["state"] == "completed"
                if unit.stage is Stage.DOWNLOAD and is_made:  # its chain goes on
                    assert tasks.store.apply(args=args).state == "SUCCESS"
    return done


def end(ledger: Ledger, units: Iterable[Unit]) -> None:
    """Have units started and completed."""
    for unit in units:
        assert ledger.finish(ledger.begin(unit, "me", "w"), is_skipped=False) is not None


def fail(ledger: Ledger, unit: Unit) -> None:
    ledger.fail(ledger.begin(unit, "me", "w"), f"SourceError: {unit}: credits exhausted")


def counts(ledger: Ledger) -> dict[tuple[Stage, str], dict[State, int]]:
    return ledger.all_counts()


# Never more than there is room for


def test_country_is_fed_into_a_short_queue_and_every_download_is_sent_once(
    ledger: Ledger, broker: Redis, stored: Stored
) -> None:
    answer = enqueue()
    run = the_run(answer)
    assert (answer["cells"], answer["cells_looked_at"], answer["state"]) == (CELLS, PART, "active")
    assert (answer["planned"], answer["skipped"], answer["enqueued"]) == (PART * 8, 0, ROOM)
    assert {name: stage["enqueued"] for name, stage in answer["stages"].items()} == {
        "download": ROOM, "store": 0, "btc": 0,
    }  # fmt: skip
    sent: list[Unit] = []
    while units := messages(broker, "downloads"):
        assert len(units) <= ROOM
        assert len(ledger.active(Stage.DOWNLOAD)) <= ROOM
        assert ledger.ready_length(run.id, Stage.DOWNLOAD) <= ROOM + PART * len(YEARS)
        end(ledger, units)
        stored.images.update({(unit.grid_id, unit.years[0]): 1.0 for unit in units})
        sent += units
        if len(sent) < CELLS * len(YEARS):
            go_on()
    assert sent == [GridYear(cell, year).download for cell in range(CELLS) for year in YEARS]
    assert stored.looked_at == CELLS  # each of them once


def test_full_queue_is_left_alone(ledger: Ledger, broker: Redis, stored: Stored) -> None:
    run = the_run(enqueue())
    looked_at, before = stored.looked_at, broker.lrange("downloads", 0, -1)
    assert set(go_on().values()) == {0}
    assert broker.lrange("downloads", 0, -1) == before
    assert stored.looked_at == looked_at  # enough is ready
    assert runs().position(run).cell == PART


def test_asking_again_while_a_run_goes_on_sends_nothing_twice(ledger: Ledger, broker: Redis) -> None:
    first = enqueue()
    again = enqueue()
    assert (again["run"], again["enqueued"], again["planned"]) == (first["run"], 0, 0)
    assert len(queued_ids(broker, QUEUES)) == broker.llen("downloads") == ROOM


def test_two_feeders_at_once_send_every_unit_once(ledger: Ledger, broker: Redis) -> None:
    from concurrent.futures import ThreadPoolExecutor

    enqueue(cells=range(40))
    sent: list[Unit] = []
    with ThreadPoolExecutor(4) as pool:
        while units := messages(broker, "downloads"):
            sent += units
            end(ledger, units)
            list(pool.map(lambda _: go_on(), range(4)))
    assert sorted(sent) == [GridYear(cell, year).download for cell in range(40) for year in YEARS]


def test_feeder_out_of_time_looks_at_no_further_cell_and_sends_what_is_ready(
    ledger: Ledger, broker: Redis, stored: Stored
) -> None:
    run = the_run(enqueue())
    end(ledger, messages(broker, "downloads"))
    looked_at = stored.looked_at
    assert feed.feed(monotonic())[Stage.DOWNLOAD] == ROOM
    assert stored.looked_at == looked_at
    assert runs().position(run).cell == PART


# Pairs


def test_pairs_beyond_the_room_wait_as_pending_and_are_sent_later(
    ledger: Ledger, broker: Redis, stored: Stored
) -> None:
    cells = range(100)
    stored.add_all(cells, YEARS)
    run = the_run(enqueue(cells=cells))
    waiting = 200 - ROOM
    assert broker.llen("btc") == ROOM
    assert ledger.ready_length(run.id, Stage.BTC) == waiting
    found = Counter[State]()
    for pair in ("2021_2022", "2022_2023"):
        found.update(ledger.counts(Stage.BTC, pair))
    assert found == {State.ENQUEUED: ROOM, State.PENDING: waiting}
    sent: list[Unit] = []
    while units := messages(broker, "btc"):
        assert len(units) <= ROOM
        sent += units
        end(ledger, units)
        go_on()
    assert len(sent) == len(set(sent)) == 200
    assert ledger.ready_length(run.id, Stage.BTC) == 0


def test_pair_whose_second_image_comes_while_the_queue_is_full_is_sent_when_there_is_room(
    ledger: Ledger, broker: Redis, stored: Stored
) -> None:
    cells = range(ROOM + 10)
    stored.add_all(cells, (2021,))
    run = the_run(enqueue((2021, 2022), cells))
    work(broker, "downloads")
    assert broker.llen("btc") == ROOM
    while go_on()[Stage.DOWNLOAD]:
        work(broker, "downloads")
    assert broker.llen("btc") == ROOM
    assert [unit.grid_id for unit in ledger.ready_units(run.id, Stage.BTC)] == list(cells[ROOM:])
    end(ledger, messages(broker, "btc"))
    go_on()
    assert {unit.grid_id for unit in messages(broker, "btc")} == set(cells[ROOM:])


def test_everything_is_made_once_and_the_run_is_complete(ledger: Ledger, broker: Redis, stored: Stored) -> None:
    cells = range(60)
    run = the_run(enqueue(cells=cells))
    delivered: list[Unit] = []
    while units := work(broker, *QUEUES):
        delivered += units
        go_on()
    assert look_at_all(run) is RunState.COMPLETE
    assert Counter(delivered).most_common(1)[0][1] == 1
    assert len(stored.images) == 60 * 3
    assert len(stored.masks) == 60 * 2
    expected = {(stage, str(year)): {State.COMPLETED: 60} for stage in ("download", "store") for year in YEARS}
    expected |= {("btc", f"{before}_{after}"): {State.COMPLETED: 60} for before, after in PAIRS}
    assert counts(ledger) == expected


# The end of a run


def test_run_whose_output_is_all_stored_is_complete_and_the_ledger_says_so(
    ledger: Ledger, broker: Redis, stored: Stored
) -> None:
    stored.add_all(range(CELLS), YEARS, PAIRS)
    answer = enqueue()
    run = the_run(answer)
    assert (answer["planned"], answer["enqueued"]) == (0, 0)
    for _ in range(CELLS):  # a slow machine does not see all cells within the answer's time
        if the_state(run) is not RunState.ACTIVE:
            break
        go_on()
    assert the_state(run) is RunState.COMPLETE
    assert stored.looked_at == CELLS
    expected = {(stage, str(year)): {State.SKIPPED: CELLS} for stage in ("download", "store") for year in YEARS}
    expected |= {("btc", f"{before}_{after}"): {State.SKIPPED: CELLS} for before, after in PAIRS}
    assert counts(ledger) == expected
    assert runs().position(run).last == {"download.done": 15_000, "store.done": 15_000, "btc.done": 10_000}
    assert broker.keys("*") == []


def test_run_with_a_unit_that_waits_for_a_person_is_incomplete_and_tells_what_waits_for_it(
    ledger: Ledger, broker: Redis, stored: Stored
) -> None:
    stored.add_all(range(300), YEARS, PAIRS)
    del stored.images[7, 2022], stored.masks[7, 2021, 2022], stored.masks[7, 2022, 2023]
    run = the_run(enqueue(cells=range(300)))
    assert messages(broker, "downloads") == [GridYear(7, 2022).download]
    assert look_at_all(run) is RunState.ACTIVE
    fail(ledger, GridYear(7, 2022).download)
    assert look_at_all(run) is RunState.INCOMPLETE
    last = runs().position(run).last
    assert {what: number for what, number in last.items() if not what.endswith(".done")} == {
        "download.stuck": 1, "store.blocked": 1, "btc.blocked": 2,
    }  # fmt: skip
    again = enqueue(cells=range(300))
    assert (again["waiting_for_a_person"], again["enqueued"], again["state"]) == (1, 0, "incomplete")


def test_failed_unit_whose_output_turns_up_is_done_and_its_run_complete(
    ledger: Ledger, broker: Redis, stored: Stored
) -> None:
    run = the_run(enqueue((2021,), (7,)))
    fail(ledger, GridYear(7, 2021).download)
    assert look_at_all(run) is RunState.INCOMPLETE
    stored.add_all((7,), (2021,))
    assert enqueue((2021,), (7,))["state"] == "complete"
    assert ledger.entry(GridYear(7, 2021).download).state is State.SKIPPED
    assert ledger.error_groups() == []


def test_output_that_vanished_is_made_again_although_the_ledger_calls_it_done(
    ledger: Ledger, broker: Redis, stored: Stored
) -> None:
    run = the_run(enqueue((2021,), (7,)))
    work(broker, *QUEUES)
    assert look_at_all(run) is RunState.COMPLETE
    stored.images.clear()
    assert enqueue((2021,), (7,))["enqueued"] == 1
    work(broker, *QUEUES)
    assert look_at_all(run) is RunState.COMPLETE
    assert stored.images.keys() == {(7, 2021)}


def test_year_without_imagery_settles_its_store_and_pairs_and_the_run_is_complete(
    ledger: Ledger, broker: Redis, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(pipeline: object, grid_year: GridYear) -> Outcome:
        if grid_year == GridYear(7, 2022):
            raise EmptyCompositeError(f"{grid_year}: no clear observation")
        return stored.download(pipeline, grid_year)

    monkeypatch.setattr(steps, "download", download)
    run = the_run(enqueue(cells=(7, 8)))
    work(broker, *QUEUES)
    empties = [GridYear(7, 2022).download, GridYear(7, 2022).store, *(YearPair(7, *pair).btc for pair in PAIRS)]
    assert {ledger.entry(unit).state for unit in empties} == {State.EMPTY}
    assert look_at_all(run) is RunState.COMPLETE
    assert stored.images.keys() == {(7, 2021), (7, 2023), *((8, year) for year in YEARS)}
    assert stored.masks.keys() == {(8, *pair) for pair in PAIRS}
    again = enqueue(cells=(7, 8))
    assert (again["enqueued"], again["waiting_for_a_person"], again["state"]) == (0, 0, "complete")
    assert enqueue((2021, 2022), (7,))["state"] == "complete"  # another run with the same empty year
    assert the_state(the_run(enqueue((2020, 2022), (7,)))) is RunState.ACTIVE
    assert ledger.entry(YearPair(7, 2020, 2022).btc).state is State.EMPTY  # known before 2020 is there
    assert {unit.id for unit in messages(broker, "downloads")} == {"download_7_2020"}


# Passes


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass for the feeder."""
    passed = [0.0]
    monkeypatch.setattr(feed, "time", lambda: time() + passed[0])

    def pass_by(seconds: float) -> None:
        passed[0] += seconds

    return pass_by


def test_pass_is_repeated_after_a_rest_while_work_goes_on(
    ledger: Ledger, broker: Redis, clock: Callable[[float], None]
) -> None:
    run = the_run(enqueue(cells=range(5)))
    assert runs().position(run).passes == 1
    rest_s = current_settings().sweep_s
    go_on()
    clock(rest_s - 1)
    go_on()
    assert runs().position(run).passes == 1
    clock(1)
    go_on()
    assert runs().position(run).passes == 2


def test_pass_is_repeated_sooner_where_nothing_is_going_on(
    ledger: Ledger, broker: Redis, stored: Stored, clock: Callable[[float], None]
) -> None:
    run = the_run(enqueue((2021,), range(5)))
    work(broker, *QUEUES)
    rest_s = current_settings().sweep_s
    go_on()
    assert the_state(run) is RunState.ACTIVE
    clock(rest_s / 3)
    go_on()
    assert the_state(run) is RunState.COMPLETE


def test_pass_over_a_large_country_is_not_repeated_before_ten_times_as_long_as_it_took(
    ledger: Ledger, broker: Redis, clock: Callable[[float], None]
) -> None:
    run = the_run(enqueue(cells=range(5)))
    runs().move(run, Position(0, 1, worked_s=100, ended_at=time()))
    clock(999)
    go_on()
    assert runs().position(run).passes == 1
    clock(2)
    go_on()
    assert runs().position(run).passes == 2


# Several runs


def test_two_runs_share_the_room_by_halves(ledger: Ledger, broker: Redis) -> None:
    first = the_run(enqueue(cells=range(2000)))
    second = the_run(enqueue(cells=range(2000, 4000)))
    units = messages(broker, "downloads")
    assert all(first.wants(unit) for unit in units)  # it was alone
    end(ledger, units)
    for _ in range(10):
        go_on()
        units = messages(broker, "downloads")
        shares = [sum(run.wants(unit) for unit in units) for run in (first, second)]
        assert shares == [ROOM / 2, ROOM / 2]
        end(ledger, units)


def test_room_that_one_run_does_not_need_is_the_others(ledger: Ledger, broker: Redis) -> None:
    large = the_run(enqueue(cells=range(2000)))
    small = the_run(enqueue((2021,), range(2000, 2004)))
    end(ledger, messages(broker, "downloads"))
    go_on()
    units = messages(broker, "downloads")
    assert [sum(run.wants(unit) for unit in units) for run in (large, small)] == [ROOM - 4, 4]


def test_unit_that_two_runs_want_is_sent_once(ledger: Ledger, broker: Redis, stored: Stored) -> None:
    wide, narrow = the_run(enqueue(cells=range(10))), the_run(enqueue((2022, 2023), range(5, 10)))
    units = work(broker, *QUEUES)
    assert Counter(units).most_common(1)[0][1] == 1
    assert len(stored.masks) == 20
    assert (look_at_all(wide), look_at_all(narrow)) == (RunState.COMPLETE, RunState.COMPLETE)


def test_paused_run_sends_nothing_and_leaves_its_room_to_others(ledger: Ledger, broker: Redis) -> None:
    paused, other = the_run(enqueue(cells=range(2000))), the_run(enqueue(cells=range(2000, 4000)))
    control.pause(paused)
    broker.delete("downloads")  # its messages, which were taken back
    looked_at = runs().position(paused)
    for _ in range(3):
        assert go_on()[Stage.DOWNLOAD] == ROOM
        units = messages(broker, "downloads")
        assert all(other.wants(unit) for unit in units)
        end(ledger, units)
    assert runs().position(paused) == looked_at
    control.resume(the_run({"run": paused.id}))
    go_on()
    assert sum(paused.wants(unit) for unit in messages(broker, "downloads")) == ROOM / 2


def test_added_year_plans_only_that_year_and_its_pairs(ledger: Ledger, broker: Redis, stored: Stored) -> None:
    stored.add_all(range(300), YEARS[:2], PAIRS[:1])
    assert enqueue(YEARS[:2], range(300))["state"] == "complete"
    answer = enqueue(YEARS, range(300))
    cells = int(str(answer["cells_looked_at"]))
    assert {name: stage["planned"] for name, stage in answer["stages"].items()} == {
        "download": cells, "store": cells, "btc": cells,
    }  # fmt: skip
    assert {unit.years for unit in messages(broker, "downloads")} == {(2023,)}


def test_year_added_in_between_makes_new_pairs_of_images_that_are_there(
    ledger: Ledger, broker: Redis, stored: Stored
) -> None:
    stored.add_all((7,), (2021, 2023), ((2021, 2023),))
    run = the_run(enqueue(cells=(7,)))
    assert {unit.id for unit in work(broker, *QUEUES)} == {"download_7_2022", "btc_7_2021_2022", "btc_7_2022_2023"}
    assert look_at_all(run) is RunState.COMPLETE


# From the beginning


def test_fresh_start_plans_again_what_is_stored_and_is_complete_when_all_is_new(
    ledger: Ledger, broker: Redis, stored: Stored
) -> None:
    cells = range(20)
    stored.add_all(cells, YEARS, PAIRS)
    assert enqueue(cells=cells)["state"] == "complete"
    begun = time()
    answer = enqueue(cells=cells, resume=False)
    run = the_run(answer)
    assert (answer["planned"], answer["skipped"], answer["enqueued"]) == (20 * 8, 0, ROOM)
    assert ledger.counts(Stage.STORE, "2021") == {State.SKIPPED: 20}  # until they are made anew
    while work(broker, *QUEUES):
        go_on()
    assert look_at_all(run) is RunState.COMPLETE
    made = [*stored.images.values(), *stored.masks.values()]
    assert (len(made), min(made) >= begun) == (20 * 5, True)


def test_wiped_ledger_is_filled_from_checkpoint_files_and_the_store(
    ledger: Ledger, broker: Redis, stored: Stored, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing, empty = GridYear(3, 2022), GridYear(4, 2021)

    def download(pipeline: object, grid_year: GridYear) -> Outcome:
        if grid_year == empty:
            raise EmptyCompositeError(f"{grid_year}: no clear observation")
        return stored.download(pipeline, grid_year)

    monkeypatch.setattr(steps, "download", download)
    run = the_run(enqueue(cells=range(10)))
    fail(ledger, failing.download)
    work(broker, *QUEUES)
    assert look_at_all(run) is RunState.INCOMPLETE
    before, groups = counts(ledger), ledger.error_groups()
    known = ledger.entries([failing.download, empty.download, empty.store, YearPair(4, 2021, 2022).btc])
    checkpoints.export_changed(monotonic() + 30, is_last=True)
    assert (current_settings().data_dir / "checkpoints" / "download_2022.json").is_file()

    redis.flushall()
    answer = enqueue(cells=range(10))
    assert (answer["enqueued"], answer["waiting_for_a_person"], answer["state"]) == (0, 1, "incomplete")
    assert broker.keys("*") == []
    assert ledger.error_groups() == groups
    assert len(groups) == 1
    after = ledger.entries(known)
    assert {unit: (entry.state, entry.error) for unit, entry in after.items()} == {
        unit: (entry.state, entry.error) for unit, entry in known.items()
    }
    assert {place: sum(found.values()) for place, found in counts(ledger).items()} == {
        place: sum(found.values()) for place, found in before.items()
    }


def test_wiped_ledger_without_checkpoint_files_knows_what_is_stored_and_sends_the_rest(
    ledger: Ledger, broker: Redis, stored: Stored, redis: Redis
) -> None:
    stored.add_all(range(10), (2021,))
    enqueue((2021, 2022), range(10))
    redis.flushall()
    context.reopen()
    answer = enqueue((2021, 2022), range(10))
    assert (answer["skipped"], answer["enqueued"]) == (20, 10)
    assert {unit.years for unit in messages(broker, "downloads")} == {(2022,)}


def test_checkpoint_file_counts_what_is_wanted_and_not_what_was_canceled(
    ledger: Ledger, broker: Redis, stored: Stored
) -> None:
    stored.add_all(range(5), (2021,))
    enqueue((2021,), range(10))
    control.cancel(the_run(enqueue((2021,), range(20, 25))))
    fail(ledger, GridYear(5, 2021).download)
    assert checkpoints.export_changed(monotonic() + 30, is_last=True) == 2
    path = current_settings().data_dir / "checkpoints" / "download_2021.json"
    record = json.loads(path.read_text())
    named = {name: record[name] for name in ("total_tasks", "completed_tasks", "failed_tasks", "skipped_tasks")}
    assert named == {"total_tasks": 15, "completed_tasks": 0, "failed_tasks": 1, "skipped_tasks": 5}
    assert Counter(task["status"] for task in record["tasks"].values()) == {
        "skipped": 5, "failed": 1, "enqueued": 4, "canceled": 5,
    }  # fmt: skip
    assert checkpoints.export_changed(monotonic() + 30, is_last=True) == 0  # nothing changed since


def test_checkpoint_files_that_find_no_time_are_written_the_next_time(ledger: Ledger, stored: Stored) -> None:
    enqueue((2021,), range(3))
    folder = current_settings().data_dir / "checkpoints"
    assert checkpoints.export_changed(monotonic()) == 0
    assert not folder.exists()
    assert checkpoints.export_changed(monotonic() + 30) == 1
    assert [path.name for path in folder.iterdir()] == ["download_2021.json"]


def test_unit_that_is_retried_after_its_cell_was_looked_at_keeps_its_run_going(
    ledger: Ledger, broker: Redis, stored: Stored
) -> None:
    cells, failing = range(PART + 10), GridYear(7, 2022)
    stored.add_all(cells, YEARS, PAIRS)
    del stored.images[7, 2022], stored.masks[7, 2021, 2022], stored.masks[7, 2022, 2023]
    run = the_run(enqueue(cells=cells))
    fail(ledger, failing.download)
    broker.delete("downloads")
    runs().rewind(run)
    feed.advance(run, monotonic())  # one part, with the failed unit in it
    assert runs().position(run).cell == PART
    assert control.retry([failing.download]).sent == 1
    go_on()
    assert runs().position(run).passes == 1
    assert the_state(run) is RunState.ACTIVE
    work(broker, *QUEUES)
    assert look_at_all(run) is RunState.COMPLETE
    assert len(stored.masks) == 2 * len(cells)


def test_checkpoint_files_that_could_not_be_written_are_written_the_next_time(
    ledger: Ledger, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored.add_all(range(3), (2021,))
    enqueue((2021,), range(3))
    whole, tried = checkpoints.write_checkpoint, []

    def full_at_first(*arguments: object) -> None:
        tried.append(arguments[0])
        if len(tried) == 1:
            raise OSError(28, "No space left on device")
        whole(*arguments)

    monkeypatch.setattr(checkpoints, "write_checkpoint", full_at_first)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.export_changed(monotonic() + 30)
    assert checkpoints.export_changed(monotonic() + 30) == 2
    names = [path.name for path in (current_settings().data_dir / "checkpoints").iterdir()]
    assert sorted(names) == ["download_2021.json", "store_2021.json"]
