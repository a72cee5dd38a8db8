"""OpenID Connect at an openEO backend: its provider and client, and grants that renew access unattended."""

import hashlib
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import requests
from requests.adapters import HTTPAdapter

from eo_tasks.errors import AccountError, SettingsError
from eo_tasks.urls import MASK

if TYPE_CHECKING:
    from openeo.rest.auth.oidc import OidcClientInfo

    from eo_tasks.sources.openeo.login import Login
    from eo_tasks.sources.openeo.tokens import TokenFile

LATER = (408, 429, 500, 502, 503, 504)  # statuses of a token endpoint that pass
REFUSED = (400, 401, 403)  # RFC 6749, 5.2
log = logging.getLogger(__name__)


def provider_session(answer_s: float) -> requests.Session:
    """A session for an OIDC provider, of which every request ends.

    The openEO client asks token endpoints without a time limit, so that a silent one would hold a worker for ever.

    Args:
        answer_s: Longest wait for an answer, seconds.
    """
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Patient(answer_s))
    return session


class _Patient(HTTPAdapter):
    """Gives a request without a time limit one."""

    def __init__(self, answer_s: float) -> None:
        self.answer_s = answer_s
        super().__init__()

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        options["timeout"] = options.get("timeout") or self.answer_s
        return super().send(request, *args, **options)


def find_client(login: "Login", connection: Any, session: requests.Session) -> "OidcClientInfo":
    """The login's OIDC client at the provider that it names, else the backend's first of both.

    The client's own choice would also look into files of the user's home and into the variables of the first backend.

    Raises:
        AccountError: The backend has no such provider, or no client for people.
    """
    from openeo.rest.auth.oidc import OidcClientInfo, OidcProviderInfo

    listed = connection.get("/credentials/oidc", expected_status=200).json().get("providers", [])
    offered = {str(provider["id"]): provider for provider in listed}  # the first is the default, says the openEO API
    chosen = login.provider or next(iter(offered), None)
    if chosen not in offered:
        raise AccountError(
            f"openEO login at {login}: it has no OIDC provider {chosen or ''!r} but {', '.join(offered) or 'none'}. "
            f"Set {login.prefix}_AUTH_PROVIDER_ID, or {login.prefix}_USERNAME and {login.prefix}_PASSWORD."
        )
    told = offered[chosen]
    provider = OidcProviderInfo(
        provider_id=chosen,
        issuer=told["issuer"],
        title=told.get("title"),
        scopes=told.get("scopes"),
        default_clients=told.get("default_clients"),
        authorization_parameters=told.get("authorization_parameters"),
        requests_session=session,
    )
    client = login.name or _client_for_people(provider)
    if client is None:
        raise AccountError(
            f"openEO login at {login}: it names no OIDC client for people. Register one at {provider.issuer} and set "
            f"{login.prefix}_AUTH_CLIENT_ID."
        )
    secret = None if login.secret is None else login.secret.get_secret_value()
    return OidcClientInfo(client_id=client, provider=provider, client_secret=secret)


def _client_for_people(provider: Any) -> str | None:
    """The client that logs people in by device and renews; the same one for ``eo-tasks login`` and for workers."""
    from openeo.rest.auth.oidc import DefaultOidcClientGrant as Granted

    device = {Granted.DEVICE_CODE, Granted.DEVICE_CODE_PKCE}
    checks: tuple[Callable[[Any], bool], ...] = (
        lambda grants: Granted.REFRESH_TOKEN in grants and bool(device.intersection(grants)),
        lambda grants: bool(device.intersection(grants)),
        lambda grants: Granted.REFRESH_TOKEN in grants,
    )
    found = (provider.get_default_client_id(check) for check in checks)
    return next((str(client) for client in found if client), None)


