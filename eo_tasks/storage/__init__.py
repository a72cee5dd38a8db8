"""Where composites and masks are kept, behind one protocol."""

from eo_tasks.errors import SettingsError
from eo_tasks.settings import PipelineMode, Settings
from eo_tasks.storage.local import LocalStore
from eo_tasks.storage.staging import Staging
from eo_tasks.storage.store import WEIGHTS, Record, StagedImage, Store

__all__ = ["WEIGHTS", "LocalStore", "Record", "StagedImage", "Staging", "Store", "open_store"]


def open_store(settings: Settings) -> Store:
    """The store that ``PIPELINE_MODE`` names.

    Raises:
        SettingsError: This version has no such store.
    """
    if settings.pipeline_mode is not PipelineMode.LOCAL_ONLY:
        raise SettingsError(
            f"PIPELINE_MODE={settings.pipeline_mode}: this version stores in local files only; set it to local_only."
        )
    return LocalStore(settings.data_dir)
