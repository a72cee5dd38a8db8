"""A folder of JSON files that is brought to what it should be: only what differs is written."""

import json
import os
import secrets
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eo_tasks.files import PART_SUFFIX, read_json


@dataclass
class JsonTree:
    """JSON files in folders.

    A file is replaced in one atomic move. Its bytes are not forced to the disk one by one, which would take most of the
    time: what a power failure cuts off differs from what it should be, and is written again the next time.

    Attributes:
        folder: Theirs.
        written: How many files were written.
        kept: How many were as they should be.
        removed: How many were removed.
    """

    folder: Path
    written: int = field(default=0, init=False)
    kept: int = field(default=0, init=False)
    removed: int = field(default=0, init=False)

    def get(self, name: str) -> dict[str, Any] | None:
        """What is in a file; ``None`` if it is not there or not whole."""
        return read_json(self.folder / name)

    def put(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a file unless it is as it should be."""
        path = self.folder / name
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode()
        try:
            if path.read_bytes() == text:
                self.kept += 1
                return
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PART_SUFFIX}")
        try:
            aside.write_bytes(text)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        self.written += 1

    def keep_only(self, folder: str, names: Collection[str]) -> None:
        """Remove the folders and the JSON files of a folder that have other names."""
        try:
            entries = list(os.scandir(self.folder / folder))
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.name in names or entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                self.removed += sum(1 for _ in Path(entry.path).rglob("*.json"))
                shutil.rmtree(entry.path)
            elif entry.name.endswith(".json"):
                Path(entry.path).unlink(missing_ok=True)
                self.removed += 1
