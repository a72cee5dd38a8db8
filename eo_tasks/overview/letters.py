"""One letter for each state, so that a million units fit into a picture; those that need a look come first."""

from collections.abc import Mapping

from eo_tasks.state.entry import State

WAITING, UNWANTED = "waiting", "not wanted"  # wanted and not known yet; not wanted by any run
# A group of cells is shown as the first of these that any of its cells is.
LETTERS: Mapping[str, str] = {
    "q": State.QUARANTINED,
    "f": State.FAILED,
    "r": State.RETRYING,
    "s": State.STARTED,
    "o": State.ORDERED,
    "e": State.ENQUEUED,
    "p": State.PENDING,
    "w": WAITING,
    "x": State.CANCELED,
    "m": State.EMPTY,
    "c": State.COMPLETED,
    "k": State.SKIPPED,
    "-": UNWANTED,
}
ORDER = "".join(LETTERS)
RANKS: Mapping[str, int] = {str(state): rank for rank, state in enumerate(LETTERS.values())}
ENDED = tuple(RANKS[state] for state in (State.COMPLETED, State.SKIPPED, State.EMPTY))


def letter_of(state: str) -> str:
    """The letter of a state."""
    return ORDER[RANKS[state]]
