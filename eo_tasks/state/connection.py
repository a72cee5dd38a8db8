"""The connection to the result backend's Redis."""

from collections.abc import Iterator
from contextlib import contextmanager
from ssl import SSLCertVerificationError

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from eo_tasks.errors import BrokerError, SettingsError
from eo_tasks.urls import redacted


def connect(url: str, tries: int = 6) -> Redis:
    """A client of the Redis at ``url``; connects when first used, and with several tries rides out a short restart."""
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=5,
        socket_timeout=30,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=2, base=0.1), retries=tries - 1),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Say in one line why Redis could not be used.

    Raises:
        SettingsError: It refuses the login or the command, or its certificate is not trusted.
        BrokerError: It does not answer, or something else is wrong with it.
    """
    where = f"Redis at {redacted(url).partition('?')[0]}"
    try:
        yield
    except AuthenticationError as error:
        raise SettingsError(f"{where} refuses the login: check REDIS_USERNAME and REDIS_PASSWORD.") from error
    except NoPermissionError as error:
        raise SettingsError(
            f"{where} does not let its user do that ({error}): check REDIS_USERNAME, and its rights "
            "against deploy/redis/users.acl."
        ) from error
    except RedisError as error:
        if (refusal := _refusal(error)) is not None:
            raise SettingsError(
                f"{where} has a certificate that is not trusted ({refusal.verify_message}). Check "
                "REDIS_TLS_CA, and that the certificate is for this host name and has not expired."
            ) from error
        raise BrokerError(
            f"{where} does not work ({error}). Is it running, and are REDIS_URL and REDIS_TLS right?"
        ) from error


def _refusal(error: BaseException | None) -> SSLCertVerificationError | None:
    """Why a certificate was not taken, if that is what an error comes from."""
    while error is not None and not isinstance(error, SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error
