"""Names of the files that readers outside this project rely on."""

from pathlib import Path

from eo_tasks.grid import GridYear, YearPair

IMAGES, MASKS, STAGED = Path("images"), Path("masks"), Path("staging")


def image_name(grid_year: GridYear) -> str:
    """File name of a composite; ``_08`` is the archive's sign for the summer season."""
    return f"sentinel2_grid_{grid_year.grid_id}_{grid_year.year}_08.tiff"


def image_file(grid_year: GridYear) -> Path:
    """COG of a stored composite, from the top; its record lies beside it as ``.json``."""
    return IMAGES / str(grid_year.year) / image_name(grid_year)


def staged_file(grid_year: GridYear) -> Path:
    """COG of a composite on its way into the store, from the top; its record lies beside it as ``.json``."""
    return STAGED / str(grid_year.year) / image_name(grid_year)


def mask_name(pair: YearPair) -> str:
    """File name of a mask's PNG: after the earlier year."""
    return f"change_mask_grid_{pair.grid_id}_{pair.before}.png"


def mask_file(pair: YearPair) -> Path:
    """PNG of a stored mask, from the top; its record lies beside it as ``.json``."""
    return MASKS / str(pair.before) / mask_name(pair)
