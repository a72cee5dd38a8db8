"""What steps write aside, and what is left of it when their process is killed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import time

from eo_tasks.files import PART_SUFFIX

MASK_PREFIX, FETCH_PREFIX = ".mask-", ".fetch-"
ABANDONED_S = 2 * 3600  # longer than any step takes


def clear_scratch(top: Path, older_than_s: float = ABANDONED_S) -> int:
    """Remove what killed processes left half written: hidden folders and files that nobody reads.

    Args:
        top: Where this machine works.
        older_than_s: What was changed since is left alone: it may be in work.

    Returns:
        How many were removed.
    """
    number = 0
    for entry in _left_behind(top):
        with suppress(FileNotFoundError):
            if time() - entry.stat(follow_symlinks=False).st_mtime < older_than_s:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink()
            number += 1
    return number


def _left_behind(folder: Path | str) -> Iterator["os.DirEntry[str]"]:
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name.startswith((MASK_PREFIX, FETCH_PREFIX) if is_folder else ".") and (
                is_folder or entry.name.endswith(PART_SUFFIX)
            ):
                yield entry
            elif is_folder and not entry.name.startswith("."):
                yield from _left_behind(entry.path)
