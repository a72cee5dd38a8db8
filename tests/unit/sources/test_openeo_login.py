"""Which login is taken, what a provider's answers mean, and what becomes of refresh tokens."""

import json
import stat
from pathlib import Path
from threading import Thread

import pytest
import requests

from eo_tasks.errors import AccountError, SettingsError, SourceError, SourceUnavailableError
from eo_tasks.settings import ImagerySource, OpenEOAuth, Settings
from eo_tasks.sources.openeo.account import account_of
from eo_tasks.sources.openeo.device import DeviceCode, log_in
from eo_tasks.sources.openeo.faults import translated
from eo_tasks.sources.openeo.logging_in import logged_in
from eo_tasks.sources.openeo.login import Login
from eo_tasks.sources.openeo.tokens import TokenFile
from tests.unit.sources.pretended_backend import URL, Pretended

CLIENT = {"auth_client_id": "robot", "auth_client_secret": "sesame"}
USER = {"username": "ana", "password": "open sesame"}
GIVEN = {"auth_client_id": "robot", "auth_refresh_token": "hush-given"}
ISSUER = f"{URL}/oidc"


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Pretended:
    made = Pretended()
    monkeypatch.setattr(
        requests.adapters.HTTPAdapter, "send", lambda self, request, *_, **options: made.send(self, request, **options)
    )
    return made


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "kept" / "tokens.json")


def login(tmp_path: Path, source: ImagerySource = ImagerySource.OPENEO, **values: str) -> Login:
    named = {f"{source}_{name}": value for name, value in {"url": URL, **values}.items()}
    settings = Settings(_env_file=None, openeo_token_file=tmp_path / "kept" / "tokens.json", **named)
    return Login.from_settings(settings, source)


def user_of(opened: Login) -> str:
    """Log in, and give who that is."""
    with translated(opened, "login"), logged_in(opened) as connection:
        return str(account_of(connection)["user_id"])


# Which login


@pytest.mark.parametrize(
    ("values", "method"),
    [
        (CLIENT | USER | GIVEN, "client_credentials"),
        (USER | {"auth_client_id": "robot"}, "basic"),
        (USER | GIVEN, "basic"),
        (GIVEN, "refresh_token"),
        ({"auth_method": "none"}, "none"),
        (CLIENT | GIVEN | {"auth_method": "refresh_token"}, "refresh_token"),
    ],
)
def test_the_first_that_is_set_is_taken_unless_a_method_is_named(tmp_path, values, method):
    assert login(tmp_path, **values).method == method


def test_a_kept_token_is_taken_where_nothing_is_set(tmp_path, tokens):
    tokens.put(ISSUER, "people", "hush")
    for values in ({}, {"auth_method": "refresh_token"}):
        assert login(tmp_path, **values).method is OpenEOAuth.REFRESH_TOKEN


@pytest.mark.parametrize(
    ("source", "command"), [("openeo", "eo-tasks login"), ("openeo2", "eo-tasks login --source openeo2")]
)
def test_no_login_is_told_with_the_variables_of_that_backend(tmp_path, source, command):
    prefix = source.upper()
    with pytest.raises(SettingsError) as caught:
        login(tmp_path, ImagerySource(source))
    assert str(caught.value) == (
        f"No login for the openEO backend {URL}: set {prefix}_AUTH_CLIENT_ID and {prefix}_AUTH_CLIENT_SECRET (or "
        f"{prefix}_USERNAME and {prefix}_PASSWORD, or {prefix}_AUTH_REFRESH_TOKEN), or run: {command}. Free accounts: "
        "https://dataspace.copernicus.eu."
    )


@pytest.mark.parametrize(
    ("method", "missing", "remedy"),
    [
        ("client_credentials", "AUTH_CLIENT_ID and {0}_AUTH_CLIENT_SECRET", "Set them .*choose another"),
        ("basic", "USERNAME and {0}_PASSWORD", "Set them .*choose another"),
        ("refresh_token", "AUTH_REFRESH_TOKEN", "Set it .*or run: eo-tasks login"),
    ],
)
@pytest.mark.parametrize("source", ["openeo", "openeo2"])
def test_missing_login_settings_are_named(tmp_path, method, missing, remedy, source):
    prefix = source.upper()
    message = rf"^{prefix}_AUTH_METHOD={method} needs {prefix}_{missing.format(prefix)}\. {remedy}"
    with pytest.raises(SettingsError, match=message):
        login(tmp_path, ImagerySource(source), auth_method=method)


