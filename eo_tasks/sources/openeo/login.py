"""Log in to an openEO backend without a person."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from eo_tasks.errors import SettingsError
from eo_tasks.settings import OpenEOAuth
from eo_tasks.urls import MASK, redacted

if TYPE_CHECKING:
    from pydantic import SecretStr

    from eo_tasks.settings import Settings

ANSWER_S = 60  # of a request that computes nothing
NEEDED = {
    OpenEOAuth.CLIENT_CREDENTIALS: ("openeo_auth_client_id", "openeo_auth_client_secret"),
    OpenEOAuth.REFRESH_TOKEN: ("openeo_auth_refresh_token",),
    OpenEOAuth.BASIC: ("openeo_username", "openeo_password"),
    OpenEOAuth.NONE: (),
}


@dataclass(frozen=True)
class Login:
    """A backend's address and how to log in there; secrets never show in its text."""

    url: str
    method: OpenEOAuth = OpenEOAuth.NONE
    provider: str | None = None
    name: str | None = field(default=None, repr=False)
    secret: "SecretStr | None" = field(default=None, repr=False)
    refresh_token: "SecretStr | None" = field(default=None, repr=False)

    @classmethod
    def from_settings(cls, settings: "Settings") -> Self:
        """Take the ``OPENEO_*`` login.

        Raises:
            SettingsError: A variable that the login method needs is not set.
        """
        method = settings.openeo_auth_method
        missing = [name.upper() for name in NEEDED[method] if getattr(settings, name) is None]
        if missing:
            raise SettingsError(
                f"OPENEO_AUTH_METHOD={method} needs {' and '.join(missing)}. Set them (or {missing[0]}_FILE), or "
                "choose another OPENEO_AUTH_METHOD. Free accounts: https://dataspace.copernicus.eu."
            )
        basic = method is OpenEOAuth.BASIC
        return cls(
            url=settings.openeo_url,
            method=method,
            provider=settings.openeo_auth_provider_id,
            name=settings.openeo_username if basic else settings.openeo_auth_client_id,
            secret=settings.openeo_password if basic else settings.openeo_auth_client_secret,
            refresh_token=settings.openeo_auth_refresh_token,
        )

    def __str__(self) -> str:
        return redacted(self.url).partition("?")[0]

    def without_secrets(self, text: str) -> str:
        """The text with this login's secrets masked."""
        for secret in (self.secret, self.refresh_token):
            if secret is not None and secret.get_secret_value():
                text = text.replace(secret.get_secret_value(), MASK)
        return text

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection of the openEO client, logged in; it repeats idempotent requests, and is closed afterwards."""
        from openeo.rest.connection import connect
        from openeo.utils.http import session_with_retries

        with session_with_retries() as session:
            connection = connect(self.url, session=session, default_timeout=ANSWER_S, auto_validate=False)
            self._authenticate(connection)
            yield connection

    def _authenticate(self, connection: Any) -> None:
        secret = self.secret and self.secret.get_secret_value()
        match self.method:
            case OpenEOAuth.BASIC:
                connection.authenticate_basic(self.name, secret)
            case OpenEOAuth.CLIENT_CREDENTIALS:
                connection.authenticate_oidc_client_credentials(self.name, secret, self.provider)
            case OpenEOAuth.REFRESH_TOKEN:
                token = self.refresh_token and self.refresh_token.get_secret_value()
                connection.authenticate_oidc_refresh_token(self.name, token, secret, self.provider)
            case OpenEOAuth.NONE:
                pass
