"""A record of runs that outlives a kill: one JSON line each, appended and synced when its run ends.

A last line that a kill cut off is passed over, and taken out before the next is written.
"""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from lorascope.errors import IntegrityError

__all__ = ["append_lines", "read_lines"]

Line = TypeVar("Line")


def read_lines(path: Path, read: Callable[[Any], Line]) -> list[Line]:
    """What `read` makes of the data of each line, in the order in which they were written.

    None where there is no file. Raises IntegrityError for a damaged line before the last.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    found = []
    for number, line in enumerate(lines[:-1], start=1):  # the last is empty, or cut off by a kill
        try:
            found.append(read(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise IntegrityError(
                f"Reading {path}: line {number} is damaged ({error}). Remove the line to run it again."
            ) from error
    return found


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Add lines, each with its newline, and sync the file; its folder is made where it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        if whole < size:
            file.truncate(whole)
        file.write("".join(lines).encode())
        file.flush()
        os.fsync(file.fileno())
