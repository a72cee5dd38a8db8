"""Files in a folder, of this machine or of a file system that machines share."""

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path

from eo_tasks.files import read_json, write_json, written_aside
from eo_tasks.storage.place import record_of
from eo_tasks.storage.store import Record


class Folder:
    """A folder; what it needs below it is made as it is needed."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def __str__(self) -> str:
        return str(self.top)

    def check(self) -> None:
        """Nothing to look at."""

    def names(self, folder: Path) -> Iterator[str]:
        """Names of the files and folders in a folder."""
        there = self.top / folder
        return (entry.name for entry in there.iterdir()) if there.is_dir() else iter(())

    def records(self, files: Collection[Path]) -> Mapping[Path, Record]:
        """Records beside these files."""
        read = ((file, read_json(record_of(self.top / file))) for file in files)
        return {file: record for file, record in read if record is not None}

    def sizes(self, files: Collection[Path]) -> Mapping[Path, int]:
        """Sizes of those of these files that are there."""
        found = {}
        for file in files:
            with suppress(FileNotFoundError, NotADirectoryError):
                found[file] = (self.top / file).stat().st_size
        return found

    def put(self, source: Path, file: Path) -> None:
        """Keep a copy of a local file; it shares its bytes where the file system can."""
        with written_aside(self.top / file) as aside:
            try:
                aside.hardlink_to(source)
            except OSError:  # another file system, or one without links
                shutil.copyfile(source, aside)

    def put_record(self, file: Path, record: Record) -> None:
        """Write the record beside a file."""
        write_json(record_of(self.top / file), record)

    def remove(self, files: Iterable[Path]) -> None:
        """Remove files."""
        for file in files:
            (self.top / file).unlink(missing_ok=True)

    def local(self, file: Path, scratch: Path) -> Path | None:
        """The file itself."""
        path = self.top / file
        return path if path.is_file() else None

    def raster(self, file: Path) -> Path:
        """Its path."""
        return self.top / file

    def reading(self) -> nullcontext[None]:
        """Nothing."""
        return nullcontext()

    def href(self, file: Path, up: str) -> str:
        """A relative path: the folder may be moved."""
        return f"{up}/{file.as_posix()}"

    gdal_href = href
