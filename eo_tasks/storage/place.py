"""The protocol of where files are kept: a folder, or a bucket.

Files are named by their path from the top. A file counts as whole while the record beside it, of the same name with
``.json``, tells its size: the record is written last, and taken away before the file is replaced.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from eo_tasks.storage.store import Record


class Place(Protocol):
    """Keeps files, each put there whole or not at all."""

    def check(self) -> None:
        """Look whether files can be written and read.

        Raises:
            StorageError: They cannot; the message says what to do.
            StoreUnavailableError: The place does not answer.
        """
        ...

    def names(self, folder: Path) -> Iterator[str]:
        """Names of the files and folders in a folder; none where there is no such folder."""
        ...

    def records(self, files: Collection[Path]) -> Mapping[Path, Record]:
        """Records beside these files, of those that have one."""
        ...

    def sizes(self, files: Collection[Path]) -> Mapping[Path, int]:
        """Sizes in bytes of those of these files that are there."""
        ...

    def put(self, source: Path, file: Path) -> None:
        """Keep a copy of a local file, in one atomic move."""
        ...

    def put_record(self, file: Path, record: Record) -> None:
        """Write the record beside a file, in one atomic move."""
        ...

    def remove(self, files: Iterable[Path]) -> None:
        """Remove those of these files that are there, in this order."""
        ...

    def local(self, file: Path, scratch: Path) -> Path | None:
        """The file itself, or a copy of it in ``scratch``; ``None`` where there is no such file."""
        ...

    def raster(self, file: Path) -> Path:
        """The name by which GDAL opens a file in ``reading``."""
        ...

    def reading(self) -> AbstractContextManager[object]:
        """What GDAL needs to open and read files, in this thread."""
        ...

    def href(self, file: Path, up: str) -> str:
        """A reference to a file from a document from whose folder ``up`` leads to the top."""
        ...

    def gdal_href(self, file: Path, up: str) -> str:
        """The same, for GDAL and what is built on it."""
        ...


def record_of(file: Path) -> Path:
    """Name of the record beside a file."""
    return file.with_suffix(".json")


def whole(place: Place, files: Collection[Path]) -> dict[Path, Record]:
    """Records of those of these files that are as long as their record says."""
    records = place.records(files)
    sizes = place.sizes(records.keys())
    return {
        file: record for file, record in records.items() if file in sizes and sizes[file] == record.get("size_bytes")
    }