@dataclass
class Grant:
    """What the openEO client asks for access tokens, at first and whenever one has expired."""

    login: "Login"
    client_info: "OidcClientInfo"
    session: requests.Session = field(repr=False)

    grant_type = "client_credentials"

    @property
    def provider_info(self) -> Any:
        """The provider."""
        return self.client_info.provider

    @property
    def client_id(self) -> str:
        """The client."""
        return str(self.client_info.client_id)

    def get_tokens(self, request_refresh_token: bool = False) -> Any:
        """Ask the provider for an access token.

        Raises:
            OidcException: It is refused.
            requests.RequestException: The provider does not answer, or is busy.
        """
        from openeo.rest.auth.oidc import OidcClientCredentialsAuthenticator

        return self._asked(OidcClientCredentialsAuthenticator(self.client_info, requests_session=self.session))

    def _asked(self, authenticator: Any, secret: str | None = None) -> Any:
        from openeo.rest.auth.oidc import OidcException

        try:
            return authenticator.get_tokens()
        except OidcException as error:
            # A provider that fails while access is renewed must not read as a refused request: the openEO client
            # swallows its own exceptions there, and only those.
            if isinstance(error.__cause__, requests.RequestException):
                raise error.__cause__ from None
            said = str(error) if secret is None else str(error).replace(secret, MASK)
            if status_of(error) in LATER:
                raise requests.HTTPError(self.login.without_secrets(said)) from None
            raise OidcException(self.login.without_secrets(said)) from None
        except KeyError as error:
            raise OidcException(f"the answer of the token endpoint has no {error}") from None


@dataclass
class RefreshGrant(Grant):
    """Access by a refresh token, of which a successor is kept for the processes to come.

    Attributes:
        tokens: Where successors are kept, and where ``eo-tasks login`` puts its token.
        unkept: A token, and the successor that could not be kept.
    """

    tokens: "TokenFile"
    unkept: tuple[str, str] | None = field(default=None, repr=False)

    grant_type = "refresh_token"

    def get_tokens(self, request_refresh_token: bool = False) -> Any:
        """Ask the provider for an access token, with the newest refresh token.

        Raises:
            AccountError: There is no refresh token, or it is refused.
            SettingsError: The token file cannot be used.
            requests.RequestException: The provider does not answer, or is busy.
        """
        from openeo.rest.auth.oidc import OidcException, OidcRefreshTokenAuthenticator

        with self.tokens.locked():
            kept = self._kept()
            token = self.unkept[1] if self.unkept and self.unkept[0] == kept else kept
            try:
                result = self._asked(
                    OidcRefreshTokenAuthenticator(self.client_info, token, requests_session=self.session), token
                )
            except OidcException as error:
                if status_of(error) in REFUSED:
                    raise self._refused(error) from error
                raise
            if result.refresh_token and result.refresh_token != token:
                self._keep(kept, result.refresh_token)
        return result

    @property
    def _issuer(self) -> str:
        return str(self.provider_info.issuer)

    @property
    def _key(self) -> str:
        """Under which name the file has the token: a given one has its successors beside what a person put there."""
        if self.login.refresh_token is None:
            return self.client_id
        given = self.login.refresh_token.get_secret_value()
        return f"{self.client_id} {hashlib.sha256(given.encode()).hexdigest()[:16]}"

    def _kept(self) -> str:
        stored = self.tokens.get(self._issuer, self._key)
        if stored is not None:
            return stored
        if self.login.refresh_token is not None:
            return self.login.refresh_token.get_secret_value()
        raise AccountError(
            f"openEO login at {self.login}: {self.tokens} has no refresh token of {self._issuer} for client "
            f"{self.client_id}. Run: {self.login.command}"
        )

    def _keep(self, predecessor: str, token: str) -> None:
        try:
            self.tokens.put(self._issuer, self._key, token)
            self.unkept = None
        except SettingsError as error:
            # This process can go on; the next one may be refused, and whoever looks into that finds why.
            self.unkept = (predecessor, token)
            log.warning("renewed refresh token not kept", extra={"reason": str(error)})

    def _refused(self, error: Exception) -> AccountError:
        said = " ".join(str(error).split())[-200:]
        remedy = f"Run: {self.login.command}"
        if self.login.refresh_token is not None:
            remedy = f"Set a new {self.login.prefix}_AUTH_REFRESH_TOKEN, or remove it and run: {self.login.command}"
        return AccountError(
            f"openEO login at {self.login}: refused by {self._issuer} ({said}). The refresh token has expired or was "
            f"revoked, or {self.login.prefix}_AUTH_CLIENT_ID is not the client that it was given to. {remedy}"
        )


def status_of(error: Exception) -> int | None:
    """The status of a token endpoint's answer, which the openEO client keeps in its text only."""
    told = re.search(r"': (\d{3}) ", str(error))
    return int(told[1]) if told else None
