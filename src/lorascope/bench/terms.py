"""What the code said when a suite was asked: it names runs and decides which there are.

    version     of lorascope
    protocol    of the benchmark: what methods are given, how they are scored, which rows are tested
    revisions   of each method
    trials      of each method

They stand in the record beside the suite, so that a report by another lorascope finds the same runs. The digest
of the source stands in each run: it names nothing, but says by which code a run was made.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lorascope.bench.methods import METHODS
from lorascope.predict.versions import versions

__all__ = ["PROTOCOL", "Terms", "source_digest", "terms_of"]

#: Raise it when what methods are given, or how answers are scored, changes: all runs are made again.
PROTOCOL = 2


@dataclass(frozen=True)
class Terms:
    """The terms of a suite; see the head of the file."""

    version: str
    protocol: int
    revisions: Mapping[str, int]
    trials: Mapping[str, tuple[Mapping[str, Any], ...]]

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Terms":
        """Terms from plain data: lists are tuples again."""
        trials = {name: tuple(found) for name, found in data["trials"].items()}
        return cls(data["version"], data["protocol"], dict(data["revisions"]), trials)


def terms_of(methods: Iterable[str]) -> Terms:
    """The terms of this code for some methods.

    >>> terms_of(["majority"]).trials
    {'majority': ({},)}
    """
    rows = {name: METHODS[name] for name in methods}
    return Terms(
        versions()["lorascope"],
        PROTOCOL,
        {name: row.revision for name, row in rows.items()},
        {name: row.trials for name, row in rows.items()},
    )


@lru_cache(maxsize=1)
def source_digest() -> str:
    """The first letters of the sha256 over all Python and C files of this lorascope, made once a process.

    >>> len(source_digest())
    12
    """
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    kinds = ("*.py", "*.c", "*.h")
    for path in sorted(path for kind in kinds for path in package.rglob(kind)):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
