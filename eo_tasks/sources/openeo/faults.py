"""What an openEO backend's answers mean: come later, tell a person, compute again, or give up.

``MEANINGS`` is the whole of it, one line per answer; docs/openeo.md tells readers the same, and a test compares both.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from eo_tasks.errors import (
    AccountError,
    CreditsExhaustedError,
    EmptyCompositeError,
    EOTasksError,
    JobFailedError,
    NoSuchJobError,
    ResultGoneError,
    SourceBusyError,
    SourceError,
    SourceUnavailableError,
)

if TYPE_CHECKING:
    from eo_tasks.sources.openeo.login import Login

NO_DATA = "NoDataAvailable"
NO_OBSERVATION = "no observation lies in it. Choose more months with COMPOSITE_MONTHS, or another year."
BUSY_503 = "503 with Retry-After"
NO_ANSWER = "no answer"
BAD_ADDRESS = "no address"
NO_CREDITS = "no credits"
OTHER_4XX, OTHER_5XX = "other 4xx", "other 5xx"

# By error code (https://api.openeo.org/#section/API-Principles/Error-Handling; ConcurrentJobLimit is the Copernicus
# Data Space Ecosystem's, NoDataAvailable openeo-driver's and titiler-openeo's), else by HTTP status, else by what else
# there was.
MEANINGS: Mapping[str, type[EOTasksError]] = {
    "ConcurrentJobLimit": SourceBusyError,
    "TooManyRequests": SourceBusyError,
    "429": SourceBusyError,
    BUSY_503: SourceBusyError,
    "408": SourceUnavailableError,
    "500": SourceUnavailableError,
    "502": SourceUnavailableError,
    "503": SourceUnavailableError,
    "504": SourceUnavailableError,
    OTHER_5XX: SourceUnavailableError,
    NO_ANSWER: SourceUnavailableError,
    "PaymentRequired": CreditsExhaustedError,
    "402": CreditsExhaustedError,
    NO_CREDITS: CreditsExhaustedError,
    "AuthenticationRequired": AccountError,
    "AuthenticationSchemeInvalid": AccountError,
    "CredentialsInvalid": AccountError,
    "TokenInvalid": AccountError,
    "PermissionsInsufficient": AccountError,
    "CollectionNotFound": AccountError,
    "401": AccountError,
    "403": AccountError,
    "JobNotFound": NoSuchJobError,
    "JobNotFinished": ResultGoneError,
    "ResultLinkExpired": ResultGoneError,
    "410": ResultGoneError,
    NO_DATA: EmptyCompositeError,
    "ProcessGraphComplexity": JobFailedError,
    "ProcessParameterInvalid": SourceError,
    "ProcessUnsupported": SourceError,
    "FeatureUnsupported": SourceError,
    "501": SourceError,
    "404": SourceError,
    "400": SourceError,
    OTHER_4XX: SourceError,
    BAD_ADDRESS: SourceError,
}

ADVICE: Mapping[type[EOTasksError], str] = {
    SourceBusyError: "it has no free place ({said}). It is asked again later.",
    SourceUnavailableError: "it is out of order ({said}). It is tried again.",
    CreditsExhaustedError: "credits exhausted ({said}). Top up the account, then retry.",
    AccountError: "the login was refused ({said}). Check {prefix}_AUTH_METHOD and the variables of that method, and "
    "that the account may use the collection.",
    NoSuchJobError: "it does not know the job ({said}). It is computed again.",
    ResultGoneError: "the result is not there ({said}). It is computed again.",
    JobFailedError: "it is too much at once ({said}). Ask for a smaller area with OPENEO_BLOCK_KM.",
    SourceError: "refused ({said}). Check {prefix}_URL, {prefix}_COLLECTION and the request.",
}
EXPIRED = ("TokenInvalid", "AuthenticationRequired")  # of a login that worked before
_NO_CREDITS = re.compile(
    r"PaymentRequired|\b(insufficient|not enough|no|out of)\s+(\w+\s+)?credits?\b"
    r"|\bcredits?\b[^.]{0,40}\b(exhausted|exceeded|used up|depleted)",
    re.IGNORECASE,
)


@contextmanager
def translated(login: "Login", step: str, retry_after: Callable[[], str | None] = lambda: None) -> Iterator[None]:
    """Turn every failure of the openEO client into one of ours.

    Args:
        login: Whose backend it is.
        step: What was being done, as in "openEO {step} at …".
        retry_after: The last answer's Retry-After header; the client's exceptions do not keep it.

    Raises:
        EOTasksError: Of the class that ``MEANINGS`` gives for the answer.
    """
    import requests
    from openeo import BaseOpenEoException
    from openeo.rest.auth.oidc import OidcException

    try:
        yield
    except OidcException as error:
        raise _login_fault(login, error) from error
    except BaseOpenEoException as error:
        raise _refusal(login, step, error, retry_after()) from error
    except requests.RequestException as error:
        raise unanswered(login, step, error) from error


def meaning(status: int | None, code: str = "", said: str = "", retry_after: str | None = None) -> type[EOTasksError]:
    """The class of error that an answer is.

    Args:
        status: HTTP status.
        code: The openEO error code, where the answer has one.
        said: The answer's message.
        retry_after: Its Retry-After header.
    """
    if code in MEANINGS:
        return MEANINGS[code]
    if NO_DATA in said:  # some put the code into the message of an "Internal" error
        return MEANINGS[NO_DATA]
    if _NO_CREDITS.search(said):
        return MEANINGS[NO_CREDITS]
    if status == 503 and retry_after is not None:
        return MEANINGS[BUSY_503]
    if str(status) in MEANINGS:
        return MEANINGS[str(status)]
    return MEANINGS[OTHER_5XX if (status or 0) >= 500 else OTHER_4XX]


def seconds_to_wait(retry_after: str | None, now: datetime | None = None) -> float | None:
    """What a Retry-After header says, seconds; ``None`` where it says nothing or nothing that can be read."""
    text = (retry_after or "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def busy_or(kind: type[EOTasksError], message: str, retry_after: str | None) -> EOTasksError:
    """An error of a class; of ``SourceBusyError`` with the time that the backend asks for."""
    if issubclass(kind, SourceBusyError):
        return kind(message, seconds_to_wait(retry_after))
    return kind(message)


def code_of(error: BaseException) -> str:
    """The openEO error code behind an error; empty where the backend gave none."""
    return str(getattr(error.__cause__, "code", None) or "")


def is_expired(error: AccountError) -> bool:
    """Whether logging in again may help."""
    code, status = code_of(error), getattr(error.__cause__, "http_status_code", None)
    return code in EXPIRED or (not code and status == 401)


def job_failure(login: "Login", job_id: str, lines: list[str]) -> EOTasksError:
    """The error of a batch job that ended in ``error``, by the error lines of its log, oldest first."""
    if any(NO_DATA in line for line in lines):
        return EmptyCompositeError(f"openEO job {job_id} at {login}: {NO_OBSERVATION}")
    said = login.without_secrets(short(lines[-1])) if lines else ""
    if _NO_CREDITS.search(said):
        return CreditsExhaustedError(
            f"openEO job {job_id} at {login}: credits exhausted ({said}). Top up the account, then retry."
        )
    return JobFailedError(
        f"openEO job {job_id} at {login} failed: {said or 'its log is empty (out of memory?)'}. Read its log there; "
        "when the cause is gone, retry."
    )


def unanswered(login: "Login", step: str, error: Exception) -> EOTasksError:
    """The error of a request that got no answer."""
    import requests.exceptions as kinds

    if isinstance(error, (kinds.MissingSchema, kinds.InvalidSchema, kinds.InvalidURL)):
        return MEANINGS[BAD_ADDRESS](
            f"openEO {step} at {login}: no address that can be asked. Check {login.prefix}_URL."
        )
    # The client's text repeats addresses, which may hold signatures; the kind of failure says enough.
    return MEANINGS[NO_ANSWER](
        f"openEO {step} at {login}: no answer ({type(error).__name__}). It is tried again; if that goes on, check "
        f"{login.prefix}_URL and the network."
    )


def short(text: str) -> str:
    """A server's words in one line, without what a query string may hold."""
    return re.sub(r"\?\S+", "", " ".join(text.split()))[:300]


