"""What is stored of what is wanted."""

from eo_tasks.errors import StorageError
from eo_tasks.grid import GridYear
from eo_tasks.plan import Inventory, Wanted
from eo_tasks.raster import PixelGrid
from eo_tasks.steps.pipeline import Pipeline


def take_inventory(pipeline: Pipeline, wanted: Wanted, not_before: float = 0) -> Inventory:
    """Look up what is stored of what is wanted.

    Args:
        pipeline: Where to look.
        wanted: Which cells and years.
        not_before: What was made earlier than that (seconds since 1970) is not there.

    Raises:
        StorageError: The store holds composites of another grid.
    """
    store, cells = pipeline.store, wanted.grid_ids
    images = {year: store.image_ids(year, cells, not_before) for year in wanted.years}
    for year, grid_ids in images.items():
        if (example := next((grid_id for grid_id in wanted.grid_ids if grid_id in grid_ids), None)) is not None:
            _check_same_grid(pipeline, GridYear(example, year))
    return Inventory(
        images=images,
        staged={year: pipeline.staging.grid_ids(year, cells, not_before) for year in wanted.years},
        masks={pair: store.mask_ids(*pair, pipeline.recipe, cells, not_before) for pair in wanted.year_pairs},
    )


def _check_same_grid(pipeline: Pipeline, grid_year: GridYear) -> None:
    """Refuse to mix the composites of two grids: their ids are the same, their places are not."""
    record = pipeline.store.image_record(grid_year) or {}
    pixels = PixelGrid.of(pipeline.grid.cell(grid_year.grid_id))
    if (record.get("epsg"), record.get("bounds")) != (pixels.epsg, list(pixels.bounds)):
        raise StorageError(
            f"{grid_year}: the stored composite lies at {record.get('bounds')} of EPSG:{record.get('epsg')}, "
            f"the cell at {pixels.bounds} of EPSG:{pixels.epsg}. It is of another grid: choose another DATA_DIR, "
            "or use its grid."
        )
