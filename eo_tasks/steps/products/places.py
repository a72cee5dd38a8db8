"""Where products lie under ``DATA_DIR``."""

from pathlib import Path

from eo_tasks.grid import GridYear
from eo_tasks.storage.layout import image_name

FOLDER_STAC, FOLDER_POLYGONS, FOLDER_QUICKLOOKS, FOLDER_QGIS = "stac", "polygons", "quicklooks", "qgis"
SHEETS = "cells"


def quicklook_path(folder: Path, grid_year: GridYear) -> Path:
    """The quicklook of a composite."""
    name = Path(image_name(grid_year)).with_suffix(".png").name
    return folder / FOLDER_QUICKLOOKS / str(grid_year.year) / name


def sheet_path(folder: Path, grid_id: int) -> Path:
    """The contact sheet of a cell."""
    return folder / FOLDER_QUICKLOOKS / SHEETS / f"grid_{grid_id}.png"