def _refusal(login: "Login", step: str, error: Exception, retry_after: str | None) -> EOTasksError:
    status, code = getattr(error, "http_status_code", None), str(getattr(error, "code", None) or "")
    said = login.without_secrets(short(str(error)))
    kind = meaning(status, code, said, retry_after)
    if kind is EmptyCompositeError:
        return kind(f"{login}: {NO_OBSERVATION}")
    prefix = login.prefix
    advice = ADVICE[kind].format(said=said, prefix=prefix)
    if code == "CollectionNotFound":
        advice = f"it has no such collection ({said}). Check {prefix}_URL and {prefix}_COLLECTION."
    return busy_or(kind, f"openEO {step} at {login}: {advice}", retry_after)


def _login_fault(login: "Login", error: Exception) -> EOTasksError:
    import requests

    cause = error.__cause__
    told = re.search(r"': (\d{3}) ", str(error))  # the client keeps a token endpoint's status in its text only
    status = getattr(getattr(cause, "response", None), "status_code", int(told[1]) if told else None)
    if status is None and isinstance(cause, requests.RequestException):
        return unanswered(login, "login", error)
    kind = meaning(status)
    if issubclass(kind, SourceBusyError):
        return kind(f"openEO login at {login}: {ADVICE[kind].format(said=status)}")
    if issubclass(kind, SourceUnavailableError) and kind is not ResultGoneError:
        return unanswered(login, "login", error)
    said, prefix = login.without_secrets(short(str(error))), login.prefix
    return AccountError(
        f"openEO login at {login}: refused ({said}). Check {prefix}_AUTH_METHOD, {prefix}_AUTH_CLIENT_ID, "
        f"{prefix}_AUTH_CLIENT_SECRET, {prefix}_AUTH_REFRESH_TOKEN and {prefix}_AUTH_PROVIDER_ID."
    )
