"""Each stage alone, in this process: a source that paints composites, the local store and the tiny network."""

import errno
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
from shapely.geometry import box

import eo_tasks
from eo_tasks import BTCProcessor, ImageStore, SentinelDownloader
from eo_tasks.errors import (
    AccountError,
    CheckpointError,
    GridError,
    PermanentError,
    SettingsError,
    SourceBusyError,
    SourceError,
    SourceUnavailableError,
    StorageError,
)
from eo_tasks.grid import GridYear, YearPair
from eo_tasks.raster import Composite
from eo_tasks.settings import Settings, load_settings
from eo_tasks.steps import Outcome
from eo_tasks.units import Stage
from tests.painted import GOLDEN, PaintedSource

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),  # rasterio's own
]

YEARS = (2022, 2023)


class Source(PaintedSource):
    """Paints, unless it has errors to raise for a cell and year: one after the other, then none."""

    def __init__(self) -> None:
        self.errors: dict[str, list[Exception]] = {}
        self.is_clear = True

    def composite(self, request, scratch: Path) -> Composite:
        if errors := self.errors.get(request.name):
            raise errors.pop(0)
        made = super().composite(request, scratch)
        return made if self.is_clear else Composite(
            made.pixels, made.bands, made.dn * np.uint16(0), made.clear_count, made.origin
        )  # fmt: skip


@pytest.fixture
def source(monkeypatch) -> Source:
    """The source of every pipeline that is opened."""
    painted = Source()
    monkeypatch.setattr("eo_tasks.steps.pipeline.open_source", lambda settings: painted)
    return painted


@pytest.fixture
def settings(tmp_path, source) -> Settings:
    """Three cells of 40 × 40 pixels."""
    squares = [box(500_000 + n * 400, 5_000_000, 500_400 + n * 400, 5_000_400) for n in range(3)]
    geopandas.GeoDataFrame({"grid_id": ["A", "B", "C"]}, geometry=squares, crs=32633).to_file(tmp_path / "grid.gpkg")
    return load_settings(
        data_dir=tmp_path / "data",
        grid_file=tmp_path / "grid.gpkg",
        imagery_source="stac",
        btc_model_checkpoint=str(GOLDEN),
        btc_device="cpu",
        btc_window_px=32,
        btc_stride_px=32,
    )


def counts(made) -> tuple[int, int, int, int]:
    return made.done, made.skipped, made.empty, made.failed


def test_three_calls_map_a_year_and_three_more_change_nothing(settings):
    downloader, store, btc = SentinelDownloader(settings), ImageStore(settings), BTCProcessor(settings)
    assert counts(downloader.process(YEARS)) == (6, 0, 0, 0)
    assert counts(store.process(YEARS)) == (6, 0, 0, 0)
    assert counts(btc.process_year(2022)) == (3, 0, 0, 0)
    files = {path: path.stat().st_mtime_ns for path in settings.data_dir.rglob("*") if path.is_file()}
    assert settings.data_dir / "masks" / "2022" / "change_mask_grid_0_2022.png" in files  # after the earlier year
    assert counts(downloader.process(YEARS)) == counts(store.process(YEARS)) == (0, 6, 0, 0)
    assert counts(btc.process_year(2022)) == (0, 3, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in settings.data_dir.rglob("*") if path.is_file()} == files


def test_cells_are_chosen_by_id_or_label(settings):
    made = SentinelDownloader(settings).process_year(2022, ["B", 2])
    assert (made.stage, made.done, made.total) == (Stage.DOWNLOAD, 2, 2)
    with pytest.raises(GridError, match="Cell 9: "):
        SentinelDownloader(settings).process_year(2022, [9])
    with pytest.raises(PermanentError, match="Year 2014: "):
        SentinelDownloader(settings).process_year(2014)


def test_a_cell_that_fails_leaves_the_others_alone_and_is_made_by_the_next_call(settings, source):
    source.errors["Cell 1, 2022"] = [SourceError("refused")]
    told = []
    made = SentinelDownloader(settings, lambda unit, ending: told.append((unit.id, type(ending)))).process_year(2022)
    assert counts(made) == (2, 0, 0, 1)
    assert {unit.id: str(error) for unit, error in made.failures.items()} == {"download_1_2022": "refused"}
    assert told == [("download_0_2022", Outcome), ("download_1_2022", SourceError), ("download_2_2022", Outcome)]
    assert counts(SentinelDownloader(settings).process_year(2022)) == (1, 2, 0, 0)


