"""A folder of JSON files that is brought to what it should be."""

import json

import pytest

from eo_tasks.products.stac import JsonTree


@pytest.fixture
def tree(tmp_path) -> JsonTree:
    made = JsonTree(tmp_path)
    made.put("a/1.json", {"id": "1"})
    made.put("a/2.json", {"id": "ž"})
    return made


def names(tree) -> list[str]:
    return sorted(str(path.relative_to(tree.folder)) for path in tree.folder.rglob("*") if path.is_file())


def test_only_what_differs_is_written(tree):
    before = {path: path.stat().st_mtime_ns for path in tree.folder.rglob("*.json")}
    again = JsonTree(tree.folder)
    again.put("a/1.json", {"id": "1"})
    again.put("a/2.json", {"id": "other"})
    assert (again.written, again.kept) == (1, 1)
    assert [path.name for path, time in before.items() if path.stat().st_mtime_ns != time] == ["2.json"]
    assert again.get("a/2.json") == {"id": "other"}


def test_what_a_power_failure_cut_off_is_written_again(tree):
    (tree.folder / "a" / "1.json").write_text("")
    assert tree.get("a/1.json") is None
    tree.put("a/1.json", {"id": "1"})
    assert tree.get("a/1.json") == {"id": "1"}


def test_files_and_folders_of_other_names_are_removed_and_other_kinds_of_files_stay(tree):
    tree.put("b/3.json", {})
    tree.put("b/c/4.json", {})
    (tree.folder / "notes.txt").write_text("mine")
    tree.keep_only(".", {"a"})
    tree.keep_only("a", {"2.json"})
    assert names(tree) == ["a/2.json", "notes.txt"]
    assert tree.removed == 3


def test_keeping_in_a_folder_that_is_not_there_removes_nothing(tree):
    tree.keep_only("z", ())
    assert tree.removed == 0


def test_a_value_that_json_does_not_know_leaves_the_file_as_it_was(tree):
    with pytest.raises(ValueError, match="JSON compliant"):
        tree.put("a/1.json", {"id": float("nan")})
    assert names(tree) == ["a/1.json", "a/2.json"]
    assert json.loads((tree.folder / "a" / "1.json").read_text()) == {"id": "1"}
