"""`lorascope inspect`: what is in LoRA files, and what is wrong with them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lorascope.inspect import Facts, Problem

__all__ = ["inspect"]


def inspect(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH", help="Weight files, adapter folders, folders of them, or patterns."
        ),
    ],
    every_layer: Annotated[
        bool, typer.Option("--layers", help="One line per layer instead of one per kind of layer.")
    ] = False,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle", help="Read .bin files too, with torch's weights_only reader."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of the report.")
    ] = False,
) -> None:
    """Say what is in LoRA files: layers, ranks, scales, norms, effective ranks, strength per block, problems.

    Ends with 0, with 1 when a problem of severity error was found, with 2 when a file was refused.

    \b
    Examples:
      lorascope inspect my-adapter
      lorascope inspect --json my-adapter/adapter_model.safetensors
      lorascope inspect 'collection/*.safetensors'
    """
    from lorascope.cli.output import console, describe, print_json
    from lorascope.cli.paths import adapters_in
    from lorascope.errors import LorascopeError

    adapters = adapters_in(paths)
    documents: list[dict[str, Any]] = []
    broken = refused = 0
    for place, path in enumerate(adapters):
        try:
            facts, problems = examine(path, allow_pickle=allow_pickle)
        except (LorascopeError, OSError) as error:
            if len(adapters) == 1:
                raise
            refused += 1
            documents.append({"path": str(path), "error": describe(error)})
            console(stderr=True).print(f"{place + 1}/{len(adapters)} refused: {describe(error)}")
            continue
        broken += any(problem.severity.value == "error" for problem in problems)
        show(path, facts, problems, documents, every_layer=every_layer, as_json=as_json)
    if as_json:
        print_json({"schema": "lorascope.inspect/1", "files": documents})
    if refused or broken:
        raise typer.Exit(2 if refused else 1)


def examine(path: Path, *, allow_pickle: bool) -> "tuple[Facts, tuple[Problem, ...]]":
    """Read one adapter and judge it."""
    from lorascope.inspect import facts_of, problems_of
    from lorascope.io import read_lora

    facts = facts_of(read_lora(path, allow_pickle=allow_pickle))
    return facts, problems_of(facts)


def show(
    path: Path,
    facts: "Facts",
    problems: "tuple[Problem, ...]",
    documents: list[dict[str, Any]],
    *,
    every_layer: bool,
    as_json: bool,
) -> None:
    """Print the report of one adapter, or keep its JSON for the document of all."""
    from lorascope.cli.output import console
    from lorascope.inspect import report_json, report_view

    if as_json:
        documents.append(report_json(path, facts, problems))
        return
    out = console()
    out.print(report_view(path, facts, problems, every_layer=every_layer))
    out.print()
