"""How long a TIFF says it is, to tell a file whose transfer was cut.

GDAL opens many a cut file: it reads the pixels that are left, and passes over tags that are gone, such as nodata and
the bands' names. So the tables are asked first.
"""

import struct
from pathlib import Path
from typing import BinaryIO

TYPE_BYTES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)  # by type, TIFF 6.0 and BigTIFF
SHORT, LONG, LONG8 = 3, 4, 16
INTEGERS = {SHORT: "H", LONG: "I", LONG8: "Q"}
PARTS = {273: 279, 324: 325}  # StripOffsets and StripByteCounts, TileOffsets and TileByteCounts


def promised_bytes(path: Path) -> int:
    """The least size that a TIFF has by its own tables: everything that they point to lies before it.

    Args:
        path: A file; of a cut one, what is left of its tables is read.

    Raises:
        ValueError: It is no TIFF, or one with broken tables.
    """
    try:
        with path.open("rb") as file:
            return _Tables(file, path.stat().st_size).end()
    except (struct.error, IndexError, KeyError) as error:
        raise ValueError(f"{path}: no TIFF, or one with broken tables ({error})") from error


class _Tables:
    """The chain of tables of one open file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.order = {b"II": "<", b"MM": ">"}[file.read(2)]
        self.is_big = {42: False, 43: True}[self._unpack("H", file.read(2))[0]]
        self.word = "Q" if self.is_big else "I"  # of offsets
        self.word_bytes = 8 if self.is_big else 4

    def end(self) -> int:
        at = 8 if self.is_big else 4  # of the offset of the first table
        table, last, seen = self._numbers(at, self.word, 1)[0], at + self.word_bytes, set[int]()
        while table and table not in seen:
            seen.add(table)
            count_kind, count_bytes, entry_bytes = ("Q", 8, 20) if self.is_big else ("H", 2, 12)
            last = max(last, table + count_bytes)
            if last > self.size:
                return last
            entries = self._numbers(table, count_kind, 1)[0]
            after = table + count_bytes + entries * entry_bytes
            last = max(last, after + self.word_bytes)
            if last > self.size:
                return last
            last = max(last, self._end_of_values(table + count_bytes, entries, entry_bytes))
            table = self._numbers(after, self.word, 1)[0]
        return last

    def _end_of_values(self, start: int, entries: int, entry_bytes: int) -> int:
        """The furthest byte of the tags' values, and of the strips or tiles that they list."""
        last, numbers = 0, dict[int, tuple[int, ...]]()
        for at in range(start, start + entries * entry_bytes, entry_bytes):
            tag, kind = self._numbers(at, "H", 2)
            count = self._numbers(at + 4, self.word, 1)[0]
            place, length = at + entry_bytes - self.word_bytes, count * TYPE_BYTES[kind]
            if length > self.word_bytes:  # shorter values stand in the table itself
                place = self._numbers(place, self.word, 1)[0]
                last = max(last, place + length)
            is_part = tag in PARTS or tag in PARTS.values()
            if is_part and place + length <= self.size:
                numbers[tag] = self._numbers(place, INTEGERS[kind], count)
        for offsets, lengths in PARTS.items():
            parts = zip(numbers.get(offsets, ()), numbers.get(lengths, ()), strict=False)
            last = max((last, *(offset + length for offset, length in parts if offset and length)))
        return last

    def _numbers(self, at: int, kind: str, count: int) -> tuple[int, ...]:
        self.file.seek(at)
        return self._unpack(f"{count}{kind}", self.file.read(count * struct.calcsize(f"={kind}")))

    def _unpack(self, kinds: str, content: bytes) -> tuple[int, ...]:
        return struct.unpack(self.order + kinds, content)
