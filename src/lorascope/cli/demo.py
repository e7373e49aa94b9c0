"""`lorascope demo`: the whole road in minutes."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    count: Annotated[
        int, typer.Option("--count", min=64, help="How many LoRAs to finetune.")
    ] = 512,
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where table.md and results.png go.")
    ] = Path("demo"),
    quick: Annotated[
        bool,
        typer.Option("--quick", help="One seed and fewer models: a minute instead of several."),
    ] = False,
) -> None:
    """Finetune hundreds of LoRAs, learn on them, print the table, and predict one beside its true evaluation.

    \b
    Example:
      lorascope demo --out demo
    """
    from lorascope.bench.demo import run_demo

    run_demo(count=count, out=out, quick=quick)
