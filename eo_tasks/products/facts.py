"""What every record says of its file."""

import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rasterio

from eo_tasks import __version__
from eo_tasks.files import sha256


def file_facts(path: Path) -> dict[str, Any]:
    """What lets anyone check the file, and know what wrote it."""
    return {
        "size_bytes": path.stat().st_size,
        "sha256": sha256(path),
        "made_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "versions": {
            "eo_tasks": __version__,
            "gdal": rasterio.__gdal_version__,
            "python": platform.python_version(),
        },
    }
