"""How long a TIFF says it is, with files of other writers' layouts made by hand."""

import struct

import pytest

from eo_tasks.sources.openeo.tiff import promised_bytes

SHORT, LONG, LONG8, ASCII = 3, 4, 16, 2
OFFSETS, LENGTHS, NODATA = 273, 279, 42113


def table(order: str, entries, after=0) -> bytes:
    """One table of a classic TIFF; values are given as they stand in it."""
    body = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    return struct.pack(f"{order}H", len(entries)) + body + struct.pack(f"{order}I", after)


def promised(tmp_path, content: bytes) -> int:
    (tmp_path / "file.tiff").write_bytes(content)
    return promised_bytes(tmp_path / "file.tiff")


@pytest.mark.parametrize(("order", "mark"), [("<", b"II"), (">", b"MM")])
@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], 8 + 2 + 4),
        ([(OFFSETS, LONG, 1, 1000), (LENGTHS, LONG, 1, 24)], 1024),
        ([(OFFSETS, LONG, 1, 0), (LENGTHS, LONG, 1, 0)], 8 + 2 + 24 + 4),  # a sparse strip
        ([(NODATA, ASCII, 4, 1000)], 8 + 2 + 12 + 4),  # four bytes stand in the table
        ([(NODATA, ASCII, 7, 1000)], 1007),
        ([(OFFSETS, LONG, 500, 1000), (LENGTHS, LONG, 500, 3000)], 5000),  # the lists are gone, too
    ],
    ids=["nothing", "one strip", "a sparse strip", "a short value", "a long value", "cut lists"],
)
def test_a_file_is_as_long_as_the_furthest_thing_in_its_tables(tmp_path, order, mark, entries, expected):
    content = mark + struct.pack(f"{order}HI", 42, 8) + table(order, entries)
    assert promised(tmp_path, content) == expected


def test_strips_are_found_by_their_lists(tmp_path):
    lists = struct.pack("<3I3H", 200, 900, 400, 10, 50, 60)
    content = b"II" + struct.pack("<HI", 42, 8) + table("<", [(OFFSETS, LONG, 3, 38), (LENGTHS, SHORT, 3, 50)])
    assert len(content) == 38
    assert promised(tmp_path, content + lists) == 950


def test_every_table_of_a_file_counts(tmp_path):
    second = table("<", [(NODATA, ASCII, 7, 5000)])
    assert promised(tmp_path, b"II" + struct.pack("<HI", 42, 8) + table("<", [], 14) + second) == 5007
    assert promised(tmp_path, b"II" + struct.pack("<HI", 42, 8) + table("<", [], 9000)) == 9002


def test_tables_that_go_round_in_a_circle_end(tmp_path):
    assert promised(tmp_path, b"II" + struct.pack("<HI", 42, 8) + table("<", [], 8)) == 14


def test_a_bigtiff_has_longer_numbers(tmp_path):
    entries = [(OFFSETS, LONG8, 1, 2**33), (LENGTHS, LONG8, 1, 100)]
    body = b"".join(struct.pack("<HHQQ", *entry) for entry in entries)
    header = b"II" + struct.pack("<HHHQ", 43, 8, 0, 16)
    assert promised(tmp_path, header + struct.pack("<Q", 2) + body + struct.pack("<Q", 0)) == 2**33 + 100


@pytest.mark.parametrize(
    "content",
    [b"", b"I", b"II", b"II*\0", b"II+\0\x08\0\0\0", b"<html>", b"II" + struct.pack("<HI", 41, 8) + bytes(9)],
)
def test_what_is_no_tiff_is_told(tmp_path, content):
    with pytest.raises(ValueError, match="no TIFF, or one with broken tables"):
        promised(tmp_path, content)


@pytest.mark.parametrize("entry", [(OFFSETS, 99, 1, 0), (OFFSETS, ASCII, 1, 0)], ids=["type", "type of a list"])
def test_broken_tables_are_told(tmp_path, entry):
    with pytest.raises(ValueError, match="broken tables"):
        promised(tmp_path, b"II" + struct.pack("<HI", 42, 8) + table("<", [entry]))
