"""Where composites and masks are kept, behind one protocol."""

from typing import TYPE_CHECKING

from eo_tasks.settings import PipelineMode, Settings
from eo_tasks.storage.local import LocalStore
from eo_tasks.storage.staging import Staging
from eo_tasks.storage.store import WEIGHTS, Record, StagedImage, Store, fingerprint_of, is_same

if TYPE_CHECKING:
    from eo_tasks.storage.database.store import DatabaseStore

__all__ = [
    "WEIGHTS",
    "LocalStore",
    "Record",
    "StagedImage",
    "Staging",
    "Store",
    "fingerprint_of",
    "is_same",
    "open_database_store",
    "open_store",
]


def open_store(settings: Settings) -> Store:
    """The store that ``PIPELINE_MODE`` names; nothing is connected to yet."""
    if settings.pipeline_mode is PipelineMode.LOCAL_ONLY:
        return LocalStore(settings.data_dir)
    database = open_database_store(settings)
    if settings.pipeline_mode is PipelineMode.DATABASE_ONLY:
        return database
    from eo_tasks.storage.hybrid import HybridStore

    return HybridStore(LocalStore(settings.data_dir), database)


def open_database_store(settings: Settings) -> "DatabaseStore":
    """The database of ``DB_HOST`` and the rest, as a worker logs in to it."""
    from eo_tasks.storage.database.connection import Database, Login
    from eo_tasks.storage.database.store import DatabaseStore

    return DatabaseStore(Database(Login.of_worker(settings)))
