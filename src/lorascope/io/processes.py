"""Work on many items by several processes: results in the order of the items, and a process may die.

    items --chunks--> processes --work--> results, as soon as they and those before them are there

Only a few chunks are handed out ahead, so that memory does not grow with the number of items. A process that
dies (out of memory, a fault in a library) costs the item that it was at, and nothing else. Errors that the work
raises pass through.
"""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

__all__ = ["DIED", "cores", "end_with_parent", "in_order", "workers_for"]

#: Chunks a process that are handed out: one that takes long does not stop the others at once.
AHEAD = 3
DIED = "The process that read it died, out of memory or by a fault in a library. Try: it alone."

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> list[int]:
    """The cores that this process may use: a container or a batch system may have cut them down."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def workers_for(count: int, *, chunk: int, alone: int) -> int:
    """How many processes so many items are worth: one a core, none without a chunk of its own.

    Args:
        alone: below so many items one process does all.
    """
    return 1 if count < alone else min(len(cores()), -(-count // chunk))


def in_order(
    work: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    *,
    chunk: int,
    processes: int,
    died: Callable[[Item], Result],
) -> Iterator[Result]:
    """One result for each item, in order.

    Args:
        work: the results of some items; it is pickled, and torch is loaded after its threads are set to one.
        chunk: items that are handed over at once.
        processes: how many processes work.
        died: the result of an item whose process died.
    """
    chunks = [tuple(items[start : start + chunk]) for start in range(0, len(items), chunk)]
    done = 0
    while done < len(chunks):
        waiting: deque[Future[list[Result]]] = deque()
        with pool(min(processes, len(chunks) - done)) as executor:
            try:
                for place in range(done, len(chunks)):
                    waiting.append(executor.submit(work, chunks[place]))
                    if len(waiting) >= AHEAD * processes:
                        yield from waiting.popleft().result()
                        done += 1
                while waiting:
                    yield from waiting.popleft().result()
                    done += 1
            except BrokenProcessPool:
                pass
            finally:
                cancel(waiting)
        if done < len(chunks):
            yield from one_by_one(work, chunks[done], died)
            done += 1


def one_by_one(
    work: Callable[[Sequence[Item]], list[Result]],
    items: Sequence[Item],
    died: Callable[[Item], Result],
) -> Iterator[Result]:
    """One item at a time, so that it is known at which a process died."""
    left = deque(items)
    while left:
        with pool(1) as executor:
            try:
                while left:
                    yield from executor.submit(work, (left[0],)).result()
                    left.popleft()
            except BrokenProcessPool:
                yield died(left.popleft())


def pool(processes: int) -> ProcessPoolExecutor:
    """Fresh processes of one thread each, which inherit no state and end with this one."""
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), begin)


def begin() -> None:
    """What a process does first: it keeps from fighting over the cores, and watches its parent."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # before torch is loaded
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """End when the parent does: a pool whose parent was killed waits for work for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        wait([parent.sentinel])
        os._exit(1)


def cancel(futures: Sequence[Future[Result]]) -> None:
    """Drop what has not begun, so that a run that is stopped ends at once."""
    for future in futures:
        future.cancel()
