"""Files are there whole or not at all."""

import json

import pytest

from eo_tasks.files import read_json, sha256, write_json, written_aside


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write_half(path, error: BaseException) -> None:
    with written_aside(path) as aside:
        aside.write_text("half")
        assert aside.exists()
        raise error


def test_a_file_is_published_when_the_block_ends_and_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    with written_aside(path) as aside:
        aside.write_text("new")
        assert not path.exists()
        assert aside.parent == path.parent
        assert aside.name.startswith(".file.txt.")
        assert aside.name.endswith(".part")
    assert path.read_text() == "new"
    assert names(path.parent) == ["file.txt"]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_half(tmp_path / "file.txt", KeyboardInterrupt())
    assert names(tmp_path) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="full"):
        write_half(path, RuntimeError("the disk is full"))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_block_that_writes_nothing_publishes_nothing(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), written_aside(path):
        pass
    assert path.read_text() == "old"


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "file.txt"
    with written_aside(path) as first, written_aside(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer block ends last
    assert names(tmp_path) == ["file.txt"]


def test_a_file_that_is_a_link_to_another_is_replaced_not_written_through(tmp_path):
    (tmp_path / "staged").write_text("staged")
    (tmp_path / "stored").hardlink_to(tmp_path / "staged")
    with written_aside(tmp_path / "stored") as aside:
        aside.write_text("new")
    assert (tmp_path / "staged").read_text() == "staged"


def test_json_is_read_as_it_was_written(tmp_path):
    record = {"label": "Škofja Loka", "years": [2022, 2023], "share": 0.1, "none": None}
    write_json(tmp_path / "record.json", record)
    assert read_json(tmp_path / "record.json") == record
    assert "Škofja Loka" in (tmp_path / "record.json").read_text(encoding="utf-8")


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_json(tmp_path / "record.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "record.json", {"a": {1, 2}})
    assert read_json(tmp_path / "record.json") == {"a": 1}
    assert names(tmp_path) == ["record.json"]


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"[1, 2]", b"7", b"\xff\xfe", b"\x00" * 64])
def test_json_that_is_not_a_whole_record_counts_as_none(tmp_path, content):
    (tmp_path / "record.json").write_bytes(content)
    assert read_json(tmp_path / "record.json") is None


def test_a_missing_record_counts_as_none(tmp_path):
    (tmp_path / "file").touch()
    assert read_json(tmp_path / "record.json") is None
    assert read_json(tmp_path / "file" / "record.json") is None


def test_the_fingerprint_is_that_of_the_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_records_are_for_people_too(tmp_path):
    write_json(tmp_path / "record.json", {"a": 1, "b": 2})
    text = (tmp_path / "record.json").read_text()
    assert text == json.dumps({"a": 1, "b": 2}, indent=2) + "\n"
