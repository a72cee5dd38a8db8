"""The ways to people: a webhook and e-mail."""

import smtplib
import ssl
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Protocol
from urllib.parse import urlsplit

import requests
from pydantic import SecretStr

from eo_tasks.errors import TransientError
from eo_tasks.setting_types import SmtpSecurity
from eo_tasks.settings import Settings
from eo_tasks.state.alerts import AlertRecord, Word

ANSWER_S = 5.0
TRIES = 2


class NotTakenError(TransientError):
    """A channel did not take a notice; the message tells no secret."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What is sent.

    Attributes:
        since: When the alert began, seconds since 1970.
        text: For people; Slack and Mattermost show the field of this name.
    """

    rule: str
    target: str
    message: str
    since: float
    state: Word
    text: str

    @classmethod
    def of(cls, record: AlertRecord, word: Word) -> "Notice":
        """Of an alert as it is kept."""
        alert, text = record.alert, " ".join(record.alert.message.split())
        if word is Word.RESOLVED:
            text = f"Resolved after {max(record.until - record.since, 0) / 60:.0f} min: {text}"
        return cls(alert.rule, alert.target, alert.message, record.since, word, f"eo-tasks: {text}")


class Channel(Protocol):
    """One way to people."""

    @property
    def name(self) -> str:
        """Such as ``webhook``; of each kind there is one."""

    def send(self, notice: Notice) -> None:
        """Tell them.

        Raises:
            NotTakenError: It was not taken.
        """


@dataclass(frozen=True)
class Webhook:
    """Posts a notice as JSON; its URL is a secret."""

    url: str
    name: str = "webhook"

    def send(self, notice: Notice) -> None:
        """Post it, and once more where that may help."""
        for left in reversed(range(TRIES)):
            told = self._post(notice)
            if told is None:
                return
            if not left or told.startswith("HTTP 4"):
                raise NotTakenError(f"webhook at {_host(self.url)}: {told}. Check ALERT_WEBHOOK_URL.")

    def _post(self, notice: Notice) -> str | None:
        """Post it once; gives what went wrong. A client's own words are not told: they have the URL in them."""
        try:
            with requests.post(
                self.url, json=asdict(notice), timeout=ANSWER_S, allow_redirects=False, stream=True
            ) as answer:
                return None if 200 <= answer.status_code < 300 else f"HTTP {answer.status_code}"
        except requests.RequestException as error:
            return f"no answer ({type(error).__name__})"


@dataclass(frozen=True)
class Email:
    """Sends a notice by SMTP."""

    host: str | None
    port: int
    security: SmtpSecurity
    user: str | None
    password: str | None
    sender: str
    recipients: Sequence[str]
    name: str = "e-mail"

    def send(self, notice: Notice) -> None:
        """Send it to all recipients."""
        if self.host is None:
            raise NotTakenError("e-mail: ALERT_EMAIL_TO is set and SMTP_HOST is not: set it, too.")
        try:
            self._send(self.host, _letter(notice, self.sender, self.recipients))
        except (OSError, ValueError, smtplib.SMTPException) as error:
            raise NotTakenError(f"e-mail by {self.host}:{self.port}: {_told(error)}. Check SMTP_…") from error

    def _send(self, host: str, letter: EmailMessage) -> None:
        with ExitStack() as opened:
            if self.security is SmtpSecurity.TLS:
                secured = smtplib.SMTP_SSL(host, self.port, timeout=ANSWER_S, context=ssl.create_default_context())
                smtp: smtplib.SMTP = opened.enter_context(secured)
            else:
                smtp = opened.enter_context(smtplib.SMTP(host, self.port, timeout=ANSWER_S))
            if self.security is SmtpSecurity.STARTTLS:
                smtp.starttls(context=ssl.create_default_context())
            if self.user is not None:
                smtp.login(self.user, self.password or "")
            smtp.send_message(letter)


def open_channels(settings: Settings) -> list[Channel]:
    """Those that are set."""
    channels: list[Channel] = []
    if (url := _revealed(settings.alert_webhook_url)) is not None:
        channels.append(Webhook(url))
    if recipients := [one.strip() for one in (settings.alert_email_to or "").split(",") if one.strip()]:
        login = (settings.smtp_user, _revealed(settings.smtp_password))
        server = (settings.smtp_host, settings.smtp_port, settings.smtp_security)
        channels.append(Email(*server, *login, settings.alert_email_from, recipients))
    return channels


def _letter(notice: Notice, sender: str, recipients: Sequence[str]) -> EmailMessage:
    letter = EmailMessage()
    letter["From"], letter["To"] = sender, ", ".join(recipients)
    letter["Subject"] = " ".join(f"[eo-tasks] {notice.state}: {notice.rule} {notice.target}".split())
    letter["Date"], letter["Message-ID"] = formatdate(), make_msgid(domain=sender.rpartition("@")[2] or "localhost")
    letter["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's holiday reply
    letter.set_content(f"{notice.text}\n\nSince {formatdate(notice.since)}.\n")
    return letter


def _told(error: Exception) -> str:
    """What went wrong, on one line; what a server says of a login is left out, it may repeat what it was given."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"the login is refused ({error.smtp_code})"
    if isinstance(error, smtplib.SMTPResponseException):
        said = error.smtp_error
        return f"{error.smtp_code} {said.decode(errors='replace') if isinstance(said, bytes) else said}"
    return " ".join(f"{type(error).__name__}: {error}".split())


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "no host"
    except ValueError:
        return "no host"


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
