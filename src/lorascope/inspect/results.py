"""The results file of a scan (JSON Lines): a line a file, by which a scan that was stopped goes on.

    key = path, size and time of change of the weights and of the configuration beside them, how, version

A result stands for its key: it is used again as long as nothing of that has changed, except where it was
refused for a reason that passes (a disk's error, a permission, a package that was not installed). One scan at
a time writes to a file; where the system has no flock, nothing keeps a second one away.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from lorascope.errors import FileError
from lorascope.io.locate import CONFIG_NAME

if sys.platform != "win32":
    import fcntl

__all__ = ["PASSING", "Results", "key_of", "open_results", "read_results"]

SCHEMA = "lorascope.inspect.brief/1"
BEGINS = json.dumps({"schema": SCHEMA})[:-1].encode()  # every line of a results file
# codes of problems that tell of the machine and the moment, not of the file: it is looked at again
PASSING = frozenset({"unreadable", "not-found", "missing-extra", "process-died"})


@dataclass(frozen=True)
class Results:
    """An open results file: what is known, by key, and where the next ones go."""

    known: Mapping[str, dict[str, Any]]
    file: IO[str]

    def keep(self, key: str, result: Mapping[str, Any]) -> None:
        """Append one result and hand it to the system, so that a kill loses at most the line in the making."""
        entry = {"schema": SCHEMA, "key": key, "result": result}
        self.file.write(json.dumps(entry, ensure_ascii=True) + "\n")
        self.file.flush()


@contextmanager
def open_results(path: Path) -> Iterator[Results]:
    """A results file to go on from and to append to, for this scan alone; made if it is not there.

    Raises FileError for what holds something else than results, or is in use by another scan.
    """
    check_regular(path)
    with path.open("a", encoding="utf-8") as file:
        hold(file, path)
        yield Results(read_results(path), file)


def hold(file: IO[str], path: Path) -> None:
    """Keep other scans away until the file is closed. Raises FileError if one of them has it."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileError(
            f"Keeping results in {str(path)!r}: another scan is writing to it. "
            "Try: wait until that one has ended, or name another file."
        ) from error
    except OSError:
        pass  # some network disks know no locks; scans go on there as ever


def key_of(path: Path, *how: bool) -> str:
    """What a result stands for: path, files with size and time of change, how it was examined, and by whom."""
    entries = [path]
    with suppress(OSError):  # it is refused when it is examined
        # a folder's listing holds its configuration
        entries += sorted(path.iterdir()) if path.is_dir() else [path.parent / CONFIG_NAME]
    stamps = [(entry.name, *stamp) for entry in entries if (stamp := stamp_of(entry)) is not None]
    return json.dumps([str(path), stamps, *how, this_version()], ensure_ascii=True)


@cache
def this_version() -> str:
    """The version of lorascope that looks; "unknown" where one runs from bare files."""
    try:
        return version("lorascope")
    except PackageNotFoundError:
        return "unknown"


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Size and time of change, None for what is not there or not to be looked at."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def read_results(path: Path) -> Mapping[str, dict[str, Any]]:
    """Results by key, without those whose reason may have passed, so that they are looked for again.

    A line that was torn by a kill is passed over; a torn end is cut off. Raises FileError for what is no
    regular file, or holds anything but results: it is left as it is.
    """
    check_regular(path)
    if not path.exists():
        return {}
    known: dict[str, dict[str, Any]] = {}
    end = 0
    with path.open("rb") as file:
        for line in file:
            entry = entry_of(line)
            if entry is None and not line.startswith(BEGINS[: len(line)]):
                raise something_else(path)
            if entry is not None:
                known[entry["key"]] = entry["result"]
            end += len(line) if line.endswith(b"\n") else 0
    if end < path.stat().st_size:
        os.truncate(path, end)
    return {key: result for key, result in known.items() if not passes(result)}


def passes(result: Mapping[str, Any]) -> bool:
    """Whether a result may be another one by now, though the file is the same."""
    return any(problem["code"] in PASSING for problem in result["problems"])


def check_regular(path: Path) -> None:
    """Raises FileError for a folder, a pipe, ..: neither may be appended to."""
    if path.exists() and not path.is_file():
        raise something_else(path)


def something_else(path: Path) -> FileError:
    """The refusal of a file that is not a scan's."""
    return FileError(
        f"Resuming a scan from {str(path)!r}: it holds something else than results of a scan. "
        "Try: another file, or remove it."
    )


def entry_of(line: bytes) -> dict[str, Any] | None:
    """A line of the results file, None if it is torn or something else."""
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and entry.get("schema") == SCHEMA else None
