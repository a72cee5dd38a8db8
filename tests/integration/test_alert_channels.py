"""What is sent, to a real mail server and a real webhook."""

from collections.abc import Iterator
from dataclasses import asdict
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from eo_tasks.alerts.channels import Email, Notice, NotTakenError, Webhook
from eo_tasks.cli.alerts import alerts
from eo_tasks.local.redis_server import free_port
from eo_tasks.setting_types import SmtpSecurity
from eo_tasks.state.alerts import Alert, AlertRecord, Word
from tests.letterbox import PASSWORD, USER, Hook, hook, letterbox, make_certificate

pytestmark = pytest.mark.integration

RECORD = AlertRecord(Alert("disk", "höst-1", "Host höst-1: 1.2 GB free.\nMake room."), since=1_700_000_000.0)
NOTICE = Notice.of(RECORD, Word.FIRING)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return certificate


@pytest.fixture
def webhook() -> Iterator[Hook]:
    with hook() as kept:
        yield kept


def email(port: int, security: SmtpSecurity, *login: str | None) -> Email:
    user, password = login or (None, None)
    return Email(
        "127.0.0.1", port, security, user, password, "eo-tasks@example.org", ["a@example.org", "b@example.org"]
    )


# E-mail


@pytest.mark.parametrize("has_login", [True, False], ids=["login", "no login"])
@pytest.mark.parametrize("security", [SmtpSecurity.STARTTLS, SmtpSecurity.TLS])
def test_letter_is_taken_over_an_encrypted_connection(trusted: Path, security: SmtpSecurity, has_login: bool) -> None:
    with letterbox(trusted, is_tls=security is SmtpSecurity.TLS, has_login=has_login) as box:
        email(box.port, security, *((USER, PASSWORD) if has_login else ())).send(NOTICE)
    (letter,) = box.letters
    assert letter["Subject"] == "[eo-tasks] firing: disk höst-1"
    assert (letter["From"], letter["To"]) == ("eo-tasks@example.org", "a@example.org, b@example.org")
    assert letter["Auto-Submitted"] == "auto-generated"
    assert letter["Message-ID"].endswith("@example.org>")
    assert parsedate_to_datetime(letter["Date"]).timestamp() > RECORD.since
    lines = letter.get_content().splitlines()
    assert lines == ["eo-tasks: Host höst-1: 1.2 GB free. Make room.", "", "Since Tue, 14 Nov 2023 22:13:20 -0000."]


def test_letter_is_taken_by_a_server_on_this_machine_that_encrypts_nothing() -> None:
    with letterbox() as box:
        email(box.port, SmtpSecurity.NONE).send(Notice.of(RECORD, Word.RESOLVED))
    assert box.letters[0]["Subject"] == "[eo-tasks] resolved: disk höst-1"


def test_wrong_password_is_told_without_it(trusted: Path) -> None:
    with letterbox(trusted, has_login=True) as box, pytest.raises(NotTakenError) as refused:
        email(box.port, SmtpSecurity.STARTTLS, USER, "t0p-secret").send(NOTICE)
    assert f"e-mail by 127.0.0.1:{box.port}: the login is refused (535)" in str(refused.value)
    assert "t0p-secret" not in str(refused.value)
    assert box.letters == []


def test_password_is_not_sent_to_a_server_that_nobody_vouches_for(certificate: Path) -> None:
    with letterbox(certificate, has_login=True) as box, pytest.raises(NotTakenError, match="CERTIFICATE_VERIFY_FAILED"):
        email(box.port, SmtpSecurity.STARTTLS, USER, PASSWORD).send(NOTICE)


def test_server_that_cannot_encrypt_gets_no_letter() -> None:
    with letterbox() as box, pytest.raises(NotTakenError, match="STARTTLS"):
        email(box.port, SmtpSecurity.STARTTLS).send(NOTICE)
    assert box.letters == []


def test_server_that_takes_no_letter_is_told_with_its_words() -> None:
    with letterbox(is_full=True) as box, pytest.raises(NotTakenError, match="452 the box is full"):
        email(box.port, SmtpSecurity.NONE).send(NOTICE)


