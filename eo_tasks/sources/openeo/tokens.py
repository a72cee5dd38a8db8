"""Refresh tokens that outlive a process: in a file that only its owner may read."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eo_tasks.errors import SettingsError
from eo_tasks.files import written_aside

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenFile:
    """The openEO client's own file of refresh tokens, one for each OIDC issuer and client, at a path of ours."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def is_empty(self) -> bool:
        """Whether it has no token of any issuer.

        Raises:
            SettingsError: The file cannot be read, or others can.
        """
        from openeo.rest.auth.config import RefreshTokenStore

        with self._explained():
            return not any(RefreshTokenStore(self.path).load().values())

    def get(self, issuer: str, client: str) -> str | None:
        """The refresh token of a client at an issuer; ``None`` where there is none.

        Raises:
            SettingsError: The file cannot be read, or others can.
        """
        from openeo.rest.auth.config import RefreshTokenStore

        with self._explained():
            token = RefreshTokenStore(self.path).get_refresh_token(issuer, client)
        return None if token is None else str(token)

    def put(self, issuer: str, client: str, token: str) -> None:
        """Keep a refresh token beside those of others; the file is there whole or as it was.

        Raises:
            SettingsError: The file cannot be read or written, or others can read it.
        """
        from openeo.rest.auth.config import RefreshTokenStore

        with self._explained():
            RefreshTokenStore(self.path).load()  # one that others could read is not carried on
            self._make_folder()
            with written_aside(self.path) as aside:
                aside.touch(mode=PRIVATE_FILE)  # private before a token is in it
                aside.write_bytes(self.path.read_bytes() if self.path.exists() else b"{}")
                RefreshTokenStore(aside).set_refresh_token(issuer, client, token)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes of this machine from renewing at once.

        A provider that rotates refresh tokens takes each of them once; the second process would be refused, and some
        providers then revoke the whole login (RFC 9700, 4.14.2).
        """
        try:
            self._make_folder()
            # The folder itself is locked: a lock file could not be made where secrets are mounted read-only.
            folder = os.open(self.path.parent, os.O_RDONLY)
        except OSError:  # nothing can be written back there, and so nothing is shared
            yield
            return
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _make_folder(self) -> None:
        if not self.path.parent.exists():  # one that was there may be shared on purpose
            self.path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            readable = "could be readable by others" in str(error)  # the openEO client's words
            what = "others could read it" if readable else f"it cannot be used ({error.strerror or error})"
            raise SettingsError(
                f"OPENEO_TOKEN_FILE={self.path}: {what}. Run: chmod 600 {self.path}, as the user who runs eo-tasks."
            ) from error
        except OSError as error:
            raise SettingsError(
                f"OPENEO_TOKEN_FILE={self.path}: it cannot be used ({error.strerror or error}). Name a file in a "
                "folder that eo-tasks may write to."
            ) from error
        except (RuntimeError, AttributeError, TypeError, KeyError) as error:  # whatever is no table of tokens
            raise SettingsError(
                f"OPENEO_TOKEN_FILE={self.path}: it holds no refresh tokens. Remove it, then run: eo-tasks login"
            ) from error
