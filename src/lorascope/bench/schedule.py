"""Run a suite: its stages one after another, the jobs of each in worker processes of one thread.

The parent records each run as it ends, so a suite that was stopped goes on where it was. No job starts once the
record holds as many hours of processor time as the budget.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import torch

from lorascope.bench.jobs import Job, Run, run_job
from lorascope.bench.record import Asked, append_run, load_runs
from lorascope.bench.stages import STAGES, asked_runs, jobs_of
from lorascope.bench.terms import source_digest
from lorascope.errors import DataError, TrainingError
from lorascope.io.processes import cores

__all__ = ["BUDGET_HOURS", "other_code", "run_suite"]

BUDGET_HOURS = 12.0


def run_suite(
    asked: Asked,
    out: Path | str,
    *,
    processes: int | None = None,
    budget_hours: float = BUDGET_HOURS,
    progress: bool = True,
) -> list[Run]:
    """Make all runs of a suite that the folder does not hold yet; returns those of the suite.

    `processes=1` runs in this process. An error of a single run is recorded with the run. Raises DataError
    when the budget is spent before the end.
    """
    out = Path(out)
    asked.save(out)
    for stage in STAGES:
        runs = asked_runs(asked, load_runs(out))
        made = {run.key for run in runs if run.error is None}
        jobs = jobs_of(asked, stage, runs)
        left = [job for job in jobs if asked.key(job) not in made]
        hours = budget_hours - sum(run.all_seconds for run in runs) / 3600
        with _bar(progress, stage, len(jobs), len(jobs) - len(left)) as advance:
            for run in _within(hours, _run_all(asked, left, processes)):
                append_run(out, run)
                advance(run)
    return asked_runs(asked, load_runs(out))


def other_code(asked: Asked, out: Path | str) -> str:
    """What to say of a record that other code than this began, empty where none did."""
    runs = asked_runs(asked, load_runs(Path(out)))
    others = [run for run in runs if run.code != source_digest()]
    if not others:
        return ""
    return (
        f"Going on with {out}: {len(others)} of its {len(runs)} runs were made by other source than this one's "
        f"({source_digest()}), and are kept. Who changed what a method answers raises its revision in "
        "bench/methods.py; who changed what all are given or scored by, PROTOCOL in bench/terms.py."
    )


def _within(hours: float, runs: Iterator[Run]) -> Iterator[Run]:
    """The runs until their time together is above the hours."""
    spent = 0.0
    for run in runs:
        yield run
        spent += run.all_seconds / 3600
        if spent > hours:
            raise DataError(
                "Running a suite: its budget of processor time is spent, what had ended is recorded. Try: "
                "the same command with more --hours, which goes on."
            )


def _run_all(asked: Asked, jobs: Sequence[Job], processes: int | None) -> Iterator[Run]:
    """The runs as they end."""
    processes = min(processes or len(cores()), len(jobs))
    given = asked.folders, asked.digests, asked.terms
    if processes <= 1:
        yield from (run_job(job, *given) for job in jobs)
        return
    # Spawned, not forked: a fork beside torch's threads may hang.
    pool = ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_one_thread, initargs=()
    )
    try:
        futures = [pool.submit(run_job, job, *given) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise TrainingError(
            "Running a suite: a worker process ended before its time (killed, or out of memory). What had "
            "ended is recorded. Try: the same command again, or fewer --processes."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    """Keep to one thread: the processes share the cores."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch.set_num_threads(1)
    threadpool_limits(1)


@contextmanager
def _bar(show: bool, stage: str, total: int, done: int) -> Iterator[Callable[[Run], None]]:
    """A progress bar over the runs of a stage, on stderr."""
    if not show or not total:
        yield lambda run: None
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
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[last]}"), console=console
    ) as bar:
        task = bar.add_task(f"{stage:<5}", total=total, completed=done, last="")

        def advance(run: Run) -> None:
            last = f"{run.method} on {run.zoo}, {run.all_seconds:.0f} s"
            bar.update(task, advance=1, last=last)

        yield advance