def test_a_second_backend_without_an_address_is_told():
    with pytest.raises(SettingsError, match=r"^IMAGERY_SOURCE=openeo2 needs OPENEO2_URL\. Set it"):
        Login.from_settings(Settings(_env_file=None), ImagerySource.OPENEO2)


def test_a_login_never_shows_its_secrets(tmp_path):
    for values in (CLIENT, USER, GIVEN):
        opened = login(tmp_path, **values)
        shown = repr(opened) + str(opened) + opened.described
        assert "sesame" not in shown
        assert "hush" not in shown
        assert "********" in opened.without_secrets(f"{values}")


# Logging in


@pytest.mark.parametrize(
    ("values", "user"), [(CLIENT, "robot"), (USER, "tester"), (GIVEN, "ana")], ids=["client", "user", "token"]
)
def test_every_login_logs_in(backend, tmp_path, values, user):
    backend.provider.fresh.add("hush-given")
    assert user_of(login(tmp_path, **values)) == user


@pytest.mark.parametrize("values", [CLIENT, GIVEN], ids=["client", "token"])
def test_access_that_expires_is_renewed_unseen(backend, tmp_path, values):
    backend.provider.fresh.add("hush-given")
    with logged_in(login(tmp_path, **values)) as connection:
        for _ in range(3):  # a rotated token is good once, so that each renewal needs the one before
            backend.provider.expire()
            assert account_of(connection)["user_id"]


@pytest.mark.parametrize("answer", [requests.ConnectionError("sesame"), (503, b"later")], ids=["silent", "busy"])
def test_a_provider_that_is_down_while_access_is_renewed_means_later(backend, tmp_path, answer):
    opened = login(tmp_path, **CLIENT)
    with logged_in(opened) as connection:
        backend.provider.expire()
        backend.answers["POST /oidc/token"] = answer
        with pytest.raises(SourceUnavailableError, match="openEO account at"), translated(opened, "account"):
            account_of(connection)


def test_a_refused_client_is_told_without_its_secret(backend, tmp_path):
    backend.answers["POST /oidc/token"] = (401, {"error": "invalid_client", "echo": "sesame"})
    with pytest.raises(SourceError, match=rf"openEO login at {URL}: .*invalid_client.*OPENEO_AUTH_CLIENT_ID") as caught:
        user_of(login(tmp_path, **CLIENT))
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("POST /oidc/token", (503, b"later")),
        ("POST /oidc/token", requests.ConnectionError()),
        ("POST /oidc/token", requests.ReadTimeout()),
        ("GET /oidc/.well-known/openid-configuration", (502, b"")),
        ("GET /oidc/.well-known/openid-configuration", requests.ConnectionError()),
        ("GET /credentials/oidc", requests.ConnectionError()),
        ("GET /", requests.ConnectionError()),
    ],
)
@pytest.mark.parametrize("values", [CLIENT, GIVEN], ids=["client", "token"])
def test_a_login_that_does_not_answer_means_later(backend, tmp_path, step, answer, values):
    backend.answers[step] = answer
    with pytest.raises(SourceUnavailableError, match=rf"^openEO login at {URL}: no answer"):
        user_of(login(tmp_path, **values))


def test_an_answer_that_is_no_token_is_refused(backend, tmp_path):
    backend.answers["POST /oidc/token"] = (200, {"hello": "world"})
    with pytest.raises(SourceError, match=r"no 'token_type'"):
        user_of(login(tmp_path, **CLIENT))


def test_an_unknown_provider_is_told_with_those_that_there_are(backend, tmp_path):
    with pytest.raises(AccountError, match=r"no OIDC provider 'mine' but main, other\. Set OPENEO_AUTH_PROVIDER_ID"):
        user_of(login(tmp_path, **CLIENT, auth_provider_id="mine"))
    backend.answers["GET /credentials/oidc"] = (200, {"providers": []})
    with pytest.raises(AccountError, match=r"no OIDC provider '' but none\. Set"):
        user_of(login(tmp_path, **CLIENT))


