"""When a unit is tried again: by the class of what went wrong."""

import random

import pytest
from celery.exceptions import SoftTimeLimitExceeded

from eo_tasks.errors import (
    BrokerError,
    DeviceError,
    EmptyCompositeError,
    InferenceError,
    LeaseLostError,
    PermanentError,
    SettingsError,
    SourceError,
    SourceUnavailableError,
    StorageError,
    StorageFullError,
    TransientError,
)
from eo_tasks.tasks.retries import POLICIES, Policy, policy_of


@pytest.mark.parametrize(
    ("error", "first_s", "longest_s", "max_attempts"),
    [
        (SoftTimeLimitExceeded(), 60, 600, 2),
        (MemoryError(), 30, 300, 3),
        (StorageFullError("full"), 10, 300, 1000),
        (DeviceError("no such device"), 5, 60, None),
        (SourceUnavailableError("busy"), 5, 900, None),
        (TransientError("later"), 5, 600, None),
        (BrokerError("gone"), 5, 600, None),
        (LeaseLostError("lost"), 5, 600, None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_a_failure_that_may_pass_is_tried_again_as_its_class_says(error, first_s, longest_s, max_attempts):
    assert policy_of(error) == Policy(first_s, longest_s, max_attempts)


@pytest.mark.parametrize(
    "error",
    [
        PermanentError("no"),
        SourceError("no"),
        StorageError("no"),
        SettingsError("no"),
        EmptyCompositeError("no"),
        InferenceError("no"),
        ValueError("a bug"),
        ZeroDivisionError("a bug"),
        OSError(2, "no such file"),
        TimeoutError("not ours"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failure_that_will_not_go_away_is_not_tried_again(error):
    assert policy_of(error) is None


def test_a_special_class_comes_before_the_general_one_that_it_is_of():
    kinds = [kind for kind, _ in POLICIES]
    for at, kind in enumerate(kinds):
        assert not any(issubclass(kind, earlier) for earlier in kinds[:at]), f"{kind} is never reached"


@pytest.fixture
def jitter(monkeypatch):
    """Choose what random jitter gives, as a share of its range."""
    ranges = []

    def choose(share):
        def uniform(low, high):
            ranges.append((low, high))
            return low + share * (high - low)

        monkeypatch.setattr(random, "uniform", uniform)
        return ranges

    return choose


def test_delays_double_with_every_try_up_to_the_longest(jitter):
    jitter(1)
    policy = Policy(5, 60)
    assert [policy.delay_s(attempts) for attempts in range(1, 8)] == [5, 10, 20, 40, 60, 60, 60]


def test_jitter_takes_off_up_to_half_of_the_delay(jitter):
    ranges = jitter(0)
    policy = Policy(5, 60)
    assert [policy.delay_s(attempts) for attempts in (1, 2, 5, 50)] == [2.5, 5, 30, 30]
    assert set(ranges) == {(0.5, 1.0)}


@pytest.mark.parametrize("attempts", [1, 3, 8])
def test_units_that_fail_together_do_not_come_back_in_step(attempts):
    policy, whole = Policy(5, 900), min(5 * 2 ** (attempts - 1), 900)
    delays = [policy.delay_s(attempts) for _ in range(1000)]
    assert min(delays) >= whole / 2
    assert max(delays) <= whole
    assert len(set(delays)) > 900
    assert min(delays) < 0.55 * whole
    assert max(delays) > 0.95 * whole


def test_a_unit_without_a_try_and_one_with_very_many_have_a_delay_too(jitter):
    jitter(1)
    policy = Policy(5, 900)
    assert policy.delay_s(0) == 5
    assert policy.delay_s(100_000) == 900


def test_ten_tries_ride_out_a_quarter_of_an_hour_without_a_source_at_least(jitter):
    policy = policy_of(SourceUnavailableError("busy"))
    jitter(0)  # 5 s doubled eight times, 900 s at most: 2175 s in all, and half of it with the worst luck
    assert sum(policy.delay_s(attempts) for attempts in range(1, 10)) == 2175 / 2 > 15 * 60
