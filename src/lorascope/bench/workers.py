"""Runs of a benchmark in worker processes of one thread each: results as they end, and a bar over them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, TypeVar

import torch

from lorascope.errors import TrainingError

__all__ = ["as_they_end", "one_thread", "run_bar"]

Task = TypeVar("Task")
Result = TypeVar("Result")


def one_thread() -> None:
    """Keep this process to one thread: the processes share the cores."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch.set_num_threads(1)
    threadpool_limits(1)


def as_they_end(
    work: Callable[[Task], Result],
    tasks: Sequence[Task],
    processes: int,
    *,
    doing: str,
    prepare: Callable[..., None] = one_thread,
    given: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """The result of each task, in the order in which they end.

    Args:
        work: picklable, done by worker processes.
        doing: what is going on, for the message.
        prepare: picklable, called once in each process with what is `given`.

    Raises:
        TrainingError: a process ended before its time.
    """
    # Spawned, not forked: a fork beside torch's threads may hang.
    pool = ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=prepare, initargs=given
    )
    try:
        for future in as_completed([pool.submit(work, task) for task in tasks]):
            yield future.result()
    except BrokenProcessPool as error:
        raise TrainingError(
            f"{doing}: a worker process ended before its time (killed, out of memory, or the calling script "
            "is not a file with an `if __name__ == '__main__'` guard). What had ended is recorded. Try: the "
            "same again, with fewer processes or with one."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def run_bar(
    title: str, total: int, done: int, said: Callable[[Result], str], *, show: bool
) -> Iterator[Callable[[Result], None]]:
    """A bar over runs on stderr; what it gives is to be called with each that has ended.

    Args:
        said: what stands behind the bar of the last run.
    """
    if not show:
        yield lambda result: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    last = TextColumn("{task.fields[last]}")
    with Progress(*columns, TimeRemainingColumn(), last, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=done, last="")

        def advance(result: Result) -> None:
            bar.update(task, advance=1, last=said(result))

        yield advance
