"""Logins and TLS go into URLs, and passwords never onto a screen."""

from pathlib import Path

import pytest

from eo_tasks.urls import redacted, with_login, with_tls


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
    ("url", "user", "expected"),
    [
        ("redis://host:6379/0", None, "redis://:p%40%2Fs@host:6379/0"),
        ("redis://host:6379/0", "a b", "redis://a%20b:p%40%2Fs@host:6379/0"),
        ("rediss://user@host/1", "other", "rediss://user:p%40%2Fs@host/1"),
        ("redis://user:own@host/1", "other", "redis://user:own@host/1"),
        ("redis://:own@host/1?x=1", "other", "redis://other:own@host/1?x=1"),
    ],
)
def test_a_login_is_put_where_there_is_none(url, user, expected):
    assert with_login(url, user, "p@/s") == expected


@pytest.mark.parametrize(("user", "expected"), [(None, "redis://host/0"), ("me", "redis://me@host/0")])
def test_no_password_adds_none(user, expected):
    assert with_login("redis://host/0", user, None) == expected


def test_tls_is_asked_to_check_the_certificate_and_the_name():
    asked = with_tls("redis://me:x@host/0", {"ssl_ca_certs": Path("/a b/ca.crt"), "ssl_certfile": None})
    assert asked == "rediss://me:x@host/0?ssl_cert_reqs=required&ssl_check_hostname=true&ssl_ca_certs=%2Fa%20b%2Fca.crt"


def test_what_a_url_says_of_tls_itself_stays():
    asked = with_tls(
        "rediss://host/0?ssl_ca_certs=/own.pem&ssl_check_hostname=false", {"ssl_ca_certs": Path("/ca.crt")}
    )
    assert asked == "rediss://host/0?ssl_cert_reqs=required&ssl_check_hostname=false&ssl_ca_certs=%2Fown.pem"
