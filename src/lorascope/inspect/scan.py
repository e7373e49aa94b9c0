"""Many files: examined by several processes, resumable, each result brief enough to keep 10,000 of them.

    paths --chunks--> processes --examine--> results of one shape, in the order of the paths

A brief result is the document of a file without its layers, blocks and side tensors. With a results file
(io/results.py) each is appended as it is made; a scan that was stopped examines only what is new, changed, or
was refused for a reason that may have passed. A process that dies (io/processes.py) costs the file that it was
at, which is reported as such.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lorascope.inspect.examine import Examined, examine
from lorascope.inspect.problem import Problem, Severity
from lorascope.inspect.report import span
from lorascope.io.processes import DIED, in_order, workers_for
from lorascope.io.results import Results, key_of, resumed

__all__ = ["How", "brief", "examine_many", "scan"]

CHUNK = 16  # files a task: enough to make handing over cheap, few enough to balance
ALONE = 24  # below this many files, starting processes that load torch costs more than it saves
ALONE_HEADERS = 400
SCHEMA = "lorascope.inspect.brief/1"
# codes of problems that tell of the machine and the moment, not of the file: it is looked at again
PASSING = frozenset({"unreadable", "not-found", "missing-extra", "process-died"})
DETAILS = frozenset({"layers", "blocks", "side", "ambiguities", "notes", "left"})

Shaped = TypeVar("Shaped")


@dataclass(frozen=True)
class How:
    """How files are examined: the same for all of a scan, and part of a result's key."""

    headers: bool = False
    allow_pickle: bool = False


def scan(
    paths: Sequence[Path], how: How, *, processes: int | None = None, results: Path | None = None
) -> Iterator[dict[str, Any]]:
    """The brief result of each path, in order, as soon as it and those before it are there.

    Args:
        how: what is looked at.
        processes: how many at once; as many as cores by default, one for few files.
        results: a JSON Lines file to resume from and to append to.

    Raises:
        FileError: the results file holds something else, or another run writes to it.

    Example:
        >>> list(scan([], How()))
        []
    """
    if results is None:
        return examine_many(paths, how, brief, processes=processes)
    keys = [key_of(path, how.headers, how.allow_pickle) for path in paths]

    def find(places: list[int]) -> Iterator[dict[str, Any]]:
        return examine_many([paths[place] for place in places], how, brief, processes=processes)

    return resumed(Results(results, SCHEMA, passes), keys, find)


def examine_many(
    paths: Sequence[Path],
    how: How,
    shape: Callable[[Examined], Shaped],
    *,
    processes: int | None = None,
) -> Iterator[Shaped]:
    """What `shape` (a function of a module, which processes can load) makes of each path, in order.

    Example:
        >>> list(examine_many([], How(), Examined.to_json))
        []
    """
    alone = ALONE_HEADERS if how.headers else ALONE
    processes = processes or workers_for(len(paths), chunk=CHUNK, alone=alone)
    if processes > 1:
        return in_order(
            partial(examine_chunk, how, shape),
            paths,
            chunk=CHUNK,
            processes=processes,
            died=lambda path: shape(died(path)),
        )
    return (result for path in paths for result in examine_chunk(how, shape, (path,)))


def examine_chunk(
    how: How, shape: Callable[[Examined], Shaped], paths: Sequence[Path]
) -> list[Shaped]:
    """Results of some files; runs in a process of the pool."""
    return [
        shape(examine(path, headers=how.headers, allow_pickle=how.allow_pickle)) for path in paths
    ]


def died(path: Path) -> Examined:
    """The result of a file whose process died."""
    return Examined(str(path), None, (Problem("process-died", Severity.ERROR, DIED),))


def passes(result: dict[str, Any]) -> bool:
    """Whether a brief result may be another one by now, though the file is the same."""
    return any(problem["code"] in PASSING for problem in result["problems"])


def brief(result: Examined) -> dict[str, Any]:
    """The document without what grows with the number of layers, and with what stands for it."""
    document = {name: value for name, value in result.to_json().items() if name not in DETAILS}
    for problem in document["problems"]:
        problem["layers"] = len(problem["layers"])
    if result.facts is not None:
        document["layers"] = len(result.facts.layers)
        document["rank"] = span([layer.rank for layer in result.facts.layers], "d")
    return document
