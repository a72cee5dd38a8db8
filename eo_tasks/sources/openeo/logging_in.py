"""Log in to an openEO backend without a person."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from math import ceil
from typing import TYPE_CHECKING, Any

from eo_tasks.settings import OpenEOAuth
from eo_tasks.sources.openeo.login import Login
from eo_tasks.sources.openeo.oidc import Grant, RefreshGrant, find_client, provider_session

if TYPE_CHECKING:
    import requests

ANSWER_S = 60  # of a request that computes nothing


@contextmanager
def logged_in(login: Login, session: "requests.Session | None" = None, answer_s: float = ANSWER_S) -> Iterator[Any]:
    """A connection of the openEO client, logged in; access that expires meanwhile is renewed unseen.

    Args:
        login: Where and as whom.
        session: What to send requests with, left open; by default one that repeats idempotent requests.
        answer_s: Longest wait for an answer that computes nothing, seconds.

    Raises:
        AccountError: The login is refused, or there is none.
        SettingsError: The token file cannot be used.
    """
    from openeo.rest.connection import Connection
    from openeo.utils.http import session_with_retries

    with ExitStack() as stack:
        session = session or stack.enter_context(session_with_retries())
        # Not openeo.connect: it also reads the openEO client's configuration in the user's home.
        connection = Connection(login.url, session=session, default_timeout=ceil(answer_s), auto_validate=False)
        _authenticate(login, connection, stack, answer_s)
        yield connection


def _authenticate(login: Login, connection: Any, stack: ExitStack, answer_s: float) -> None:
    if login.method is OpenEOAuth.NONE:
        return
    if login.method is OpenEOAuth.BASIC:
        connection.authenticate_basic(login.name, login.secret and login.secret.get_secret_value())
        return
    session = stack.enter_context(provider_session(answer_s))
    client = find_client(login, connection, session)
    grant = Grant(login, client, session)
    if login.method is OpenEOAuth.REFRESH_TOKEN:
        grant = RefreshGrant(login, client, session, login.tokens)
    # What the client's authenticate_oidc_… methods end with; those would ask without time limits, and forget
    # the successor of a refresh token when they renew.
    connection._authenticate_oidc(grant, provider_id=client.provider.id, oidc_auth_renewer=grant)