def test_the_first_backends_variables_do_not_choose_the_seconds_provider(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENEO_AUTH_PROVIDER_ID", "other")  # which the openEO client reads by itself
    opened = login(tmp_path, ImagerySource.OPENEO2, **CLIENT)
    assert (opened.provider, user_of(opened)) == (None, "robot")


# Refresh tokens


def test_a_rotated_token_is_kept_for_the_next_process(backend, tmp_path, tokens):
    backend.provider.fresh.add("hush-0")
    tokens.put(ISSUER, "people", "hush-0")
    for _ in range(3):
        assert user_of(login(tmp_path)) == "ana"
    assert {tokens.get(ISSUER, "people")} == backend.provider.fresh
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(tokens.path.parent.stat().st_mode) == 0o700
    assert list(tokens.path.parent.iterdir()) == [tokens.path]


def test_a_given_token_that_was_rotated_is_good_in_the_next_process_until_another_is_given(backend, tmp_path):
    backend.provider.fresh |= {"hush-given", "hush-newer"}
    for _ in range(3):
        assert user_of(login(tmp_path, **GIVEN)) == "ana"
    assert user_of(login(tmp_path, **GIVEN | {"auth_refresh_token": "hush-newer"})) == "ana"
    assert "hush-newer" not in backend.provider.fresh


def test_a_token_that_is_not_rotated_is_not_written(backend, tmp_path, tokens):
    backend.provider.rotates = False
    backend.provider.fresh.add("hush-0")
    tokens.put(ISSUER, "people", "hush-0")
    before = tokens.path.stat().st_mtime_ns, tokens.path.stat().st_ino
    assert user_of(login(tmp_path)) == "ana"
    assert (tokens.path.stat().st_mtime_ns, tokens.path.stat().st_ino) == before


def test_a_successor_that_cannot_be_kept_is_used_and_told(backend, tmp_path, tokens, monkeypatch, caplog):
    def refuse(*_: object) -> None:
        raise SettingsError("the disk is read-only")

    backend.provider.fresh.add("hush-0")
    tokens.put(ISSUER, "people", "hush-0")
    monkeypatch.setattr(TokenFile, "put", refuse)
    with logged_in(login(tmp_path)) as connection:
        for _ in range(3):
            backend.provider.expire()
            assert account_of(connection)["user_id"] == "ana"
    assert [record.message for record in caplog.records].count("renewed refresh token not kept") == 4
    assert "hush" not in caplog.text


def test_processes_that_renew_at_once_take_turns(backend, tmp_path, tokens):
    backend.provider.fresh.add("hush-0")
    tokens.put(ISSUER, "people", "hush-0")
    users: list[str] = []
    threads = [Thread(target=lambda: users.append(user_of(login(tmp_path)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert users == ["ana"] * 8


def test_a_refused_kept_token_is_told_with_the_command_and_without_it(backend, tmp_path, tokens):
    tokens.put(ISSUER, "people", "hush-old")
    with pytest.raises(
        AccountError, match=rf"^openEO login at {URL}: refused by {ISSUER}.*expired.*Run: eo-tasks login$"
    ) as caught:
        user_of(login(tmp_path))
    assert "hush" not in str(caught.value)


def test_a_refused_given_token_is_told_with_its_variable(backend, tmp_path):
    with pytest.raises(AccountError, match=r"Set a new OPENEO2_AUTH_REFRESH_TOKEN, or remove it and run: ") as caught:
        user_of(login(tmp_path, ImagerySource.OPENEO2, **GIVEN))
    assert "hush" not in str(caught.value)


def test_a_token_of_another_issuer_does_not_log_in(backend, tmp_path, tokens):
    tokens.put("https://elsewhere.example", "people", "hush")
    with pytest.raises(
        AccountError, match=rf"has no refresh token of {ISSUER} for client people\. Run: eo-tasks login$"
    ):
        user_of(login(tmp_path))


@pytest.mark.parametrize("content", ["{", "[1]", '{"https://a": 3}', '"text"'])
def test_a_file_without_tokens_is_told(backend, tmp_path, tokens, content):
    tokens.path.parent.mkdir()
    tokens.path.write_text(content)
    tokens.path.chmod(0o600)
    with pytest.raises((SettingsError, AccountError), match=r"eo-tasks login$"):
        user_of(login(tmp_path))


def test_a_file_that_others_could_read_is_refused(tmp_path, tokens):
    tokens.put(ISSUER, "people", "hush")
    tokens.path.chmod(0o640)
    with pytest.raises(
        SettingsError, match=rf"^OPENEO_TOKEN_FILE={tokens}: others could read it\. Run: chmod 600 {tokens}"
    ):
        login(tmp_path)
    with pytest.raises(SettingsError, match="others could read it"):
        tokens.put(ISSUER, "people", "hush-2")


def test_tokens_of_several_clients_lie_side_by_side(tokens):
    for client in ("people", "robot"):
        tokens.put(ISSUER, client, f"hush of {client}")
    assert tokens.get(f"{ISSUER}/", "people") == "hush of people"
    assert list(json.loads(tokens.path.read_text())[ISSUER]) == ["people", "robot"]


def test_a_write_that_fails_leaves_the_file_as_it_was(tokens, monkeypatch):
    from openeo.rest.auth.config import RefreshTokenStore

    tokens.put(ISSUER, "people", "hush")
    before = tokens.path.read_bytes()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RefreshTokenStore, "set_refresh_token", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tokens.put(ISSUER, "people", "hush-2")
    assert tokens.path.read_bytes() == before
    assert list(tokens.path.parent.iterdir()) == [tokens.path]


# A person


class Person:
    """Waits on a clock that does not wait, and sees what is shown."""

    def __init__(self) -> None:
        self.now, self.pauses, self.shown = 0.0, list[float](), list[DeviceCode]()

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)

    def log_in(self, tmp_path: Path, wait_s: float = 600, **values: str):
        named = {f"openeo_{name}": value for name, value in {"url": URL, **values}.items()}
        settings = Settings(_env_file=None, openeo_token_file=tmp_path / "kept" / "tokens.json", **named)
        return log_in(Login.of_person(settings), self.shown.append, wait_s, lambda: self.now, self.sleep)


def test_a_person_logs_in_once_and_workers_from_then_on(backend, tmp_path, tokens):
    backend.provider.polls = ["authorization_pending", "slow_down", "authorization_pending"]
    person = Person()
    stored = person.log_in(tmp_path)
    assert (stored.user, stored.issuer, stored.client, stored.lasts_s) == ("ana", ISSUER, "people", 86_400)
    assert person.pauses == [1, 1, 6, 6]
    assert (person.shown[0].address, person.shown[0].code) == (f"{ISSUER}/page", "ABCD-EFGH")
    assert "dev-1" not in repr(person.shown)
    assert stat.S_IMODE(tokens.path.stat().st_mode) == 0o600
    assert user_of(login(tmp_path)) == "ana"


def test_a_person_who_does_not_come_is_waited_for_until_the_deadline(backend, tmp_path, tokens):
    backend.provider.polls = ["authorization_pending"] * 100
    person = Person()
    with pytest.raises(AccountError, match=r"nobody logged in within 20 s\. Run again: eo-tasks login$"):
        person.log_in(tmp_path, wait_s=20)
    assert person.now <= 20
    assert not tokens.path.exists()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("access_denied", r"refused by \S+ \(access_denied\)\. Run again: eo-tasks login$"),
        ("expired_token", r"nobody logged in within 600 s"),
        ("unauthorized_client", r"\(unauthorized_client\)\. Check OPENEO_AUTH_CLIENT_ID and OPENEO_AUTH_PROVIDER_ID$"),
    ],
)
def test_what_a_provider_refuses_is_told(backend, tmp_path, tokens, error, message):
    backend.provider.polls = [error]
    with pytest.raises(AccountError, match=message):
        Person().log_in(tmp_path)
    assert not tokens.path.exists()


def test_a_lost_poll_does_not_lose_the_person(backend, tmp_path):
    backend.answers["POST /oidc/token"] = requests.ConnectionError()
    person = Person()
    person.sleep = lambda seconds: (
        Person.sleep(person, seconds),
        person.now > 10 and backend.answers.pop("POST /oidc/token", 0),
    )
    assert person.log_in(tmp_path).user == "ana"


def test_a_client_without_refresh_tokens_is_told(backend, tmp_path, tokens):
    backend.provider.gives_refresh_tokens = False
    with pytest.raises(AccountError, match=r"gives client people no refresh token"):
        Person().log_in(tmp_path)
    assert not tokens.path.exists()


def test_a_provider_without_the_device_flow_is_told(backend, tmp_path):
    backend.answers["GET /oidc/.well-known/openid-configuration"] = (200, {"issuer": ISSUER, "token_endpoint": "x"})
    with pytest.raises(AccountError, match=r"no login by device .*OPENEO_AUTH_CLIENT_ID and OPENEO_AUTH_CLIENT_SECRET"):
        Person().log_in(tmp_path)


def test_a_backend_without_a_client_for_people_is_told(backend, tmp_path):
    providers = [{"id": "main", "issuer": ISSUER, "title": "Main"}]
    backend.answers["GET /credentials/oidc"] = (200, {"providers": providers})
    with pytest.raises(AccountError, match=r"no OIDC client for people.*set OPENEO_AUTH_CLIENT_ID"):
        Person().log_in(tmp_path)
