"""Worker processes, one pinned to each core with one thread: they fail, die and stop cleanly.

A process per core with one thread each uses two cores better than one process with two threads:
the kernels are too small to share. A worker that dies (killed, out of memory) is replaced and its
task tried once more; a worker whose parent dies ends itself.
"""

import contextlib
import ctypes
import gc
import multiprocessing as mp
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from lorascope.io.processes import cores, end_with_parent

__all__ = ["Failure", "run_tasks"]

Work = Callable[[Any], Any]
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


@dataclass(frozen=True)
class Failure:
    """Why a task has no result."""

    message: str


def run_tasks(
    tasks: Iterable[Any], start: Callable[[], Work], processes: int
) -> Generator[tuple[Any, Any], None, None]:
    """Do tasks in worker processes; yields (task, result or `Failure`) as they end.

    Args:
        tasks: picklable; taken one by one as workers become free.
        start: picklable; called once in each worker, gives the function that does a task.
        processes: 0 does everything in this process, with the threads that it has.
    """
    if processes == 0:
        work = start()
        for task in tasks:
            yield task, _attempt(work, task)
        return
    workers = [Worker(start, core) for core in range(processes)]
    try:
        yield from _share(iter(tasks), workers)
    finally:
        for worker in workers:
            worker.stop()


def _attempt(work: Work, task: Any) -> Any:
    try:
        return work(task)
    except Exception:
        return Failure(traceback.format_exc())


def _share(tasks: Iterator[Any], workers: list["Worker"]) -> Iterator[tuple[Any, Any]]:
    for worker in workers:
        worker.give(next(tasks, None))
    while busy := [worker for worker in workers if worker.task is not None]:
        ready = wait([handle for worker in busy for handle in (worker.pipe, worker.sentinel)])
        for worker in busy:
            if worker.pipe not in ready and worker.sentinel not in ready:
                continue
            task, result = worker.task, worker.take()
            if result is None:
                continue
            worker.give(next(tasks, None))
            yield task, result


class Worker:
    """One process with a pipe; restarts itself once for a task that killed it."""

    def __init__(self, start: Callable[[], Work], core: int):
        self.start, self.core = start, core
        self.task: Any = None
        self.tries = 0
        self._spawn()

    def _spawn(self) -> None:
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=_serve, args=(theirs, self.start, self.core), daemon=True
        )
        self.process.start()
        theirs.close()

    @property
    def sentinel(self) -> int:
        """What becomes ready when the process ends."""
        return self.process.sentinel

    def give(self, task: Any) -> None:
        """Hand over the next task; None leaves the worker idle."""
        self.task, self.tries = task, 1
        if task is not None:
            self._send()

    def _send(self) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(self.task)  # if it has died, `take` sees that

    def take(self) -> Any:
        """The result of the task; None if the process died and the task is tried once more."""
        try:
            return self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
        self.pipe.close()
        self._spawn()
        if self.tries < 2:
            self.tries += 1
            self._send()
            return None
        return Failure(f"the worker process died twice on this task (exit code {code})")

    def stop(self) -> None:
        """End the process: an idle one by itself, which gives back its semaphores; a busy one at once."""
        self.pipe.close()
        if self.task is None:
            self.process.join(5)
        self.process.terminate()
        self.process.join()


def _serve(pipe: Connection, start: Callable[[], Work], core: int) -> None:
    """The life of a worker: pin, prepare, then task after task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    threading.Thread(target=end_with_parent, daemon=True).start()
    _pin(core)
    _keep_memory()
    work: Work | None = None
    try:
        work = start()
    except Exception:
        broken = Failure(traceback.format_exc())
    gc.collect()
    gc.freeze()  # what was loaded stays: to look through it again and again took 6 % of a training
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(broken if work is None else _attempt(work, task))


def _keep_memory() -> None:
    """What was freed stays with the process: asking the system for fresh pages took 2 % of a training."""
    with contextlib.suppress(AttributeError, OSError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _pin(core: int) -> None:
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        known = cores()
        os.sched_setaffinity(0, {known[core % len(known)]})
