"""Names of the files that readers outside this project rely on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eo_tasks.grid import GridYear, YearPair


def image_name(grid_year: GridYear) -> str:
    """File name of a composite; ``_08`` is the archive's sign for the summer season."""
    return f"sentinel2_grid_{grid_year.grid_id}_{grid_year.year}_08.tiff"


def image_path(data_dir: Path, grid_year: GridYear) -> Path:
    """COG of a stored composite; its record lies beside it as ``.json``."""
    return data_dir / "images" / str(grid_year.year) / image_name(grid_year)


def mask_name(pair: YearPair) -> str:
    """File name of a mask's PNG: after the earlier year."""
    return f"change_mask_grid_{pair.grid_id}_{pair.before}.png"


def mask_path(data_dir: Path, pair: YearPair) -> Path:
    """PNG of a stored mask; its record lies beside it as ``.json``."""
    return data_dir / "masks" / str(pair.before) / mask_name(pair)


def is_whole(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether a file is as long as its record says."""
    try:
        return path.stat().st_size == record.get("size_bytes")
    except (FileNotFoundError, NotADirectoryError):
        return False
