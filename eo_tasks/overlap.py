"""Work that goes on in another thread while the caller does something else."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import Queue
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def ahead(items: Iterable[T], depth: int) -> Iterator[Iterator[T]]:
    """Give an iterator whose items are made by a thread, up to ``depth`` of them before they are asked for.

    An exception of the thread is raised where its item would have come. Leaving the block stops the thread before it
    makes another item.
    """
    made: Queue[tuple[bool, T | BaseException | None]] = Queue(depth)
    stop = Event()

    def make() -> None:
        try:
            for item in items:
                made.put((True, item))
                if stop.is_set():
                    return
            made.put((False, None))
        except BaseException as error:  # carried over to the caller
            made.put((False, error))

    def take() -> Iterator[T]:
        while True:
            has_item, value = made.get()
            if has_item:
                yield value  # type: ignore[misc]
            elif isinstance(value, BaseException):
                raise value
            else:
                return

    thread = Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stop.set()
        while thread.is_alive():  # it may wait for room
            while not made.empty():
                made.get_nowait()
            thread.join(0.05)