def test_server_that_is_not_there_is_told() -> None:
    with pytest.raises(NotTakenError, match="ConnectionRefusedError"):
        email(free_port(), SmtpSecurity.NONE).send(NOTICE)


# Webhook


def test_notice_is_posted_as_json_that_slack_and_mattermost_show(webhook: Hook) -> None:
    Webhook(webhook.url).send(NOTICE)
    assert webhook.posts == [
        {
            "rule": "disk",
            "target": "höst-1",
            "message": RECORD.alert.message,
            "since": 1_700_000_000.0,
            "state": "firing",
            "text": "eo-tasks: Host höst-1: 1.2 GB free. Make room.",
        }
    ]
    assert webhook.posts == [asdict(NOTICE)]


def test_resolved_notice_tells_how_long_it_lasted(webhook: Hook) -> None:
    ended = AlertRecord(RECORD.alert, RECORD.since, RECORD.since + 600)
    Webhook(webhook.url).send(Notice.of(ended, Word.RESOLVED))
    assert webhook.posts[0]["state"] == "resolved"
    assert webhook.posts[0]["text"] == "eo-tasks: Resolved after 10 min: Host höst-1: 1.2 GB free. Make room."


@pytest.mark.parametrize(
    ("answers", "tries", "told"),
    [
        ([503], 2, None),
        ([503, 500], 2, "HTTP 500"),
        ([404], 1, "HTTP 404"),
        ([302], 2, "HTTP 302"),  # a redirected POST would arrive as a GET
    ],
)
def test_post_is_tried_again_where_that_may_help(
    webhook: Hook, answers: list[int], tries: int, told: str | None
) -> None:
    webhook.answers = answers + ([302] if told == "HTTP 302" else [])
    if told is None:
        Webhook(webhook.url).send(NOTICE)
    else:
        with pytest.raises(NotTakenError, match=told) as refused:
            Webhook(webhook.url).send(NOTICE)
        assert "s3cr3t" not in str(refused.value)
    assert webhook.tries == tries


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/s3cr3t", "s3cr3t", "http://[s3cr3t"])
def test_webhook_that_cannot_be_reached_is_told_without_its_url(url: str) -> None:
    with pytest.raises(NotTakenError, match="no answer") as refused:
        Webhook(url.format(port=free_port())).send(NOTICE)
    assert "s3cr3t" not in str(refused.value)
    assert refused.value.__context__ is None


# The command


def call_test(environment: dict[str, str]) -> tuple[int, str]:
    ended = CliRunner(env=environment).invoke(alerts, ["test"])
    return ended.exit_code, ended.output


def test_command_says_which_channel_took_it(webhook: Hook, trusted: Path) -> None:
    with letterbox(trusted, has_login=True) as box:
        settings = {
            "ALERT_WEBHOOK_URL": webhook.url,
            "ALERT_EMAIL_TO": "a@example.org, b@example.org",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(box.port),
            "SMTP_USER": USER,
            "SMTP_PASSWORD": PASSWORD,
        }
        assert call_test(settings) == (0, "ok webhook: taken\nok e-mail: taken\n")
        assert "this is a test" in webhook.posts[0]["text"]
        assert box.letters[0]["To"] == "a@example.org, b@example.org"
        webhook.answers = [403]
        code, told = call_test(settings)
    assert code == 1
    assert "!! webhook at 127.0.0.1: HTTP 403. Check ALERT_WEBHOOK_URL." in told
    assert "ok e-mail: taken" in told
    assert "s3cr3t" not in told


def test_command_without_any_channel_says_what_to_set() -> None:
    code, told = call_test({})
    assert code == 1
    assert "set ALERT_WEBHOOK_URL, or ALERT_EMAIL_TO and SMTP_HOST" in told


def test_command_says_what_e_mail_lacks() -> None:
    code, told = call_test({"ALERT_EMAIL_TO": "a@example.org"})
    assert code == 1
    assert "ALERT_EMAIL_TO is set and SMTP_HOST is not" in told
