"""`lorascope inspect`: what is in LoRA files, and what is wrong with them."""

from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lorascope.inspect.examine import Examined

__all__ = ["inspect"]


class FailOn(Enum):
    """The least severity that makes the command end with 1."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    NEVER = "never"


def inspect(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH", help="Weight files, adapter folders, folders of them, or patterns."
        ),
    ],
    headers: Annotated[
        bool,
        typer.Option(
            "--headers",
            help="Look at headers only: no values, no norms, hundreds of files a second.",
        ),
    ] = False,
    every_layer: Annotated[
        bool,
        typer.Option(
            "--layers",
            help="One line per layer instead of one per kind; whole reports of many files.",
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="PNG", help="Draw the strength per block of one file."),
    ] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle", help="Read .bin files too, with torch's weights_only reader."
        ),
    ] = False,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results",
            metavar="JSONL",
            help="Keep the results of many files there, and go on from it after a stop.",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            "--processes",
            min=1,
            help="How many at once.",
            show_default="one per core, one for few files",
        ),
    ] = None,
    fail_on: Annotated[
        FailOn,
        typer.Option("--fail-on", help="The least severity of a problem that ends with 1."),
    ] = FailOn.ERROR,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the report.")
    ] = False,
    as_sarif: Annotated[
        bool, typer.Option("--sarif", help="Print the problems as SARIF 2.1.0 for CI services.")
    ] = False,
) -> None:
    """Say what is in LoRA files: base, layers, ranks, scales, norms, strength per block, training, problems.

    One file has a report; many have a line each and a summary. A folder of adapter_config.json and its weights
    is one adapter; any other is looked through, but for what begins with a dot.

    Ends with 0, with 1 when a problem of --fail-on's severity or a worse one was found, with 2 when a file was
    refused.

    \b
    Examples:
      lorascope inspect my-adapter
      lorascope inspect --json my-adapter/adapter_model.safetensors
      lorascope inspect --results collection.jsonl collection
      lorascope inspect --headers --sarif 'collection/*.safetensors'
    """
    from lorascope.cli.output import check_picture
    from lorascope.cli.paths import adapters_in
    from lorascope.errors import DataError
    from lorascope.inspect.scan import How
    from lorascope.inspect.summary import Summary

    if plot is not None:
        check_picture(plot, makes_folder=True)
    adapters = adapters_in(paths)
    if plot is not None and len(adapters) > 1:
        raise DataError(f"Drawing to {plot}: found {len(adapters)} files, expected one.")
    if as_json and as_sarif:
        raise DataError("Printing the result: found --json and --sarif, expected one of them.")
    how = How(headers=headers, allow_pickle=allow_pickle)
    summary = Summary()
    whole = every_layer or len(adapters) == 1
    brief = results is not None or (not whole and not as_json)
    if brief:
        documents = many(adapters, how, processes, results, summary, quiet=as_json or as_sarif)
    else:
        shown = not (as_json or as_sarif)
        documents = one_by_one(adapters, how, plot, summary, every_layer if shown else None)
    conclude(documents, summary, as_json=as_json, as_sarif=as_sarif, tables=brief)
    if summary.refused:
        raise typer.Exit(2)
    if fails(summary, fail_on):
        raise typer.Exit(1)


def one_by_one(
    adapters: Sequence[Path], how: Any, plot: Path | None, summary: Any, every_layer: bool | None
) -> list[dict[str, Any]]:
    """Examine files in this process, each with its whole document; every_layer None prints no report."""
    from lorascope.cli.output import progress_bar
    from lorascope.inspect.examine import examine
    from lorascope.inspect.plot import plot_strength

    documents = []
    with progress_bar(show=len(adapters) > 1) as bar:
        for path in bar.track(adapters, description="inspecting"):
            result = examine(path, headers=how.headers, allow_pickle=how.allow_pickle)
            documents.append(result.to_json())
            summary.add(documents[-1])
            if every_layer is not None:
                show(result, every_layer=every_layer)
            if plot is not None and result.facts is not None:
                plot_strength(result.facts, plot)
    return documents


def many(
    adapters: Sequence[Path],
    how: Any,
    processes: int | None,
    results: Path | None,
    summary: Any,
    *,
    quiet: bool,
) -> list[dict[str, Any]]:
    """Examine files in many processes: a line each as it is done, and brief documents."""
    from lorascope.cli.output import console, progress_bar
    from lorascope.inspect.scan import scan
    from lorascope.inspect.summary import line

    out = console()
    documents = []
    with progress_bar() as bar:
        found: Iterator[dict[str, Any]] = scan(adapters, how, processes=processes, results=results)
        for document in bar.track(found, total=len(adapters), description="inspecting"):
            summary.add(document)
            if quiet:
                documents.append(document)
            else:
                out.print(line(document), soft_wrap=True)
    return documents


def show(result: "Examined", *, every_layer: bool) -> None:
    """Print the report of one file."""
    from lorascope.cli.output import console
    from lorascope.inspect.report import refusal_view, report_view

    out = console()
    if result.facts is None:
        out.print(refusal_view(result.path, result.problems))
    else:
        out.print(report_view(result.path, result.facts, result.problems, every_layer=every_layer))
    out.print()


def conclude(
    documents: list[dict[str, Any]], summary: Any, *, as_json: bool, as_sarif: bool, tables: bool
) -> None:
    """Print the one document of all files, or the summary of many."""
    from lorascope import __version__
    from lorascope.cli.output import console, print_json
    from lorascope.inspect.sarif import sarif

    if as_sarif:
        print_json(sarif(documents, __version__))
    elif as_json:
        print_json(
            {
                "schema": "lorascope.inspect/1",
                "summary": summary.to_json(),
                "files": documents,
            }
        )
    elif tables:
        out = console()
        for table in summary.tables():
            out.print()
            out.print(table)


def fails(summary: Any, fail_on: FailOn) -> bool:
    """Whether a problem is bad enough."""
    from lorascope.inspect.problem import Severity

    return fail_on is not FailOn.NEVER and summary.reaches(Severity(fail_on.value))
