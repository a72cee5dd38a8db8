"""Work in another thread: in order, with its exceptions in place, and gone afterwards."""

import threading
from threading import Event

import pytest

from eo_tasks.overlap import ahead

DEADLINE_S = 30


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads() == []


@pytest.mark.parametrize("depth", [1, 2, 100])
def test_items_come_in_order_and_end(depth):
    with ahead(range(50), depth) as items:
        assert list(items) == list(range(50))
        assert next(items, "over") == "over"


@pytest.mark.parametrize("value", [None, False, ValueError("an item, not raised")])
def test_any_value_may_be_an_item(value):
    with ahead([value, value], 1) as items:
        assert list(items) == [value, value]


def test_items_are_made_by_another_thread_before_they_are_asked_for():
    makers, second = [], Event()

    def make():
        makers.append(threading.current_thread())
        yield 1
        second.set()
        yield 2

    with ahead(make(), 2) as items:
        assert second.wait(DEADLINE_S)
        assert list(items) == [1, 2]
    assert makers[0] is not threading.current_thread()


def test_no_more_items_are_made_ahead_than_there_is_room_for():
    made, fourth = [], Event()

    def make():
        for number in range(100):
            made.append(number)
            if number == 3:
                fourth.set()
            yield number

    with ahead(make(), 2) as items:
        # Two wait in the queue and a third for room in it; the fourth is begun when one has been taken.
        assert not fourth.wait(0.1)
        assert made == [0, 1, 2]
        assert next(items) == 0
        assert fourth.wait(DEADLINE_S)
        assert made == [0, 1, 2, 3]


def test_an_exception_comes_where_its_item_would_have_come():
    def make():
        yield from (1, 2)
        raise LookupError("no third")

    with ahead(make(), 5) as items:
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(LookupError, match="no third"):
            next(items)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=type)
def test_an_order_to_stop_comes_through_too(error):
    def make():
        yield 1
        raise error

    with ahead(make(), 1) as items:
        assert next(items) == 1
        with pytest.raises(type(error)) as caught:
            next(items)
    assert caught.value is error


def test_leaving_early_stops_a_thread_that_waits_for_room():
    made = []

    def make():
        for number in range(10_000):
            made.append(number)
            yield number

    with ahead(make(), 3) as items:
        assert next(items) == 0
    assert threads() == []
    assert len(made) <= 6


def test_leaving_waits_for_the_item_that_is_being_made_and_lets_no_other_begin():
    begun, go_on, made = Event(), Event(), []

    def make():
        for number in range(100):
            if number:
                begun.set()
                assert go_on.wait(DEADLINE_S)
            made.append(number)
            yield number

    with ahead(make(), 1) as items:
        assert next(items) == 0
        assert begun.wait(DEADLINE_S)
        threading.Timer(0.1, go_on.set).start()
    assert threads() == []
    assert made == [0, 1]


def test_an_exception_of_the_caller_is_the_one_that_is_told():
    def make():
        yield 1
        raise LookupError("of the thread, which nobody asked for")

    def leave():
        with ahead(make(), 1) as items:
            next(items)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()
    assert threads() == []
