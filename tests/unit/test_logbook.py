"""Logs read back from their ends: newest first, page by page, past what is broken."""

import json
from pathlib import Path

import pytest

from eo_tasks.errors import PermanentError
from eo_tasks.logbook import Filter, Tail, read_lines
from eo_tasks.units import Stage


def line(second: int, event: str = "unit ended", **more: object) -> str:
    at = f"2026-01-01T00:00:{second:02}.000Z"
    return json.dumps({"at": at, "level": "INFO", "logger": "eo_tasks", "event": event, **more}, separators=(",", ":"))


def of_unit(second: int, stage: str, cell: int, *years: int) -> str:
    unit = "_".join(map(str, (stage, cell, *years)))
    return line(second, unit=unit, stage=stage, grid_id=cell, year=years[0], years=list(years))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two programs' files, one of them renamed in between, with a torn line and one that is no log's."""
    (tmp_path / "cpu@a.1700000000000000000.jsonl").write_text(f"{line(1, 'a')}\n{line(3, 'c')}\n")
    (tmp_path / "cpu@a.jsonl").write_text(f'{line(5, "e")}\n{{"at":"2026-01-01T00:00:06.0\n[1]\n{line(7, "g")}\n{{"at"')
    (tmp_path / "gpu@b.jsonl").write_text(f"{line(2, 'b')}\n{line(4, 'd', level='ERROR')}\n{line(6, 'f')}\n")
    return tmp_path


def events(folder: Path, **wanted: object) -> list[str]:
    return [one.event for one in read_lines(folder, Filter(**wanted), 100).lines]  # type: ignore[arg-type]


def test_lines_of_all_files_come_newest_first_and_broken_ones_are_passed_over(folder: Path) -> None:
    assert events(folder) == ["g", "f", "e", "d", "c", "b", "a"]


def test_pages_go_on_where_the_last_one_ended(folder: Path) -> None:
    read: list[str] = []
    before = None
    while True:
        page = read_lines(folder, Filter(), 3, before)
        read += [one.event for one in page.lines]
        before = page.before
        if before is None:
            break
    assert read == ["g", "f", "e", "d", "c", "b", "a"]


def test_a_cursor_of_no_page_is_told(folder: Path) -> None:
    with pytest.raises(PermanentError, match="no place in the logs"):
        read_lines(folder, Filter(), 3, "Li4vLi4vZXRjL3Bhc3N3ZA")


def test_lines_are_chosen_by_level_and_text(folder: Path) -> None:
    assert events(folder, level="WARNING") == ["d"]
    assert events(folder, text="G") == ["g"]


def test_lines_are_chosen_by_stage_cell_and_any_of_their_years(tmp_path: Path) -> None:
    lines = [of_unit(1, "download", 463, 2022), of_unit(2, "btc", 463, 2022, 2023), of_unit(3, "btc", 464, 2023, 2024)]
    (tmp_path / "cpu@a.jsonl").write_text("\n".join(lines) + "\n")

    def units(**wanted: object) -> list[str | None]:
        return [one.unit for one in read_lines(tmp_path, Filter(**wanted), 9).lines]  # type: ignore[arg-type]

    assert units(stage=Stage.BTC) == ["btc_464_2023_2024", "btc_463_2022_2023"]
    assert units(grid_id=463) == ["btc_463_2022_2023", "download_463_2022"]
    assert units(year=2023) == ["btc_464_2023_2024", "btc_463_2022_2023"]
    assert units(unit="download_463_2022") == ["download_463_2022"]


def test_a_tail_gives_what_is_added_once_it_is_whole(folder: Path) -> None:
    tail = Tail(folder)
    assert tail.new() == []
    with (folder / "gpu@b.jsonl").open("a") as file:
        file.write(line(8, "h") + "\n" + line(9, "i")[:20])
        file.flush()
        assert [one.event for one in tail.new()] == ["h"]
        file.write(line(9, "i")[20:] + "\n")
    (folder / "new@c.jsonl").write_text(line(10, "j") + "\n")
    assert [one.event for one in tail.new()] == ["i", "j"]
    assert tail.new() == []


def test_a_folder_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert events(tmp_path / "none") == []
    assert Tail(tmp_path / "none").new() == []
