"""Run a suite: its stages one after another, the jobs of each in worker processes of one thread.

The parent records each run as it ends, so a suite that was stopped goes on where it was. No job starts once the
record holds as many hours of processor time as the budget.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lorascope.bench.jobs import Job, Run, run_job
from lorascope.bench.record import Asked, append_run, load_runs
from lorascope.bench.stages import STAGES, asked_runs, jobs_of
from lorascope.bench.terms import source_digest
from lorascope.bench.workers import as_they_end, run_bar
from lorascope.errors import DataError
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
        shown = progress and bool(jobs)
        with run_bar(f"{stage:<5}", len(jobs), len(jobs) - len(left), _told, show=shown) as advance:
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
    yield from as_they_end(partial(_work, given), jobs, processes, doing="Running a suite")


def _work(given: tuple[Any, ...], job: Job) -> Run:
    return run_job(job, *given)


def _told(run: Run) -> str:
    return f"{run.method} on {run.zoo}, {run.all_seconds:.0f} s"
