"""`lorascope bench trust`: what predictors know about themselves, measured on zoos and written as a page."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["trust"]


def trust(
    zoos: Annotated[
        list[Path] | None,
        typer.Option(
            "--zoo",
            metavar="DIR",
            help="A zoo, or a folder of zoos. May be given many times.",
            show_default="the collection",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where the records are, one a zoo.")
    ] = Path("bench-trust"),
    page: Annotated[
        Path | None,
        typer.Option(
            "--page",
            metavar="FILE",
            help="Where the page goes, with pictures/ beside it.",
            show_default="FOLDER/trust.md",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many fits of the model.")] = 1,
    splits: Annotated[
        int, typer.Option("--splits", min=1, help="How many splits outliers are examined on.")
    ] = 3,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all records as one JSON document.")
    ] = False,
) -> None:
    """Measure calibration, intervals, outliers and what abstention buys; what was stopped goes on.

    The default model learns all targets of faces, objects, exam-qwen and exam-llama, and is asked about its
    test LoRAs, altered and merged ones, and other zoos. Adapters by LoKr, LoHa and full finetuning are made
    for it on the bases of the exams, once (they lie beside the records, and need peft: lorascope[zoo]). A zoo
    that is in the records is not measured again.

    \b
    Examples:
      lorascope bench trust --out my-trust --page docs/trust.md
      lorascope bench trust --zoo my-zoo --seeds 3 --splits 5 --json
    """
    from lorascope.bench.trust_exam import TRUST, examine
    from lorascope.bench.trust_page import write_page
    from lorascope.bench.zoos import ask, find_zoos, usual_place

    asked = ask(TRUST, find_zoos(zoos or [usual_place()]))
    records = examine(asked, out, seeds, lambda line: typer.echo(line, err=True), splits=splits)
    written = write_page(records, page if page is not None else out / "trust.md")
    if as_json:
        from lorascope.cli.output import print_json

        print_json({"schema": "lorascope.trust/2", "page": str(written), "zoos": records})
    else:
        typer.echo(str(written))
