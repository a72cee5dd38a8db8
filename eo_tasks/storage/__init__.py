"""Where composites and masks are kept: stores behind one protocol, files in a place behind another."""

from typing import TYPE_CHECKING

from eo_tasks.errors import SettingsError
from eo_tasks.setting_types import S3Url
from eo_tasks.settings import PipelineMode, Settings
from eo_tasks.storage.files import FileStore, LocalStore
from eo_tasks.storage.folder import Folder
from eo_tasks.storage.place import Place
from eo_tasks.storage.staging import Staging
from eo_tasks.storage.store import WEIGHTS, Record, StagedImage, Store, fingerprint_of, is_same

if TYPE_CHECKING:
    from eo_tasks.storage.database.store import DatabaseStore

__all__ = [
    "WEIGHTS",
    "FileStore",
    "LocalStore",
    "Place",
    "Record",
    "StagedImage",
    "Staging",
    "Store",
    "fingerprint_of",
    "is_same",
    "open_database_store",
    "open_place",
    "open_store",
]


def open_store(settings: Settings, place: Place) -> Store:
    """The store that ``PIPELINE_MODE`` names, its files in that place; nothing is connected to yet."""
    if settings.pipeline_mode is PipelineMode.LOCAL_ONLY:
        return FileStore(place)
    database = open_database_store(settings)
    if settings.pipeline_mode is PipelineMode.DATABASE_ONLY:
        return database
    from eo_tasks.storage.hybrid import HybridStore

    return HybridStore(FileStore(place), database)


def open_place(settings: Settings) -> Place:
    """Where files are kept, as ``DATA_DIR`` says; nothing is connected to yet.

    Raises:
        SettingsError: It is a bucket, and the package for that is not installed.
    """
    if not isinstance(settings.data_dir, S3Url):
        return Folder(settings.data_dir)
    try:
        from eo_tasks.storage.bucket import Access, Bucket
    except ModuleNotFoundError as error:
        if error.name not in ("boto3", "botocore"):
            raise
        raise SettingsError(
            f"DATA_DIR={settings.data_dir}: boto3 is not installed. Install it with: pip install 'eo-tasks[s3]'"
        ) from None
    secret, token = settings.aws_secret_access_key, settings.aws_session_token
    access = Access(
        settings.aws_endpoint_url,
        settings.aws_region,
        settings.aws_access_key_id,
        None if secret is None else secret.get_secret_value(),
        None if token is None else token.get_secret_value(),
        None if settings.aws_ca_bundle is None else str(settings.aws_ca_bundle),
    )
    return Bucket(settings.data_dir, access)


def open_database_store(settings: Settings) -> "DatabaseStore":
    """The database of ``DB_HOST`` and the rest, as a worker logs in to it."""
    from eo_tasks.storage.database.connection import Database, Login
    from eo_tasks.storage.database.store import DatabaseStore

    return DatabaseStore(Database(Login.of_worker(settings)))
