"""`lorascope demo`: the whole road in minutes."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    count: Annotated[
        int | None,
        typer.Option(
            "--count", min=64, help="How many LoRAs to finetune.", show_default="512, quick 128"
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where table.md and results.png go.")
    ] = Path("demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="Five models and one seed: about a minute.")
    ] = False,
) -> None:
    """Finetune hundreds of LoRAs, learn on them, print the table, and predict one beside its true evaluation.

    The LoRAs stay under $LORASCOPE_HOME; a demo that was stopped goes on where it was.

    \b
    Example:
      lorascope demo --out demo
    """
    from lorascope.bench.demo import demo_plan, run_demo
    from lorascope.cli.output import console

    run_demo(demo_plan(count, quick=quick), out, console=console(markup=True))
