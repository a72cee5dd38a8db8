"""A worker that Redis refuses ends with one line, instead of trying again and again."""

from typing import Any

from celery.signals import worker_init

from eo_tasks.celery import CONTROL
from eo_tasks.errors import BrokerError, SettingsError
from eo_tasks.settings import current_settings
from eo_tasks.state.connection import connect, explained
from eo_tasks.state.keys import CHANGED


def check_login() -> None:
    """Have this program's workers look whether Redis takes them, before anything else."""
    worker_init.connect(_check)


def try_redis() -> None:
    """Look at a key of each database, as every part but Flower may.

    Raises:
        SettingsError: Redis refuses the login or the command, or its certificate is not trusted.
        BrokerError: It does not answer.
    """
    settings = current_settings()
    for url, key in ((settings.broker_url, CONTROL), (settings.result_url, CHANGED)):
        with explained(url), connect(url, tries=1) as redis:
            redis.exists(key)


def _check(**_: Any) -> None:
    try:
        try_redis()
    except SettingsError as error:
        raise SystemExit(f"eo-tasks: {error}") from None
    except BrokerError:  # it is waited for
        return
