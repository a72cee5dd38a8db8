"""Where files lie in an archive that is a folder."""

from pathlib import Path

from eo_tasks.grid import GridYear, YearPair
from eo_tasks.storage.layout import image_file, mask_file


def image_path(data_dir: Path, grid_year: GridYear) -> Path:
    """COG of a stored composite; its record lies beside it as ``.json``."""
    return data_dir / image_file(grid_year)


def mask_path(data_dir: Path, pair: YearPair) -> Path:
    """PNG of a stored mask; its record lies beside it as ``.json``."""
    return data_dir / mask_file(pair)
