"""What one dashboard process keeps in memory: the grid, the states of its units, numbers of a second ago."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from time import monotonic
from typing import Generic, TypeVar

from redis.exceptions import RedisError

from eo_tasks.errors import EOTasksError
from eo_tasks.overview.known import Known
from eo_tasks.overview.measures import Changes
from eo_tasks.overview.places import Places
from eo_tasks.overview.states import States
from eo_tasks.overview.summary import Summary, read_summary
from eo_tasks.steps import Pipeline

T = TypeVar("T")

FRESH_S = 1.0


@dataclass
class _Recent(Generic[T]):
    """A value that is read again when it is older than a second, by one at a time."""

    read: Callable[[], T]
    value: T | None = None
    at: float = float("-inf")

    def __post_init__(self) -> None:
        self._lock = Lock()

    def get(self) -> T:
        with self._lock:
            if self.value is None or monotonic() - self.at > FRESH_S:
                self.value, self.at = self.read(), monotonic()
            return self.value


class Views:
    """Everything that the routes read from."""

    def __init__(self, known: Known, pipeline: Pipeline) -> None:
        self.known = known
        self.pipeline = pipeline
        self._summary = _Recent(lambda: read_summary(known))
        self._lock = Lock()

    def warm(self) -> None:
        """Read what takes long before anyone asks; what cannot be read is told to those who do."""
        with suppress(EOTasksError, RedisError, OSError):
            self.states.refresh_if_older(FRESH_S)

    def summary(self) -> Summary:
        """Numbers, a second old at most, however many ask."""
        return self._summary.get()

    @property
    def places(self) -> Places:
        """The cells.

        Raises:
            GridError: There is no grid yet, or it cannot be read.
        """
        with self._lock:
            return self._places

    @property
    def states(self) -> States:
        """The states of all units, as they were a second ago or when they were read last, if that takes longer."""
        with self._lock:
            states = self._states
        states.refresh_if_older(FRESH_S if states.places() else 0)
        return states

    @property
    def changes(self) -> Changes:
        """Changed hectares."""
        with self._lock:
            return self._changes

    @cached_property
    def _places(self) -> Places:
        grid = self.pipeline.grid
        return Places(grid.cells, grid.epsg)

    @cached_property
    def _states(self) -> States:
        return States(self.known, self._places.grid_ids)

    @cached_property
    def _changes(self) -> Changes:
        return Changes(self.pipeline.store, self._places)
