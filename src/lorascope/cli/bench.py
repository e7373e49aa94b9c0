"""`lorascope bench ...`: suites of methods on zoos, single zoos, plans of what they cost, and reports."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lorascope.bench.record import Asked

__all__ = ["plan", "report", "run"]

Suite = Annotated[
    str | None,
    typer.Option("--suite", metavar="NAME", help="small, paper or full.", show_default="none"),
]
Zoos = Annotated[
    list[Path] | None,
    typer.Option(
        "--zoo",
        metavar="DIR",
        help="A zoo, or a folder of zoos. May be given many times.",
        show_default="the collection; small builds its own",
    ),
]
Folder = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the record is.")]
Hours = Annotated[
    float, typer.Option("--hours", min=0.0, help="Most hours of one core that a suite may take.")
]
BENCH = Path("bench")
BUDGET = 12.0  # schedule.BUDGET_HOURS, which only loading torch would tell


def run(
    zoos: Zoos = None,
    suite: Suite = None,
    out: Folder = BENCH,
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="T", help="Without a suite: what.", show_default="all"),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="M", help="Without a suite: which.", show_default="all"),
    ] = None,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Without a suite: how many splits and starts.")
    ] = 3,
    processes: Annotated[
        int,
        typer.Option("--processes", min=1, help="Runs at once, one thread each."),
    ] = 2,
    hours: Hours = BUDGET,
) -> None:
    """Train and score methods beside the controls; what was stopped goes on.

    With --suite: the benchmark, on the zoos of the collection, with its tuning and its axes. Without: every
    model on every target of one zoo.

    \b
    Examples:
      lorascope bench run --suite small --out my-bench
      lorascope bench run --zoo my-zoo --target accuracy --model gl_net --seeds 3 --out my-bench
    """
    if suite is None:
        _run_zoo(zoos or [], out, targets, models, seeds, processes)
    else:
        from lorascope.bench.record import load_runs
        from lorascope.bench.schedule import other_code, run_suite
        from lorascope.bench.stages import plan_text

        asked = _asked(suite, zoos, build=True)
        typer.echo(plan_text(asked, load_runs(out), hours))
        if said := other_code(asked, out):
            typer.echo(f"Warning: {said}", err=True)
        run_suite(asked, out, processes=processes, budget_hours=hours)
    report(out)


def plan(
    suite: Annotated[
        str, typer.Option("--suite", metavar="NAME", help="small, paper or full.")
    ] = "full",
    zoos: Zoos = None,
    out: Folder = BENCH,
    hours: Hours = BUDGET,
) -> None:
    """Print the runs of a suite, what is done, and the hours of one core that are expected; runs nothing.

    \b
    Example:
      lorascope bench plan --suite full
    """
    from lorascope.bench.record import load_runs
    from lorascope.bench.stages import plan_text

    asked = _asked(suite, zoos, build=False)
    typer.echo(plan_text(asked, load_runs(out), hours))


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder that `bench run` wrote.")
    ] = BENCH,
    page: Annotated[
        Path | None,
        typer.Option(
            "--page",
            metavar="FILE",
            help="Where the page of a suite goes, with pictures/ beside it.",
            show_default="FOLDER/benchmark.md",
        ),
    ] = None,
) -> None:
    """Write the tables and plots of a benchmark, as Markdown and PNG: same record, same bytes.

    \b
    Examples:
      lorascope bench report my-bench
      lorascope bench report my-bench --page docs/benchmark.md
    """
    from lorascope.bench.record import SUITE

    if (folder / SUITE).is_file():
        from lorascope.bench.page import write_page

        typer.echo(str(write_page(folder, page)))
        return
    from lorascope.bench.report import write_report
    from lorascope.cli.output import console

    console(markup=True).print(write_report(folder))


def _run_zoo(
    zoos: list[Path],
    out: Path,
    targets: list[str] | None,
    models: list[str] | None,
    seeds: int,
    processes: int,
) -> None:
    from lorascope.bench.run import run_bench
    from lorascope.errors import DataError

    if len(zoos) != 1:
        raise DataError(
            f"Running a benchmark without a suite: found {len(zoos)} zoos, expected one. Try: --zoo DIR, or "
            "--suite small, which builds its own."
        )
    run_bench(zoos[0], out, targets=targets, models=models, seeds=seeds, processes=processes)


def _asked(name: str, zoos: list[Path] | None, *, build: bool) -> "Asked":
    """A suite on the zoos that were named, the collection, or those that it builds itself."""
    from lorascope.bench.suites import suite_of
    from lorascope.bench.zoos import ask, build_zoos, find_zoos, planned, usual_place

    suite = suite_of(name)
    if zoos:
        return ask(suite, find_zoos(zoos))
    if not suite.shares:
        return ask(suite, find_zoos([usual_place()]))
    if build:
        return ask(suite, build_zoos(suite, note=lambda line: typer.echo(line, err=True)))
    return planned(suite)
