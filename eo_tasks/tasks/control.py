"""What a person does to runs and to units that failed."""

from collections.abc import Iterable
from dataclasses import dataclass

from eo_tasks.errors import PermanentError
from eo_tasks.state.runs import Run, RunState
from eo_tasks.tasks.context import accounts, ledger, runs
from eo_tasks.tasks.send import dispatch
from eo_tasks.units import Stage, Unit


def find_run(name: str) -> Run:
    """The run of this id or the beginning of it, or ``latest``.

    Raises:
        PermanentError: There is no such run, or more than one.
    """
    known = runs().all()
    found = known[-1:] if name == "latest" else [run for run in known if run.id.startswith(name)]
    if len(found) != 1:
        those = ", ".join(run.id for run in (found or known)) or "none"
        raise PermanentError(f"Run {name}: {'more than one fits' if found else 'no such run'}; there are: {those}.")
    return found[0]


def pause(run: Run, note: str = "") -> int:
    """Start nothing more of a run until it is resumed; what is at work ends, a composite that is made is stored.

    Args:
        run: Which.
        note: Why, where nobody asked for it.

    Returns:
        How many units that waited in queues were taken back.
    """
    return _halt(run, RunState.PAUSED, note)


def stop(run: Run) -> int:
    """Finish what is started of a run, and end it there."""
    return _halt(run, RunState.STOPPED)


def cancel(run: Run) -> int:
    """End a run now: what waits is canceled, what is at work is given up.

    A worker learns of it when it renews its lease; what it publishes until then is kept, and found when it is wanted.
    """
    return _halt(run, RunState.CANCELED)


def resume(run: Run) -> None:
    """Have a run go on, however it was halted."""
    accounts().forgive()  # whatever was wrong, a person has looked at it
    _change(run, RunState.ACTIVE)
    runs().rewind(run)


@dataclass(frozen=True)
class Retried:
    """What became of units that were to be tried again.

    Attributes:
        sent: In a queue now.
        ready: Sent as soon as there is room.
        unwanted: No run wants them; nothing is known of them any more.
    """

    sent: int
    ready: int
    unwanted: int


def retry(units: Iterable[Unit]) -> Retried:
    """Try units again that wait for a person or have no imagery; a run that had ended goes on with them."""
    by_run: dict[str, list[Unit]] = {}
    unwanted = []
    units = list(units)
    for unit in units:
        accounts().set_tried(unit.id, 0)  # every source has another chance
    known = {run.id: run for run in sorted(runs().all(), key=_preference)}
    for unit in units:
        run_id = next((run.id for run in known.values() if run.wants(unit)), None)
        if run_id is None:
            unwanted.append(unit)
        else:
            by_run.setdefault(run_id, []).append(unit)
    ready, stages = 0, set()
    for run_id, members in by_run.items():
        ready += ledger().make_ready(members, run_id, is_forced=True)
        stages |= {unit.stage for unit in members}
        if known[run_id].state.has_ended:
            runs().change(known[run_id], RunState.ACTIVE)
    ledger().forget(unwanted)
    active = [run for run in runs().active() if run.id in by_run]
    sent = sum(len(dispatch(stage, active)) for stage in stages)
    return Retried(min(sent, ready), max(ready - sent, 0), len(unwanted))


def choose(
    kind: str | None = None,
    grid_id: int | None = None,
    year: int | None = None,
    stage: Stage | None = None,
    run_name: str | None = None,
    *,
    is_empty: bool = False,
) -> list[Unit]:
    """Units that wait for a person, those that fit everything that is given.

    Args:
        kind: Kind of error: its fingerprint, or a class such as ``SourceError``.
        grid_id: Of this cell.
        year: Of this year, or of a pair with it.
        stage: Of this stage.
        run_name: Wanted by this run.
        is_empty: Those without imagery instead; what comes after them follows by itself.

    Raises:
        PermanentError: There is no such kind, or no such run.
    """
    run = None if run_name is None else find_run(run_name)
    if is_empty:
        candidates = [unit for unit in ledger().empty_units() if unit.stage is Stage.DOWNLOAD]
    else:
        candidates = ledger().stuck_units(_kinds(kind))
    return [
        unit
        for unit in candidates
        if grid_id in (None, unit.grid_id)
        and (year is None or year in unit.years)
        and stage in (None, unit.stage)
        and (run is None or run.wants(unit))
    ]


def _kinds(kind: str | None) -> list[str]:
    """Fingerprints of the kinds of errors that a person means."""
    groups = ledger().error_groups()
    found = [group.fingerprint for group in groups if kind in (None, group.fingerprint, group.error_class)]
    if kind is not None and not found:
        known = ", ".join(sorted({group.error_class for group in groups})) or "none"
        raise PermanentError(f"--error {kind}: no unit failed so. Kinds of errors now: {known}; see eo-tasks errors.")
    return found


def _preference(run: Run) -> tuple[bool, bool, float]:
    """Active runs first, then those that ended last; a canceled one only where no other wants the unit."""
    return run.state is RunState.CANCELED, run.state is not RunState.ACTIVE, -run.created_at


def _halt(run: Run, state: RunState, note: str = "") -> int:
    if run.state.has_ended:
        raise PermanentError(f"Run {run.id} has ended ({run.state}) already.")
    _change(run, state, note)
    others = runs().active()
    ready = [unit for stage in Stage for unit in ledger().ready_units(run.id, stage)]
    ledger().forget_ready(run.id)
    is_canceled = state is RunState.CANCELED
    shared = {unit for unit in ready if any(other.wants(unit) for other in others)}
    ledger().withdraw(shared, is_canceled=False)
    for other in others:
        if any(other.wants(unit) for unit in shared):
            runs().rewind(other)
    stages = [stage for stage in Stage if is_canceled or stage is not Stage.STORE]
    own = [unit for stage in stages for unit in ledger().active(stage) if run.wants(unit)]
    own = [unit for unit in own if not any(other.wants(unit) for other in others)]
    number = ledger().withdraw(own, is_canceled=is_canceled)
    ledger().withdraw((unit for unit in ready if unit not in shared), is_canceled=is_canceled)
    return number


def _change(run: Run, state: RunState, note: str = "") -> None:
    if not runs().change(run, state, note):
        raise PermanentError(f"Run {run.id} was changed by someone else in this moment; look at it and try again.")
