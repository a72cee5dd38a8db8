"""What an openEO backend's failures mean: come back later, or tell a person."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from eo_tasks.errors import EmptyCompositeError, EOTasksError, SourceError, SourceUnavailableError

if TYPE_CHECKING:
    from eo_tasks.sources.openeo.login import Login

BUSY = (408, 429, 502, 503, 504)
BUSY_CODES = ("ConcurrentJobLimit", "TooManyRequests")
NO_DATA = "NoDataAvailable"
NO_OBSERVATION = "no observation lies in it. Choose more months with COMPOSITE_MONTHS, or another year."


@contextmanager
def translated(login: "Login", step: str) -> Iterator[None]:
    """Turn every failure of the openEO client into one of ours.

    Args:
        login: Whose backend it is.
        step: What was being done, as in "openEO {step} failed".

    Raises:
        SourceUnavailableError: The backend did not answer, is busy, or all job slots are taken.
        EmptyCompositeError: It has no scene for the request.
        SourceError: It refused.
    """
    import requests
    from openeo import BaseOpenEoException
    from openeo.rest.auth.oidc import OidcException

    try:
        yield
    except OidcException as error:
        raise _login_fault(login, error) from error
    except BaseOpenEoException as error:
        raise _refusal(login, step, error) from error
    except requests.RequestException as error:
        raise _unanswered(login, step, error) from error


def job_failure(login: "Login", job_id: str, line: str) -> EOTasksError:
    """The error of a batch job that ended in ``error``, by the last line of its log."""
    if NO_DATA in line:
        return EmptyCompositeError(f"openEO job {job_id} at {login}: {NO_OBSERVATION}")
    said = login.without_secrets(_short(line)) or "its log is empty"
    return SourceError(
        f"openEO job {job_id} at {login} failed: {said}. Read its log there; when the cause is gone, retry the cell."
    )


def _refusal(login: "Login", step: str, error: Exception) -> EOTasksError:
    status = getattr(error, "http_status_code", None)
    code = str(getattr(error, "code", ""))
    said = login.without_secrets(_short(str(error)))
    if code == NO_DATA or NO_DATA in said:
        return EmptyCompositeError(f"{login}: {NO_OBSERVATION}")
    if status in BUSY or code in BUSY_CODES:
        return SourceUnavailableError(f"openEO {step} at {login}: the backend is busy ({said}). It is tried again.")
    if status == 402 or code == "PaymentRequired":
        return SourceError(f"openEO {step} at {login}: credits exhausted ({said}). Top up the account, then retry.")
    if status in (401, 403):
        return SourceError(
            f"openEO {step} at {login}: the login was refused ({said}). Check OPENEO_AUTH_METHOD and the variables "
            "of that method, and that the account may use the collection."
        )
    if status == 404:
        return SourceError(f"openEO {step} at {login}: {said}. Check OPENEO_URL and OPENEO_COLLECTION.")
    return SourceError(f"openEO {step} at {login} failed: {said}. Check OPENEO_URL, OPENEO_COLLECTION and the request.")


def _login_fault(login: "Login", error: Exception) -> EOTasksError:
    import requests

    cause = error.__cause__
    told = re.search(r"': (\d{3}) ", str(error))  # the client keeps a token endpoint's status in its text only
    status = getattr(getattr(cause, "response", None), "status_code", int(told[1]) if told else None)
    if status in BUSY or (status is None and isinstance(cause, requests.RequestException)):
        return _unanswered(login, "login", error)
    said = login.without_secrets(_short(str(error)))
    return SourceError(
        f"openEO login at {login}: refused ({said}). Check OPENEO_AUTH_METHOD, OPENEO_AUTH_CLIENT_ID, "
        "OPENEO_AUTH_CLIENT_SECRET, OPENEO_AUTH_REFRESH_TOKEN and OPENEO_AUTH_PROVIDER_ID."
    )


def _unanswered(login: "Login", step: str, error: Exception) -> EOTasksError:
    # The client's text repeats addresses, which may hold signatures; the kind of failure says enough.
    return SourceUnavailableError(
        f"openEO {step} at {login}: no answer ({type(error).__name__}). It is tried again; if that goes on, check "
        "OPENEO_URL and the network."
    )


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
