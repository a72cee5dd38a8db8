"""Where and as whom to log in to an openEO backend."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from eo_tasks.errors import SettingsError
from eo_tasks.settings import ImagerySource, OpenEOAuth
from eo_tasks.sources.openeo.tokens import TokenFile
from eo_tasks.urls import MASK, redacted

if TYPE_CHECKING:
    from pydantic import SecretStr

    from eo_tasks.settings import Settings

FREE_ACCOUNTS = "Free accounts: https://dataspace.copernicus.eu."
CLIENT = ("AUTH_CLIENT_ID", "AUTH_CLIENT_SECRET")
USER = ("USERNAME", "PASSWORD")
TOKEN = ("AUTH_REFRESH_TOKEN",)


@dataclass(frozen=True)
class Login:
    """A backend's address and how to log in there; secrets never show in its text.

    Attributes:
        url: The backend's address.
        method: How to log in; never ``AUTO``.
        provider: Id of the OIDC provider; ``None`` for the backend's first.
        name: User name of basic auth, else id of the OIDC client; ``None`` for the backend's own client.
        secret: Password, or secret of the client.
        refresh_token: As it was set; ``None`` for the one that ``eo-tasks login`` put into ``token_file``.
        prefix: How the backend's variables begin, ``OPENEO`` or ``OPENEO2``.
        token_file: Where refresh tokens are kept.
    """

    url: str
    method: OpenEOAuth = OpenEOAuth.NONE
    provider: str | None = None
    name: str | None = field(default=None, repr=False)
    secret: "SecretStr | None" = field(default=None, repr=False)
    refresh_token: "SecretStr | None" = field(default=None, repr=False)
    prefix: str = "OPENEO"
    token_file: Path = Path("refresh-tokens.json")

    @classmethod
    def from_settings(cls, settings: "Settings", source: ImagerySource = ImagerySource.OPENEO) -> Self:
        """Take a backend's login: what can be known of it without asking the backend.

        ``auto`` takes the first that is set of client credentials, user name and password, refresh token, and the
        token of ``eo-tasks login``.

        Args:
            settings: The settings.
            source: Which backend, ``OPENEO`` or ``OPENEO2``.

        Raises:
            SettingsError: A variable that the login needs is not set, or the token file cannot be used.
        """
        values = _Values(settings, source)
        method = values["AUTH_METHOD"]
        if method is OpenEOAuth.AUTO:
            method = _first_that_is_set(cls.of_person(settings, source), values)
        else:
            _require(cls.of_person(settings, source), values, method)
        login = cls.of_person(settings, source)
        if method is OpenEOAuth.BASIC:
            return replace(login, method=method, name=values["USERNAME"], secret=values["PASSWORD"])
        is_renewed = method is OpenEOAuth.REFRESH_TOKEN
        return replace(login, method=method, refresh_token=values["AUTH_REFRESH_TOKEN"] if is_renewed else None)

    @classmethod
    def of_person(cls, settings: "Settings", source: ImagerySource = ImagerySource.OPENEO) -> Self:
        """Take a backend's address and OIDC client only: a person brings the rest.

        Raises:
            SettingsError: The backend's address is not set.
        """
        values = _Values(settings, source)
        if values["URL"] is None:
            raise SettingsError(
                f"IMAGERY_SOURCE={source} needs {values.prefix}_URL. Set it to the address of an openEO backend, and "
                f"its login ({values.prefix}_AUTH_METHOD and what belongs to it)."
            )
        return cls(
            url=values["URL"],
            provider=values["AUTH_PROVIDER_ID"],
            name=values["AUTH_CLIENT_ID"],
            secret=values["AUTH_CLIENT_SECRET"],
            prefix=values.prefix,
            token_file=settings.openeo_token_file,
        )

    def __str__(self) -> str:
        return redacted(self.url).partition("?")[0]

    @property
    def tokens(self) -> TokenFile:
        """Where refresh tokens are kept."""
        return TokenFile(self.token_file)

    @property
    def command(self) -> str:
        """What a person runs to log in."""
        return "eo-tasks login" if self.prefix == "OPENEO" else f"eo-tasks login --source {self.prefix.lower()}"

    @property
    def described(self) -> str:
        """How the login is done, for people."""
        if self.method is OpenEOAuth.REFRESH_TOKEN:
            given = "eo-tasks login" if self.refresh_token is None else f"{self.prefix}_AUTH_REFRESH_TOKEN"
            return f"the refresh token of {given}"
        names = {OpenEOAuth.BASIC: "user name and password", OpenEOAuth.CLIENT_CREDENTIALS: "client credentials"}
        return names.get(self.method, "no login")

    def without_secrets(self, text: str) -> str:
        """The text with this login's secrets masked."""
        for secret in (self.secret, self.refresh_token):
            if secret is not None and secret.get_secret_value():
                text = text.replace(secret.get_secret_value(), MASK)
        return text


@dataclass(frozen=True)
class _Values:
    """One backend's variables, by their names without its prefix."""

    settings: "Settings"
    source: ImagerySource

    @property
    def prefix(self) -> str:
        return self.source.upper()

    def __getitem__(self, name: str) -> Any:
        return getattr(self.settings, f"{self.prefix}_{name}".lower())

    def has(self, names: tuple[str, ...]) -> bool:
        return all(self[name] is not None for name in names)

    def named(self, names: tuple[str, ...]) -> str:
        return " and ".join(f"{self.prefix}_{name}" for name in names)


def _first_that_is_set(login: Login, values: _Values) -> OpenEOAuth:
    """The method that ``auto`` stands for."""
    if values.has(CLIENT):
        return OpenEOAuth.CLIENT_CREDENTIALS
    if values.has(USER):
        return OpenEOAuth.BASIC
    if values.has(TOKEN) or not login.tokens.is_empty:
        return OpenEOAuth.REFRESH_TOKEN
    raise SettingsError(
        f"No login for the openEO backend {login}: set {values.named(CLIENT)} (or {values.named(USER)}, or "
        f"{values.named(TOKEN)}), or run: {login.command}. {FREE_ACCOUNTS}"
    )


def _require(login: Login, values: _Values, method: OpenEOAuth) -> None:
    needed = {OpenEOAuth.CLIENT_CREDENTIALS: CLIENT, OpenEOAuth.BASIC: USER, OpenEOAuth.REFRESH_TOKEN: TOKEN}
    missing = tuple(name for name in needed.get(method, ()) if values[name] is None)
    is_renewed = method is OpenEOAuth.REFRESH_TOKEN
    if not missing or (is_renewed and not login.tokens.is_empty):
        return
    remedy = f"Set it (or {values.prefix}_{missing[0]}_FILE), or run: {login.command}"
    if not is_renewed:
        them = "it" if len(missing) == 1 else "them"
        remedy = f"Set {them} (or {values.prefix}_{missing[0]}_FILE), or choose another {values.prefix}_AUTH_METHOD"
    raise SettingsError(
        f"{values.prefix}_AUTH_METHOD={method} needs {values.named(missing)}. {remedy}. {FREE_ACCOUNTS}"
    )
