"""A person logs in once, in any browser, so that workers can log in from then on (RFC 8628)."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import requests

from eo_tasks.errors import AccountError, SourceUnavailableError
from eo_tasks.settings import OpenEOAuth
from eo_tasks.sources.openeo.account import account_of, person_of
from eo_tasks.sources.openeo.faults import translated
from eo_tasks.sources.openeo.logging_in import ANSWER_S, logged_in
from eo_tasks.sources.openeo.oidc import find_client, provider_session

if TYPE_CHECKING:
    from openeo.rest.auth.oidc import OidcClientInfo

    from eo_tasks.sources.openeo.login import Login

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
INTERVAL_S = 5.0  # RFC 8628, 3.2: where the provider does not say; 3.5: what "slow_down" adds
EXPIRES_S = 600.0


@dataclass(frozen=True)
class DeviceCode:
    """What a person does in a browser.

    Attributes:
        address: The page to open.
        code: What to enter there.
        whole_address: A page with the code in its address; ``None`` where the provider has none.
        secret: What the provider is asked with meanwhile.
        interval_s: How often it may be asked, seconds.
        expires_s: How long the code is good, seconds.
    """

    address: str
    code: str
    whole_address: str | None
    secret: str = field(repr=False)
    interval_s: float = INTERVAL_S
    expires_s: float = EXPIRES_S


@dataclass(frozen=True)
class StoredLogin:
    """A login that workers can use from now on.

    Attributes:
        user: Who logged in, as the backend tells it.
        issuer: Who vouches for that.
        client: The OIDC client that the token was given to.
        lasts_s: How long the refresh token is good without being used, seconds; ``None`` where that is not told.
    """

    user: str
    issuer: str
    client: str
    lasts_s: float | None


def log_in(
    login: "Login",
    show: Callable[[DeviceCode], None],
    wait_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> StoredLogin:
    """Have a person log in, and keep the refresh token.

    Args:
        login: The backend; its method does not matter.
        show: Tells the person what to do; is called once.
        wait_s: Longest wait for the person, seconds.
        clock: Seconds that pass.
        sleep: Waits so many seconds.

    Raises:
        AccountError: The person declined or did not come, or the provider gives no refresh tokens to this client.
        SettingsError: The token file cannot be used.
        SourceUnavailableError: The backend or the provider does not answer.
    """
    from openeo.rest.auth.auth import OidcBearerAuth

    anyone = replace(login, method=OpenEOAuth.NONE)
    with translated(login, "login"), logged_in(anyone) as connection, provider_session(ANSWER_S) as session:
        client = find_client(login, connection, session)
        flow = _Flow(login, client, session)
        code = flow.ask()
        show(code)
        told = flow.wait(code, wait_s, clock, sleep)
        if not told.get("refresh_token"):
            raise AccountError(
                f"openEO login at {login}: {client.provider.issuer} gives client {client.client_id} no refresh token, "
                f"so that workers could not log in. Set {login.prefix}_AUTH_CLIENT_ID to a client that may have one "
                "(scope offline_access), or use client credentials."
            )
        with login.tokens.locked():
            login.tokens.put(client.provider.issuer, client.client_id, str(told["refresh_token"]))
        connection.auth = OidcBearerAuth(provider_id=client.provider.id, access_token=str(told.get("access_token")))
        user = person_of(account_of(connection))
    lasts = told.get("refresh_expires_in")  # Keycloak's; 0 for a token that stays good
    return StoredLogin(user, client.provider.issuer, str(client.client_id), float(lasts) if lasts else None)


class _Flow:
    """The two requests of the device flow, at one provider."""

    def __init__(self, login: "Login", client: "OidcClientInfo", session: requests.Session) -> None:
        from openeo.rest.auth import oidc

        self._login, self._client, self._session = login, client, session
        known: Any = client  # the openEO client's classes have few annotations
        is_public = known.client_secret is None and known.guess_device_flow_pkce_support()
        make_code: Any = oidc.PkceCode
        self._pkce = make_code() if is_public else None
        self._issuer = str(client.provider.issuer)

    def ask(self) -> DeviceCode:
        """Ask for a code."""
        url = self._client.provider.config.get("device_authorization_endpoint")
        if not url:
            raise AccountError(
                f"openEO login at {self._login}: {self._issuer} has no login by device (RFC 8628). Use client "
                f"credentials: {self._login.prefix}_AUTH_CLIENT_ID and {self._login.prefix}_AUTH_CLIENT_SECRET."
            )
        scopes = self._client.provider.get_scopes_string(request_refresh_token=True)
        asked = {"client_id": self._client.client_id, "scope": scopes}
        if self._client.client_secret is not None:
            asked["client_secret"] = self._client.client_secret
        if self._pkce:
            asked["code_challenge"] = self._pkce.code_challenge
            asked["code_challenge_method"] = self._pkce.code_challenge_method
        answer = self._session.post(url, data=asked | self._client.provider.authorization_parameters)
        told = _table(answer)
        if answer.status_code != 200:
            raise self._refused(answer, told)
        try:
            return DeviceCode(
                address=str(told.get("verification_uri") or told["verification_url"]),  # the latter is Google's
                code=str(told["user_code"]),
                whole_address=told.get("verification_uri_complete"),
                secret=str(told["device_code"]),
                interval_s=float(told.get("interval") or INTERVAL_S),
                expires_s=float(told.get("expires_in") or EXPIRES_S),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise AccountError(
                f"openEO login at {self._login}: the device endpoint of {self._issuer} gives no code. Check "
                f"{self._login.prefix}_AUTH_PROVIDER_ID, or use client credentials."
            ) from error

    def wait(
        self, code: DeviceCode, wait_s: float, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> dict[str, Any]:
        """Ask for the tokens until the person has logged in."""
        asked = {"grant_type": GRANT, "client_id": self._client.client_id, "device_code": code.secret}
        if self._pkce:
            asked["code_verifier"] = self._pkce.code_verifier
        elif self._client.client_secret is not None:
            asked["client_secret"] = self._client.client_secret
        url, pause_s, longest_s = self._client.provider.config["token_endpoint"], code.interval_s, code.expires_s
        deadline = clock() + min(wait_s, longest_s)
        while clock() + pause_s <= deadline:
            sleep(pause_s)
            try:
                answer = self._session.post(url, data=asked)
            except requests.ConnectionError:
                pause_s *= 2  # RFC 8628, 3.5; the person may still be at it
                continue
            told = _table(answer)
            if answer.status_code == 200:
                return told
            error = str(told.get("error", ""))
            if error == "slow_down":
                pause_s += INTERVAL_S
            elif error == "expired_token":
                break
            elif error != "authorization_pending" and answer.status_code < 500:
                raise self._refused(answer, told)
        raise AccountError(
            f"openEO login at {self._login}: nobody logged in within {min(wait_s, longest_s):g} s. "
            f"Run again: {self._login.command}"
        )

    def _refused(self, answer: requests.Response, told: dict[str, Any]) -> AccountError | SourceUnavailableError:
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            return SourceUnavailableError(
                f"openEO login at {self._login}: {self._issuer} is busy ({answer.status_code}). "
                f"Run again: {self._login.command}"
            )
        said = f"{told.get('error', answer.status_code)} {told.get('error_description', '')}".strip()
        remedy = f"Run again: {self._login.command}"
        if told.get("error") != "access_denied":
            remedy = f"Check {self._login.prefix}_AUTH_CLIENT_ID and {self._login.prefix}_AUTH_PROVIDER_ID"
        return AccountError(
            f"openEO login at {self._login}: refused by {self._issuer} ({self._login.without_secrets(said)[:300]}). "
            f"{remedy}"
        )


def _table(answer: requests.Response) -> dict[str, Any]:
    try:
        told = answer.json()
    except requests.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}
