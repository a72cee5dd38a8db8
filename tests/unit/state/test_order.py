"""Orders, and the titles that their jobs carry."""

import json
from dataclasses import replace

import pytest

from eo_tasks.state.order import Order, OrderState, read_title

ORDER = Order(
    id="0123456789",
    source="openeo",
    account="a1b2",
    is_batch=True,
    year=2023,
    cells=(7, 3, 4, 5),
    recipe="89abcdef",
    run="run",
    created_at=1000.125,
)


def test_an_order_reads_back_as_it_was_written():
    order = replace(ORDER, state=OrderState.STARTED, job_id="j-7", ignored=("j-1",), credits=2.5)
    assert Order.parse(order.write()) == order


def test_an_order_reads_back_as_lua_writes_it():
    record = json.loads(ORDER.write())
    assert Order.parse(json.dumps(record | {"ignored": {}})) == ORDER  # an empty list of Lua


def test_a_title_tells_what_its_job_makes():
    titled = read_title(ORDER.title)
    assert ORDER.title == "eo-tasks 0123456789 89abcdef 2023 cells 3-5,7"
    assert titled is not None
    assert (titled.order_id, titled.year, titled.cells) == (ORDER.id, 2023, {3, 4, 5, 7})
    assert titled.makes(ORDER)


@pytest.mark.parametrize(
    ("changes", "is_made"),
    [({"cells": (3,)}, True), ({"cells": (3, 6)}, False), ({"year": 2022}, False), ({"recipe": "other"}, False)],
)
def test_a_job_makes_an_order_whose_cells_are_among_its_own(changes, is_made):
    titled = read_title(ORDER.title)
    assert titled is not None
    assert titled.makes(replace(ORDER, **changes)) is is_made


@pytest.mark.parametrize(
    "title",
    ["", "my job", "eo-tasks", "eo-tasks 1 2 year cells 3", "eo-tasks 1 2 2023 cells three", "eo-tasks-old 1 2"],
)
def test_a_job_of_someone_else_is_left_alone(title):
    assert read_title(title) is None


@pytest.mark.parametrize(
    ("is_batch", "state", "holds"),
    [
        (True, OrderState.WAITING, False),
        (True, OrderState.CREATING, True),
        (True, OrderState.CREATED, True),
        (True, OrderState.STARTED, True),
        (True, OrderState.READY, False),
        (False, OrderState.WAITING, False),
        (False, OrderState.READY, True),
    ],
)
def test_an_order_counts_against_the_limit_while_the_source_has_it(is_batch, state, holds):
    assert replace(ORDER, is_batch=is_batch, state=state).holds_slot is holds
