"""`Results`: what was found of each of many files, one JSON line each, by which a run that was stopped goes on.

    {"schema": SCHEMA, "key": KEY, "result": {...}}
    key = path, size and time of change of the weights and of the configuration beside them, how, version

A result stands for its key: it is used again as long as nothing of that has changed, except where it says that
it may pass (a disk's error, a permission). Only where a line stands is kept in memory. One run at a time writes
to a file; where the system has no flock, nothing keeps a second one away.
"""

import contextlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from lorascope.errors import FileError
from lorascope.io.locate import CONFIG_NAME

if sys.platform != "win32":
    import fcntl

__all__ = ["Results", "key_of", "resumed", "without_nan"]

Result = dict[str, Any]


class Results:
    """A results file to go on from and to append to, for this run alone; made if it is not there.

    Args:
        schema: what stands in every line.
        passes: whether a result may be another one by now, though the file is the same; it is found again.

    Raises:
        FileError: it is no regular file, holds anything but lines of this schema, or is in use by another run;
            it is left as it is.

    Example:
        >>> with Results(Path("found.jsonl"), "example/1") as results:  # doctest: +SKIP
        ...     results.add(key_of(Path("a.safetensors")), {"rank": 4})
    """

    def __init__(
        self, path: Path, schema: str, passes: Callable[[Result], bool] | None = None
    ) -> None:
        self.path = path
        self.schema = schema
        self.passes = passes or (lambda result: False)
        self.reused = 0  # results that were asked for and there
        if path.exists() and not path.is_file():
            raise self._something_else()
        self.file: IO[bytes] = path.open("a+b")
        try:
            hold(self.file, path)
            self.places = self._places()
        except BaseException:
            self.file.close()
            raise

    def __enter__(self) -> "Results":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, key: str) -> Result:
        """The result of a key, read from its line."""
        self.file.seek(self.places[key])
        entry = self._entry(self.file.readline())
        if entry is None:
            raise FileError(
                f"Resuming from {str(self.path)!r}: the line at byte {self.places[key]} changed while it "
                "was in use, expected that nothing else writes there. Try: the same command again."
            )
        self.reused += 1
        return dict(entry["result"])

    def add(self, key: str, result: Mapping[str, Any]) -> None:
        """Append one result and hand it to the system, so that a kill loses at most the line in the making."""
        entry = {"schema": self.schema, "key": key, "result": without_nan(result)}
        self.places[key] = self.file.seek(0, os.SEEK_END)
        self.file.write(json.dumps(entry, ensure_ascii=True, allow_nan=False).encode() + b"\n")
        self.file.flush()

    def _places(self) -> dict[str, int]:
        """Where the line of each key begins.

        A line that was torn by a kill is passed over; a torn end is cut off, so that the next begins anew.
        """
        begins = json.dumps({"schema": self.schema})[:-1].encode()  # every line
        places: dict[str, int] = {}
        end = 0
        self.file.seek(0)
        for line in self.file:
            entry = self._entry(line)
            if entry is None and not line.startswith(begins[: len(line)]):
                raise self._something_else()
            if entry is not None and self.passes(entry["result"]):
                places.pop(entry["key"], None)
            elif entry is not None:
                places[entry["key"]] = end
            end += len(line) if line.endswith(b"\n") else 0
        if end < self.path.stat().st_size:
            self.file.truncate(end)
        return places

    def _entry(self, line: bytes) -> dict[str, Any] | None:
        """A line, None if it is torn or something else."""
        try:
            entry = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            return None
        return entry if isinstance(entry, dict) and entry.get("schema") == self.schema else None

    def _something_else(self) -> FileError:
        """The refusal of a file that is not this command's."""
        return FileError(
            f"Resuming from {str(self.path)!r}: it holds something else than results of this command "
            f"(expected lines of {self.schema}). Try: another file, or remove it."
        )


def hold(file: IO[bytes], path: Path) -> None:
    """Keep other runs away until the file is closed. Raises FileError if one of them has it."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FileError(
            f"Keeping results in {str(path)!r}: another run is writing to it, expected to be the only one. "
            "Try: wait until that one has ended, or name another file."
        ) from error
    except OSError:
        pass  # some network disks know no locks; runs go on there as ever


def resumed(
    results: Results | None,
    keys: Sequence[str],
    find: Callable[[list[int]], Iterator[Result]],
) -> Iterator[Result]:
    """The result of each key in order: from the file where it is there, else found and appended.

    Args:
        results: closed at the end.
        find: the results of what stands at some places, in order and as they come.
    """
    if results is None:
        yield from find(list(range(len(keys))))
        return
    with results:
        todo = [place for place, key in enumerate(keys) if key not in results]
        unknown, fresh = set(todo), find(todo)
        for place, key in enumerate(keys):
            if place not in unknown:
                yield results[key]
                continue
            result = next(fresh)
            results.add(key, result)
            yield result


def key_of(path: Path, *how: object) -> str:
    """What a result stands for: path, files with size and time of change, how they were looked at, by whom."""
    entries = [path]
    with contextlib.suppress(OSError):  # it is refused when it is read
        # a folder's listing holds its configuration
        entries += sorted(path.iterdir()) if path.is_dir() else [path.parent / CONFIG_NAME]
    stamps = [(entry.name, *stamp) for entry in entries if (stamp := stamp_of(entry)) is not None]
    return json.dumps([str(path), stamps, *how, installed()], ensure_ascii=True)


@cache
def installed() -> str:
    """The version of lorascope that looks."""
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


def without_nan(data: Any) -> Any:
    """The data with None for every number that is not finite, which JSON cannot say."""
    if isinstance(data, Mapping):
        return {key: without_nan(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [without_nan(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
