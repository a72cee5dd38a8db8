"""A look at some cells of a run: what is stored, what the ledger knows, and so what is to be done."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from eo_tasks import steps
from eo_tasks.plan import Plan, Wanted, plan
from eo_tasks.state.entry import Entry, State
from eo_tasks.tasks.context import ledger, pipeline
from eo_tasks.units import Stage, Unit


@dataclass(frozen=True)
class Survey:
    """What some cells of a run need.

    Attributes:
        plan: What is missing from the store.
        done: Units whose output is stored, by stage.
        sendable: Units that can be sent, what is nearly done first: ready pairs, then stores, then downloads.
        in_flight: Units that a message, a worker or a later time has.
        stuck: Missing units that wait for a person, and why.
        empty: Units for which there is no imagery.
        blocked: Units that wait for one that is stuck.
        waiting: Units that wait for one that will be done.
        outdated: Units that failed or had no imagery before the fresh start that is asked for: to be forgotten.
    """

    plan: Plan
    done: Mapping[Stage, int]
    sendable: tuple[Unit, ...]
    in_flight: frozenset[Unit]
    stuck: Mapping[Unit, Entry]
    empty: frozenset[Unit]
    blocked: frozenset[Unit]
    waiting: frozenset[Unit]
    outdated: frozenset[Unit]

    @property
    def is_settled(self) -> bool:
        """Nothing more comes without a person."""
        return not (self.sendable or self.in_flight or self.waiting)

    def tally(self) -> Counter[str]:
        """Units by ``stage.what``, to be added up over all cells."""
        counted = Counter({f"{stage}.done": number for stage, number in self.done.items()})
        kinds: Mapping[str, Iterable[Unit]] = {
            "open": (*self.sendable, *self.in_flight, *self.waiting),
            "stuck": self.stuck,
            "empty": self.empty,
            "blocked": self.blocked,
        }
        for what, units in kinds.items():
            counted.update(f"{unit.stage}.{what}" for unit in units)
        return counted


@dataclass
class _Sorted:
    """Units on their way into a survey."""

    sendable: list[Unit] = field(default_factory=list)
    in_flight: set[Unit] = field(default_factory=set)
    stuck: dict[Unit, Entry] = field(default_factory=dict)
    empty: set[Unit] = field(default_factory=set)
    blocked: set[Unit] = field(default_factory=set)
    waiting: set[Unit] = field(default_factory=set)

    def add(self, unit: Unit, entry: Entry) -> None:
        """A missing unit that waits for no other one."""
        if entry.state.is_in_flight:
            self.in_flight.add(unit)
        elif entry.state.needs_a_person:
            self.stuck[unit] = entry
        elif entry.state is State.EMPTY and unit.stage is Stage.DOWNLOAD:
            self.empty.add(unit)
        else:
            self.sendable.append(unit)

    def add_after(self, unit: Unit, entry: Entry, before: Iterable[Unit]) -> None:
        """A missing unit that waits for others."""
        needed = list(before)
        if entry.state.is_in_flight:
            self.in_flight.add(unit)
        elif any(one in self.empty for one in needed):
            self.empty.add(unit)
        elif any(one in self.stuck or one in self.blocked for one in needed):
            self.blocked.add(unit)
        else:
            self.waiting.add(unit)


def survey(wanted: Wanted, not_before: float = 0) -> Survey:
    """Compare cells and years with the store and the ledger."""
    todo = plan(wanted, steps.take_inventory(pipeline(), wanted, not_before))
    missing = [*todo.stores, *todo.downloads]
    pairs = [*todo.pairs, *todo.waiting]
    units = [pair.btc for pair in pairs] + [unit for gy in missing for unit in (gy.store, gy.download)]
    known = ledger().entries(units)
    ended = {unit for unit, entry in known.items() if entry.state.needs_a_person or entry.state is State.EMPTY}
    outdated = {unit for unit in ended if known[unit].since < not_before}
    known |= dict.fromkeys(outdated, Entry())
    found = _Sorted()
    for pair in todo.pairs:
        found.add(pair.btc, known[pair.btc])
    for grid_year in todo.stores:
        found.add(grid_year.store, known[grid_year.store])
    for grid_year in todo.downloads:
        found.add(grid_year.download, known[grid_year.download])
        found.add_after(grid_year.store, known[grid_year.store], [grid_year.download])
    for pair in todo.waiting:
        found.add_after(pair.btc, known[pair.btc], (gy.store for gy in pair.grid_years))
    images = todo.images_done
    return Survey(
        plan=todo,
        done={Stage.DOWNLOAD: images + len(todo.stores), Stage.STORE: images, Stage.BTC: todo.masks_done},
        sendable=tuple(found.sendable),
        in_flight=frozenset(found.in_flight),
        stuck=found.stuck,
        empty=frozenset(found.empty),
        blocked=frozenset(found.blocked),
        waiting=frozenset(found.waiting),
        outdated=frozenset(outdated),
    )
