"""A live, logged-in connection to an openEO backend, whose every request is short."""

import contextlib
import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TypeVar

from requests import Response, Session
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ReadTimeoutError
from urllib3.util import Retry

from eo_tasks.errors import AccountError, EOTasksError, SourceUnavailableError
from eo_tasks.sources.openeo.faults import is_expired, translated
from eo_tasks.sources.openeo.logging_in import logged_in

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from eo_tasks.sources.openeo.login import Login

T = TypeVar("T")
REPEATS = 2  # of a question whose answer was lost on its way; all else is repeated by whoever asked, later
PAUSE_S = 0.3  # before the second repeat
CONNECT_S = 10.0
LONGEST_S = 30 * 60  # a connection lives no longer: load balancers and tokens have limits that nobody tells


class QuickRepeats(Retry):
    """Repeats lost questions at once, and waits for nobody: neither a Retry-After nor a second time for an answer.

    Only methods that change nothing twice are repeated, so never a POST.
    """

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: "BaseHTTPResponse | None" = None,
        error: Exception | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Self:
        """Count a failure; see ``urllib3.util.Retry``."""
        if isinstance(error, ReadTimeoutError):
            raise error
        return super().increment(method, url, response, error, *args, **kwargs)


class QuickAdapter(HTTPAdapter):
    """Gives requests that set no limit one."""

    def __init__(self, answer_s: float) -> None:
        repeats = QuickRepeats(
            total=REPEATS,
            status_forcelist=(502, 504),
            backoff_factor=PAUSE_S / 2,
            respect_retry_after_header=False,
            raise_on_status=False,  # the last answer says more than that there were several
        )
        super().__init__(max_retries=repeats)
        self.answer_s = answer_s

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Send a request; see ``requests.adapters.HTTPAdapter``."""
        kwargs["timeout"] = kwargs.get("timeout") or (CONNECT_S, self.answer_s)
        return super().send(request, *args, **kwargs)


def quick_session(answer_s: float) -> Session:
    """A session whose requests end soon.

    Args:
        answer_s: Longest wait for an answer of a request that sets no limit, seconds.
    """
    session = Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, QuickAdapter(answer_s))
    return session


class Line:
    """One logged-in connection; opened when needed, dropped when it fails, never shared.

    Args:
        login: Where and as whom.
        answer_s: Longest wait for an answer that computes nothing, seconds.
        clock: Seconds, rising.
    """

    def __init__(self, login: "Login", answer_s: float, clock: Callable[[], float] = monotonic) -> None:
        self.login = login
        self.answer_s = answer_s
        self._clock = clock
        self._stack = contextlib.ExitStack()
        self._connection: Any = None
        self._opened_at = 0.0
        self._has_worked = False
        self._retry_after: str | None = None

    def open(self) -> None:
        """Log in unless that is done; a connection that is too old is replaced.

        Raises:
            AccountError: The login is refused.
            SourceUnavailableError: The backend or its identity provider does not answer.
        """
        if self._connection is not None and self._clock() - self._opened_at > LONGEST_S:
            self.close()
        if self._connection is not None:
            return
        self._retry_after = None
        try:
            with translated(self.login, "login", lambda: self._retry_after):
                session = self._stack.enter_context(quick_session(self.answer_s))
                session.hooks["response"].append(self._listen)
                connection = self._stack.enter_context(logged_in(self.login, session, self.answer_s))
        except BaseException:
            self.close()
            raise
        connection.default_timeout = (CONNECT_S, self.answer_s)
        self._connection, self._opened_at = connection, self._clock()

    def close(self) -> None:
        """Drop the connection; the next question opens another."""
        self._connection, self._has_worked = None, False
        with contextlib.suppress(Exception):  # it is being thrown away
            self._stack.close()

    def ask(self, step: str, action: Callable[[Any], T]) -> T:
        """Do something with the openEO client's connection; logs in again, once, where the login has expired.

        Args:
            step: What is done, for messages.
            action: May be called twice, the second time after the backend refused the first for its login.

        Raises:
            EOTasksError: See ``faults.MEANINGS``.
        """
        had_worked = self._has_worked
        try:
            return self._ask(step, action)
        except AccountError as error:
            if not (had_worked and is_expired(error)):
                raise
        return self._ask(step, action)

    def _ask(self, step: str, action: Callable[[Any], T]) -> T:
        self.open()
        self._retry_after = None
        try:
            with translated(self.login, step, lambda: self._retry_after):
                answer = action(self._connection)
        except EOTasksError as error:
            if type(error) in (SourceUnavailableError, AccountError):
                self.close()
            raise
        except BaseException:  # a time limit, a stop: an answer may still be on its way here
            self.close()
            raise
        self._has_worked = True
        return answer

    def _listen(self, response: Response, **_: Any) -> None:
        self._retry_after = response.headers.get("Retry-After")


class _Lines(threading.local):
    """The lines of one thread of one process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.of: dict[Any, Line] = {}


_LINES = _Lines()


def line_for(key: Any, make: Callable[[], Line]) -> Line:
    """This thread's line of a backend, made where there is none; a forked process never uses its parent's."""
    if _LINES.process != os.getpid():
        _LINES.process, _LINES.of = os.getpid(), {}
    return _LINES.of.get(key) or _LINES.of.setdefault(key, make())


def disconnect() -> None:
    """Close this thread's connections."""
    for line in _LINES.of.values():
        line.close()
    _LINES.of.clear()
