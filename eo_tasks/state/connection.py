"""The connection to the result backend's Redis."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from eo_tasks.errors import BrokerError, SettingsError
from eo_tasks.urls import redacted


def connect(url: str) -> Redis:
    """A client of the Redis at ``url``; connects when first used and rides out a short restart."""
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_connect_timeout=5,
        socket_timeout=30,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(ExponentialBackoff(cap=2, base=0.1), retries=5),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
    )


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Say in one line why Redis could not be used.

    Raises:
        SettingsError: The password is wrong.
        BrokerError: Redis does not answer, or refuses the command.
    """
    try:
        yield
    except AuthenticationError as error:
        raise SettingsError(f"Redis at {redacted(url)} refuses the password: check REDIS_PASSWORD.") from error
    except RedisError as error:
        raise BrokerError(
            f"Redis at {redacted(url)} does not work ({error}). Is it running, and REDIS_URL right?"
        ) from error
