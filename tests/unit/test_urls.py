"""Passwords go into URLs and never onto a screen."""

import pytest

from eo_tasks.urls import redacted, with_password


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@host:6379/0", "redis://:********@host:6379/0"),
        ("rediss://user:se:cr@et@host/1", "rediss://user:********@host/1"),
        ("user:secret@host", "user:********@host"),
        ("redis//:secret@host", "redis//:********@host"),
        ("https://host/path?password=secret&x=1", "https://host/path?password=********&x=1"),
        ("https://host/?a=1&access_token=secret#part", "https://host/?a=1&access_token=********#part"),
        ("catalog/catalog.json", "catalog/catalog.json"),
        ("redis://[::1/0", "redis://[::1/0"),
    ],
)
def test_a_password_is_never_shown(url, shown):
    assert redacted(url) == shown


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host:6379/0", "redis://:p%40%2Fs@host:6379/0"),
        ("rediss://user@host/1", "rediss://user:p%40%2Fs@host/1"),
        ("redis://user:own@host/1", "redis://user:own@host/1"),
    ],
)
def test_a_password_is_put_where_there_is_none(url, expected):
    assert with_password(url, "p@/s") == expected


def test_no_password_changes_nothing():
    assert with_password("redis://host/0", None) == "redis://host/0"