def test_an_error_of_no_kind_of_ours_is_a_cells_failure_too(settings, source):
    source.errors["Cell 0, 2022"] = [OSError(errno.EIO, "broken")]
    assert counts(SentinelDownloader(settings).process_year(2022)) == (2, 0, 0, 1)


def test_a_source_that_does_not_answer_is_asked_again(settings, source):
    source.errors["Cell 0, 2022"] = [SourceUnavailableError("silent"), SourceBusyError("busy", 7)]
    source.errors["Cell 1, 2022"] = [SourceUnavailableError("silent")] * 3
    waits = []
    made = SentinelDownloader(settings, wait=waits.append).process_year(2022, [0, 1])
    assert (counts(made), waits) == ((1, 0, 0, 1), [5, 7, 5, 30])


def test_what_is_wrong_for_every_cell_ends_the_call(settings, source):
    source.errors["Cell 1, 2022"] = [AccountError("no credits")]
    with pytest.raises(AccountError, match="no credits"):
        SentinelDownloader(settings).process_year(2022)
    assert counts(SentinelDownloader(settings).process_year(2022)) == (2, 1, 0, 0)


def test_a_cell_without_a_clear_pixel_is_empty(settings, source):
    source.is_clear = False
    assert counts(SentinelDownloader(settings).process_year(2022)) == (0, 0, 3, 0)


@pytest.mark.parametrize(
    "chosen",
    [
        {"imagery_source": "openeo"},
        {"imagery_source": "openeo2,openeo", "openeo2_url": "https://openeo.example"},
    ],
)
def test_batch_jobs_need_a_running_system(settings, chosen):
    with pytest.raises(SettingsError, match=r"batch jobs take a running system .* OPENEO_MODE=synchronous"):
        SentinelDownloader(load_settings(**settings.model_dump() | chosen)).process_year(2022)


@pytest.mark.parametrize(
    "chosen", [{"imagery_source": "openeo", "openeo_mode": "synchronous"}, {"imagery_source": "openeo,stac"}]
)
def test_a_source_that_one_may_wait_for_needs_none(settings, chosen):
    made = SentinelDownloader(load_settings(**settings.model_dump() | chosen)).process_year(2022)
    assert counts(made) == (3, 0, 0, 0)


def test_what_is_not_staged_is_empty_to_the_store(settings):
    SentinelDownloader(settings).process_year(2022, [0])
    assert counts(ImageStore(settings).process_year(2022)) == (1, 0, 2, 0)
    assert GridYear(0, 2022).store.id == "store_0_2022"


def test_a_pair_without_both_composites_is_empty_to_btc(settings):
    SentinelDownloader(settings).process_year(2022)
    SentinelDownloader(settings).process_year(2023, [1])
    ImageStore(settings).process(YEARS)
    told = {}
    made = BTCProcessor(settings, told.__setitem__).process_year(2022)
    assert counts(made) == (1, 0, 2, 0)
    assert str(told[YearPair(0, 2022, 2023).btc]) == (
        "Cell 0, 2022–2023: not both composites are stored. Download and store them first."
    )


def test_years_are_paired_with_the_next_one_given(settings):
    SentinelDownloader(settings).process((2021, 2023), [0])
    ImageStore(settings).process((2021, 2023), [0])
    units = []
    assert counts(BTCProcessor(settings, lambda unit, _: units.append(unit.id)).process((2023, 2021), [0])) == (
        1, 0, 0, 0,
    )  # fmt: skip
    assert units == ["btc_0_2021_2023"]


def test_a_broken_composite_is_its_cells_failure(settings):
    SentinelDownloader(settings).process(YEARS)
    ImageStore(settings).process(YEARS)
    broken = settings.data_dir / "images" / "2023" / "sentinel2_grid_1_2023_08.tiff"
    broken.write_bytes(bytes(broken.stat().st_size))
    made = BTCProcessor(settings).process_year(2022)
    assert counts(made) == (2, 0, 0, 1)
    assert isinstance(made.failures[YearPair(1, 2022, 2023).btc], StorageError)


def test_a_network_that_cannot_be_loaded_ends_the_call(settings, tmp_path):
    SentinelDownloader(settings).process(YEARS)
    ImageStore(settings).process(YEARS)
    with pytest.raises(CheckpointError):
        BTCProcessor(load_settings(**settings.model_dump() | {"btc_model_checkpoint": str(tmp_path)})).process_year(
            2022
        )


def test_importing_the_package_imports_no_stage():
    code = "import sys, eo_tasks; print(any(name in sys.modules for name in ('numpy', 'celery', 'eo_tasks.steps')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = eo_tasks.Nonsense
