"""`lorascope bench ...`: targets x models x seeds on a zoo, and the table of the results."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["report", "run"]


def run(
    zoo: Annotated[Path, typer.Option("--zoo", metavar="DIR", help="Folder of the zoo.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where results.jsonl goes.")
    ] = Path("bench"),
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", metavar="T", help="May be given many times.", show_default="all"),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="M", help="May be given many times.", show_default="all"),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many splits and starts.")] = 3,
    processes: Annotated[
        int,
        typer.Option("--processes", min=1, help="Runs at once, one thread each."),
    ] = 2,
) -> None:
    """Train and score every model on every target, beside the controls; a run that was stopped goes on.

    \b
    Example:
      lorascope bench run --zoo my-zoo --target accuracy --model gl_net --seeds 3 --out my-bench
    """
    from lorascope.bench.run import run_bench

    run_bench(zoo, out, targets=targets, models=models, seeds=seeds, processes=processes)
    report(out)


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder that `bench run` wrote.")
    ] = Path("bench"),
) -> None:
    """Print the table of a benchmark and write it as Markdown and PNG beside its results.

    \b
    Example:
      lorascope bench report my-bench
    """
    from lorascope.bench.report import write_report
    from lorascope.cli.output import console

    console(markup=True).print(write_report(folder))
