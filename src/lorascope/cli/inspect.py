"""`lorascope inspect`: what is in LoRA files, and what is wrong with them."""

import sys
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

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
    from lorascope import __version__
    from lorascope.cli.output import check_picture, print_json, progress_bar, stream_json
    from lorascope.cli.paths import adapters_in
    from lorascope.errors import DataError
    from lorascope.inspect.examine import Examined
    from lorascope.inspect.sarif import sarif
    from lorascope.inspect.scan import How, examine_many, scan
    from lorascope.inspect.summary import Summary

    if plot is not None:
        check_picture(plot, makes_folder=True)
        beside = [o for o, given in (("--headers", headers), ("--results", results)) if given]
        if beside:
            raise DataError(
                f"Drawing to {plot}: found {' and '.join(beside)} beside it, expected neither: the strength is "
                "drawn of one file's values."
            )
    adapters = adapters_in(paths)
    if plot is not None and len(adapters) > 1:
        raise DataError(f"Drawing to {plot}: found {len(adapters)} files, expected one.")
    if every_layer and results is not None:
        raise DataError(
            "Keeping results: found --layers beside --results, which keeps a line for each file. Try: --layers "
            "--json, whose document holds whole reports."
        )
    if as_json and as_sarif:
        raise DataError("Printing the result: found --json and --sarif, expected one of them.")
    how = How(headers=headers, allow_pickle=allow_pickle)
    summary = Summary()
    whole = every_layer or len(adapters) == 1
    brief = results is not None or (not whole and not as_json)
    quiet = as_json or as_sarif
    if brief:
        documents = scan(adapters, how, processes=processes, results=results)
    elif quiet and plot is None:
        documents = examine_many(adapters, how, Examined.to_json, processes=processes)
    else:
        found = examine_many(adapters, how, itself, processes=processes)
        documents = reports(found, plot, every_layer=every_layer, quiet=quiet)
    # a document that streams onto a terminal shows by itself how far it is
    bar = progress_bar(show=len(adapters) > 1 and not (as_json and sys.stdout.isatty()))
    counted = count(bar, documents, summary, len(adapters), lines=brief and not quiet)
    if as_json:
        stream_json(
            {"schema": "lorascope.inspect/1"},
            "files",
            counted,
            lambda: {"summary": summary.to_json()},
        )
    elif as_sarif:
        print_json(sarif(list(counted), __version__))
    else:
        for _ in counted:
            pass
        if brief:
            show_summary(summary)
    if summary.refused:
        raise typer.Exit(2)
    if fails(summary, fail_on):
        raise typer.Exit(1)


def itself(result: "Examined") -> "Examined":
    """The whole result, which a report is made of."""
    return result


def reports(
    found: Iterable["Examined"], plot: Path | None, *, every_layer: bool, quiet: bool
) -> Iterator[dict[str, Any]]:
    """The documents of whole results, each after its report, unless quiet, and its picture."""
    from lorascope.inspect.plot import plot_strength

    for result in found:
        if not quiet:
            show(result, every_layer=every_layer)
        if plot is not None and result.facts is not None:
            plot_strength(result.facts, plot)
        yield result.to_json()


def count(
    bar: "Progress",
    documents: Iterable[dict[str, Any]],
    summary: Any,
    total: int,
    *,
    lines: bool,
) -> Iterator[dict[str, Any]]:
    """The documents as they come, under a bar and into the summary, each with its line where asked."""
    from lorascope.cli.output import consoles
    from lorascope.inspect.summary import line

    with bar:
        out, _ = consoles(bar)
        for document in bar.track(documents, total=total, description="inspecting"):
            summary.add(document)
            if lines:
                out.print(line(document), soft_wrap=True)
            yield document


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


def show_summary(summary: Any) -> None:
    """Print the tables of many files."""
    from lorascope.cli.output import console

    out = console()
    for table in summary.tables():
        out.print()
        out.print(table)


def fails(summary: Any, fail_on: FailOn) -> bool:
    """Whether a problem is bad enough."""
    from lorascope.inspect.problem import Severity

    return fail_on is not FailOn.NEVER and summary.reaches(Severity(fail_on.value))
