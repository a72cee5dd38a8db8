"""What killed processes leave behind is removed, and nothing else."""

import os
from pathlib import Path

from eo_tasks.steps.scratch import ABANDONED_S, clear_scratch

LEFT = ("masks/2022/.change_mask_grid_24_2022.json.aca5f5fd.part", ".mask-a1b2/btc.png", "staging/2021/.fetch-z9/f.tif")
KEPT = ("masks/2022/change_mask_grid_24_2022.json", "images/2021/.hidden", "images/2021/notes.part", ".other-1/x.tiff")


def archive(folder: Path) -> Path:
    for name in (*LEFT, *KEPT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_killed_processes_left_half_written_is_removed(tmp_path: Path) -> None:
    assert clear_scratch(archive(tmp_path), older_than_s=0) == len(LEFT)
    assert files(tmp_path) == set(KEPT)
    assert not (tmp_path / ".mask-a1b2").exists()


def test_what_may_be_in_work_is_left_alone(tmp_path: Path) -> None:
    archive(tmp_path)
    old = tmp_path / LEFT[0]
    os.utime(old, (old.stat().st_atime, old.stat().st_mtime - ABANDONED_S - 60))
    assert clear_scratch(tmp_path) == 1
    assert files(tmp_path) == {*KEPT, *LEFT[1:]}


def test_an_archive_that_does_not_exist_has_nothing_left_behind(tmp_path: Path) -> None:
    assert clear_scratch(tmp_path / "nowhere") == 0
