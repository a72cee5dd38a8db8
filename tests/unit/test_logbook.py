"""Logs read back from their ends: newest first, page by page, past what is broken."""

import json
import os
from pathlib import Path

import pytest

from eo_tasks import logbook
from eo_tasks.errors import PermanentError
from eo_tasks.logbook import BLOCK_BYTES, Filter, Tail, read_lines
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


def test_lines_of_a_kind_that_none_of_ours_writes_are_passed_over(tmp_path: Path) -> None:
    odd = [line(1, unit=5), line(2, fields=[1]), line(3, grid_id="463"), line(4, exception={}), "[" * 2000]
    (tmp_path / "cpu@a.jsonl").write_text("\n".join([*odd, line(5, "good", fields={"share": float("nan")})]) + "\n")
    assert events(tmp_path, year=2023) == []
    (good,) = read_lines(tmp_path, Filter(), 9).lines
    assert (good.event, good.fields) == ("good", {"share": "NaN"})


def test_only_files_of_the_folder_itself_are_read(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "secret.jsonl"
    outside.write_text(line(9, "secret") + "\n")
    (folder / "link.jsonl").symlink_to(outside)
    (folder / ".hidden.jsonl").write_text(line(9, "hidden") + "\n")
    (folder / "folder.jsonl").mkdir()
    os.mkfifo(folder / "pipe.jsonl")
    assert events(folder) == ["g", "f", "e", "d", "c", "b", "a"]
    assert Tail(folder).new() == []


def test_a_large_file_is_read_from_its_end_and_from_where_a_page_ended(tmp_path: Path) -> None:
    """Of many blocks, with lines that are longer than one, and pages from the middle of it."""
    moments = [f"2026-01-01T00:{number // 60:02}:{number % 60:02}.000Z" for number in range(3000)]
    with (tmp_path / "cpu@a.jsonl").open("w") as file:
        for number, at in enumerate(moments):
            padding = "x" * (BLOCK_BYTES * 2 if number % 1000 == 500 else 300)
            file.write(line(0, str(number), fields={"text": padding}).replace("2026-01-01T00:00:00.000Z", at) + "\n")
    read, before = list[int](), None
    while True:
        page = read_lines(tmp_path, Filter(), 271, before)
        read += [int(one.event) for one in page.lines]
        before = page.before
        if before is None:
            break
    assert read == list(range(2999, -1, -1))


def test_only_the_end_of_a_file_is_read_for_a_page(tmp_path: Path) -> None:
    with (tmp_path / "cpu@a.jsonl").open("w") as file:
        file.truncate(1 << 40)  # more than anyone could read
        file.seek(0, os.SEEK_END)
        file.write("\n" + line(1, "last") + "\n")
    assert [one.event for one in read_lines(tmp_path, Filter(), 1).lines] == ["last"]


def test_a_page_ends_after_so_many_lines_that_do_not_fit_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook, "MOST_LOOKED", 5)
    rare = [line(second, "rare" if second == 0 else "common") for second in range(12)]
    (tmp_path / "cpu@a.jsonl").write_text("\n".join(rare) + "\n")
    first = read_lines(tmp_path, Filter(text="rare"), 9)
    second = read_lines(tmp_path, Filter(text="rare"), 9, first.before)
    third = read_lines(tmp_path, Filter(text="rare"), 9, second.before)
    assert [len(page.lines) for page in (first, second, third)] == [0, 0, 1]
    assert third.before is None


def test_a_file_that_is_renamed_while_files_are_opened_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, was = os.open, list[int]()

    def open_later(path: str, *options: int) -> int:
        if not was and Path(path).name == "gpu@b.jsonl":
            was.append((folder / "gpu@b.jsonl").stat().st_ino)
            (folder / "gpu@b.jsonl").rename(folder / "gpu@b.1700000000000000001.jsonl")
            (folder / "gpu@b.jsonl").write_text(line(8, "h") + "\n")
        return whole(path, *options)

    monkeypatch.setattr(os, "open", open_later)
    assert events(folder) == ["h", "g", "f", "e", "d", "c", "b", "a"]


def test_a_tail_goes_on_in_files_that_are_renamed_and_in_those_that_follow(folder: Path) -> None:
    tail = Tail(folder)
    with (folder / "gpu@b.jsonl").open("a") as file:
        file.write(line(8, "h") + "\n")
    (folder / "gpu@b.jsonl").rename(folder / "gpu@b.1700000000000000001.jsonl")
    (folder / "gpu@b.jsonl").write_text(line(9, "i") + "\n")
    assert [one.event for one in tail.new()] == ["h", "i"]
    assert tail.new() == []


def test_a_tail_does_not_take_a_new_file_for_one_that_had_its_number(folder: Path) -> None:
    tail = Tail(folder)
    file = folder / "gpu@b.jsonl"
    longer = "\n".join(line(second, f"of {second}") for second in range(10, 60)) + "\n"
    inode = file.stat().st_ino
    file.write_text(longer)  # the same inode, and longer than before
    assert file.stat().st_ino == inode
    assert [one.event for one in tail.new()] == [f"of {second}" for second in range(10, 60)]


def test_very_many_new_lines_are_taken_in_several_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logbook, "TAIL_BYTES", 250)
    tail = Tail(tmp_path)
    lines = [line(1, "a"), line(2, "x" * 600), line(3, "b")]
    (tmp_path / "cpu@a.jsonl").write_text("\n".join(lines) + "\n")
    looks = [[one.event for one in tail.new()] for _ in range(8)]
    assert [event for look in looks for event in look] == ["a", "b"]  # what is longer than a look is passed over
