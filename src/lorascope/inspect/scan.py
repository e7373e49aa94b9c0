"""Many files: examined by several processes, resumable, each result brief enough to keep 10,000 of them.

    paths --chunks--> processes --examine--> brief results, in the order of the paths

A brief result is the document of a file without its layers, blocks and side tensors. With a results file
(results.py) each is appended as it is made; a scan that was stopped reads it first and examines only what is
new, changed, or was refused for a reason that may have passed. A process that dies (out of memory, a fault in a
library) costs the file that it was at, which is reported as such, and nothing else.
"""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorascope.inspect.examine import Examined, examine
from lorascope.inspect.problem import Problem, Severity
from lorascope.inspect.report import span
from lorascope.inspect.results import key_of, open_results

__all__ = ["How", "brief", "scan"]

CHUNK = 16  # files a task: enough to make handing over cheap, few enough to balance
ALONE = 24  # below this many files, starting processes that load torch costs more than it saves
ALONE_HEADERS = 400
DETAILS = frozenset({"layers", "blocks", "side", "ambiguities", "notes", "left"})


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
        FileError: the results file holds something else, or another scan writes to it.

    Example:
        >>> list(scan([], How()))
        []
    """
    with open_results(results) if results else nullcontext() as kept:
        known = kept.known if kept else {}
        keys = [key_of(path, how.headers, how.allow_pickle) for path in paths]
        todo = [path for path, key in zip(paths, keys, strict=True) if key not in known]
        fresh = examined(todo, how, processes or workers_for(len(todo), how))
        for key in keys:
            if key in known:
                yield known[key]
                continue
            result = next(fresh)
            if kept is not None:
                kept.keep(key, result)
            yield result


def brief(result: Examined) -> dict[str, Any]:
    """The document without what grows with the number of layers, and with what stands for it."""
    document = {name: value for name, value in result.to_json().items() if name not in DETAILS}
    for problem in document["problems"]:
        problem["layers"] = len(problem["layers"])
    if result.facts is not None:
        document["layers"] = len(result.facts.layers)
        document["rank"] = span([layer.rank for layer in result.facts.layers], "d")
    return document


def workers_for(count: int, how: How) -> int:
    """One process for few files, else one a core."""
    alone = ALONE_HEADERS if how.headers else ALONE
    return 1 if count < alone else min(os.cpu_count() or 1, -(-count // CHUNK))


def examined(paths: Sequence[Path], how: How, processes: int) -> Iterator[dict[str, Any]]:
    """Brief results in the order of the paths."""
    if processes == 1:
        for path in paths:
            yield brief(examine(path, headers=how.headers, allow_pickle=how.allow_pickle))
        return
    chunks = [tuple(paths[start : start + CHUNK]) for start in range(0, len(paths), CHUNK)]
    done = 0
    while done < len(chunks):
        with pool(processes) as executor:
            waiting = [executor.submit(examine_chunk, chunk, how) for chunk in chunks[done:]]
            try:
                for future in waiting:
                    yield from future.result()
                    done += 1
            except BrokenProcessPool:
                pass
            finally:
                cancel(waiting)
        if done < len(chunks):
            yield from one_by_one(chunks[done], how)
            done += 1


def one_by_one(paths: Sequence[Path], how: How) -> Iterator[dict[str, Any]]:
    """Each file in a process of its own: one of them is the end of its process."""
    for path in paths:
        with pool(1) as executor:
            try:
                yield from executor.submit(examine_chunk, (path,), how).result()
            except BrokenProcessPool:
                yield brief(Examined(str(path), None, (DIED,)))


DIED = Problem(
    "process-died",
    Severity.ERROR,
    "The process that read it died, out of memory or by a fault in a library. Try: it alone.",
)


def examine_chunk(paths: Sequence[Path], how: How) -> list[dict[str, Any]]:
    """Brief results of some files; runs in a process of the pool."""
    return [
        brief(examine(path, headers=how.headers, allow_pickle=how.allow_pickle)) for path in paths
    ]


def pool(processes: int) -> ProcessPoolExecutor:
    """Fresh processes of one thread each, which inherit no state."""
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), one_thread)


def one_thread() -> None:
    """Keep the processes from fighting over the cores; set before torch is loaded."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"


def cancel(futures: Sequence[Future[Any]]) -> None:
    """Drop what has not begun, so that a scan that is stopped ends at once."""
    for future in futures:
        future.cancel()
